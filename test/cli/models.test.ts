import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type GgufValue, writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { randomBert, randomDecoder } from "../support/gguf.ts";
import { run } from "./program.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A pulled model, and a folder with another one, an embedder and a broken file. */
function open() {
  const cwd = mkdtempSync(join(tmpdir(), "lair-models-"));
  folders.push(cwd);
  const pulled = join(cwd, "pulled", "user", "repo");
  const own = join(cwd, "own");
  mkdirSync(pulled, { recursive: true });
  mkdirSync(own);
  writeGguf(join(pulled, "Tiny-F16.gguf"), randomDecoder({ architecture: "llama" }));
  writeGguf(join(own, "mine.gguf"), randomDecoder({ architecture: "qwen2", contextLength: 2048 }));
  writeGguf(join(own, "words.gguf"), randomBert());
  writeFileSync(join(own, "broken.gguf"), "not a model");
  return { cwd, pulled, own, env: { LAIR_MODELS: join(cwd, "pulled"), LLAMA_CPP_MODEL: own } };
}

test("lair models lists what lair serve would offer, and says what is broken", async () => {
  const { cwd, env } = open();
  const { code, stdout } = await run(["models"], { cwd, env });
  expect(code).toBe(0);
  expect(stdout).toMatch(/^mine .* +2048 +chat, tools$/m);
  expect(stdout).toMatch(/^words .* embeddings$/m);
  expect(stdout).toMatch(/^Tiny-F16 /m);
  expect(stdout).toMatch(/cannot be loaded:\n {2}broken: /);
  const listed = JSON.parse((await run(["models", "--json"], { cwd, env })).stdout) as {
    id: string;
    pulled: boolean;
  }[];
  expect(listed.filter(({ pulled }) => pulled).map(({ id }) => id)).toEqual(["Tiny-F16"]);
});

test("lair models lists the demo where there is none, with what it is and how to get one", async () => {
  const { cwd } = open();
  const env = { LAIR_MODELS: join(cwd, "nothing") };
  const { stdout } = await run(["models"], { cwd, env });
  expect(stdout).toMatch(
    /^demo .* chat, tools\n\ndemo is the tiny demo model [\s\S]*no other model\.\s+Fetch\s+one:\s+lair\s+pull\s+hf:/m,
  );
  expect((await run(["show", "demo"], { cwd, env })).stdout).toMatch(/^licence +mit$/m);
  const elsewhere = await run(["models"], { cwd, env: { ...env, OLLAMA_HOST: "http://127.0.0.1:1" } });
  expect(elsewhere.stdout).toMatch(/^There is no model yet\. .*lair pull hf:/);
});

test("lair models lists the demo beside others only when it is asked for", async () => {
  const { cwd, env } = open();
  expect((await run(["models"], { cwd, env })).stdout).not.toContain("demo");
  expect((await run(["models", "--demo"], { cwd, env })).stdout).toMatch(/^demo [\s\S]*^mine /m);
});

test("lair show says what a model is, by any name that a request may use", async () => {
  const { cwd, env } = open();
  const { code, stdout } = await run(["show", "MINE.gguf"], { cwd, env });
  expect(code).toBe(0);
  expect(stdout).toMatch(/^architecture +qwen2, 2 layers, 1024 tokens of vocabulary$/m);
  expect(stdout).toMatch(/^memory +about \d+ MB/m);
  expect((await run(["show", "mine", "--template"], { cwd, env })).stdout).toContain("<|im_start|>");
  expect(stdout).not.toMatch(/^sampling/m);
  const unknown = await run(["show", "nothing"], { cwd, env });
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining("lair models lists")]);
});

test("lair show tells the sampling that holds for a model: its file's, and the user's over it", async () => {
  const { cwd, own, env } = open();
  const content = randomDecoder({ architecture: "llama" });
  const said: [string, GgufValue][] = [
    ["general.sampling.temp", { type: "f32", value: 0.3 }],
    ["general.sampling.top_p", { type: "f32", value: 0.95 }],
  ];
  writeGguf(join(own, "said.gguf"), { ...content, metadata: new Map([...content.metadata, ...said]) });
  const { stdout } = await run(["show", "said"], { cwd, env: { ...env, LLAMA_CPP_TOP_P: "0.5" } });
  expect(stdout).toMatch(/^sampling +temperature 0\.3, topP 0\.5$/m);
});

test("lair rm deletes what was pulled, with the folders that it leaves empty, and nothing else", async () => {
  const { cwd, env, pulled, own } = open();
  const unasked = await run(["rm", "Tiny-F16"], { cwd, env });
  expect([unasked.code, unasked.stderr]).toEqual([1, expect.stringContaining("--yes")]);
  expect(existsSync(join(pulled, "Tiny-F16.gguf"))).toBe(true);
  const other = await run(["rm", "mine", "--yes"], { cwd, env });
  expect([other.code, other.stderr]).toEqual([1, expect.stringContaining("was not fetched by lair pull")]);
  expect(existsSync(join(own, "mine.gguf"))).toBe(true);
  const { code, stdout } = await run(["rm", "tiny-f16", "--yes"], { cwd, env });
  expect([code, stdout]).toEqual([0, expect.stringContaining("deleted Tiny-F16")]);
  expect(existsSync(join(cwd, "pulled", "user"))).toBe(false);
  expect(existsSync(join(cwd, "pulled"))).toBe(true);
});
