import { copyFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect } from "vitest";
import { type Trial, tryProgram } from "./copying.ts";
import { shownBy } from "./programs/opencode.ts";
import type { Scene } from "./scenes.ts";
import { openTarget } from "./ways.ts";

const example = fileURLToPath(new URL("../../examples/demo/opencode.json", import.meta.url));

/** The model that is in the package, and no other. */
const demo: Scene = {
  model: "demo",
  env: { OLLAMA_HOST: "http://127.0.0.1:9" },
  asked: () => [],
  close: () => Promise.resolve(),
};

describe("the bundled demo model with a coding agent", () => {
  const attempt = async (trial: Trial): Promise<void> => {
    const { task } = trial;
    copyFileSync(example, path.join(task.repository, "opencode.json"));
    writeFileSync(path.join(task.repository, "notes.txt"), "The meeting is on Friday.\n");
    const target = await openTarget(demo, task);
    trial.after(() => target.close());
    const provider = { local: { options: { baseURL: `${target.url}/v1` } } };

    const run = await trial.run(
      {
        args: ["run", "--format", "json", "--agent", "demo", "Read notes.txt"],
        env: {
          OPENCODE_DISABLE_MODELS_FETCH: "1",
          OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
          OPENCODE_CONFIG_CONTENT: JSON.stringify({ provider }),
          LOCAL_API_KEY: target.key,
        },
      },
      target,
    );

    const { tools, texts, complaints } = shownBy(run);
    expect(complaints).toEqual([]);
    expect(run.code).toBe(0);
    expect(tools).toMatchObject([{ name: "read", status: "completed", input: { filePath: "notes.txt" } }]);
    // Where the file's words end it misses at times: it is a model of 7 million parameters.
    expect(texts.at(-1)).toMatch(/^It says: The meeting/);
  };
  // In 2 % of the folders and days that opencode tells it of, a model of this size does not see the tool.
  const title = "calls opencode's tool for a file, and answers with its result";
  tryProgram("opencode", title, attempt, { retry: 1 });
});
