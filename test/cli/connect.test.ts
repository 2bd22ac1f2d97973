import { randomUUID } from "node:crypto";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parse as parseToml } from "smol-toml";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse as parseYaml } from "yaml";
import { connect } from "../../src/cli/connect.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { type Program, start } from "./program.ts";

const key = `key-${randomUUID()}`;
let folder: string;
let server: Program;
let url: string;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-connect-"));
  // Where the printed programs find the SDKs.
  symlinkSync(path.join(import.meta.dirname, "../../node_modules"), path.join(folder, "node_modules"), "junction");
  const models = path.join(folder, "parrot.gguf");
  writeGguf(models, scriptedModel({ scripts: [{ after: "\n", say: "Hello yourself." }], contextLength: 8192 }));
  server = start(["serve", "--port", "0"], {
    cwd: folder,
    env: {
      LLM_V1_PROXY_TOKEN: key,
      LLAMA_CPP_MODEL: models,
      LAIR_MODELS: path.join(folder, "none"),
      LLAMA_CPP_N_THREADS: "1",
    },
  });
  [, url = ""] = await server.until(/"url":"([^"]+)"/);
}, 60_000);

afterAll(async () => {
  server.child.kill();
  await server.ended;
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
});

interface Printed {
  readonly code: number;
  readonly text: string;
  readonly said: string;
}

async function lair(...args: string[]): Promise<Printed> {
  const printed: string[] = [];
  const said: string[] = [];
  const code = await connect.run(args, {
    env: { HOME: folder, USERPROFILE: folder, LOCALAPPDATA: folder, LAIR_KEY: key },
    print: (line) => printed.push(line),
    write: (text) => printed.push(text),
    complain: (line) => said.push(line),
    input: process.stdin,
    output: process.stdout,
    interactive: false,
  });
  return { code, text: printed.join("\n"), said: said.join("\n") };
}

async function pieces(name: string): Promise<{ where: string; text: string }[]> {
  const { code, text, said } = await lair(name, "--url", url, "--json");
  expect(code, said).toBe(0);
  expect(text).not.toContain(key);
  return (JSON.parse(text) as { pieces: { where: string; text: string }[] }).pieces;
}

describe("lair connect", () => {
  it("lists the programs that it knows, without any server", async () => {
    const { code, text } = await lair();
    expect([code, text]).toEqual([0, expect.stringMatching(/^opencode .*\ncodex .*\n(.*\n)*zed .*\n/)]);
  });

  it("has for each of them the real address and model, and never the key", async () => {
    const known = JSON.parse((await lair("--json")).text) as { name: string }[];
    expect(known.length).toBeGreaterThan(15);
    for (const { name } of known) {
      const { code, text } = await lair(name, "--url", url);
      expect([name, code]).toEqual([name, 0]);
      expect(text).toContain(name === "open-webui" ? new URL(url).port : url);
      if (name !== "open-webui") expect(text).toContain("parrot");
      expect(text).not.toContain(key);
      expect(text).toMatch(/LAIR_KEY/);
    }
  });

  it("says what there is instead of a name that it does not know, and where no server answers", async () => {
    await expect(lair("zedd", "--url", url)).rejects.toThrow(/did you mean "zed"\?/);
    const { code, said } = await lair("zed", "--url", "http://127.0.0.1:1");
    expect([code, said]).toEqual([1, expect.stringContaining("does not answer")]);
  });
});

describe("what it prints is what the program reads", () => {
  it("JSON for opencode, Zed and aider, with the limits", async () => {
    const opencode = JSON.parse((await pieces("opencode"))[0]!.text) as JsonObject;
    expect(opencode).toMatchObject({
      model: "lair/parrot",
      provider: {
        lair: { options: { baseURL: `${url}/v1` }, models: { parrot: { limit: { context: 8192, output: 2048 } } } },
      },
    });
    const zed = JSON.parse((await pieces("zed"))[0]!.text) as JsonObject;
    expect(zed).toMatchObject({
      language_models: {
        openai_compatible: { lair: { api_url: `${url}/v1`, available_models: [{ name: "parrot", max_tokens: 8192 }] } },
      },
    });
    const aider = JSON.parse((await pieces("aider"))[1]!.text) as JsonObject;
    expect(aider).toMatchObject({ "openai/parrot": { max_input_tokens: 8192 } });
  });

  it("YAML for Continue, TOML for Codex", async () => {
    const next = parseYaml((await pieces("continue"))[0]!.text) as JsonObject;
    expect(next).toMatchObject({
      schema: "v1",
      models: [{ provider: "openai", model: "parrot", apiBase: `${url}/v1`, apiKey: "${{ secrets.LAIR_KEY }}" }],
    });
    const codex = parseToml((await pieces("codex"))[0]!.text) as JsonObject;
    expect(codex).toMatchObject({ model_providers: { lair: { base_url: `${url}/v1`, env_key: "LAIR_KEY" } } });
  });

  it.each(["openai-js", "anthropic-js", "ollama-js"])("the lines for %s answer as they stand", async (name) => {
    const { text } = (await pieces(name))[0]!;
    const file = path.join(folder, `${name}.mjs`);
    writeFileSync(file, text);
    const { code, output } = await runNode(file);
    expect([code, output]).toEqual([0, expect.stringContaining("Hello yourself.")]);
  });

  it.each(["ai-sdk", "langchain-js"])("the lines for %s are a program", async (name) => {
    const file = path.join(folder, `${name}.mjs`);
    writeFileSync(file, (await pieces(name))[0]!.text);
    const { status, stderr } = spawnSync(process.execPath, ["--check", file], { encoding: "utf8" });
    expect([status, stderr]).toEqual([0, ""]);
  });

  it.skipIf(spawnSync("curl", ["--version"]).status !== 0 || process.platform === "win32")(
    "the lines for curl answer as they stand",
    async () => {
      const { text } = (await pieces("curl"))[0]!;
      const child = spawn("sh", ["-c", text], {
        env: { PATH: process.env["PATH"], LAIR_KEY: key, NO_PROXY: "127.0.0.1" },
      });
      expect((await outputOf(child)).output).toContain("Hello yourself.");
    },
  );
});

function runNode(file: string): Promise<{ code: number | null; output: string }> {
  const { PATH, SystemRoot } = process.env;
  const env = { PATH, SystemRoot, LAIR_KEY: key, HOME: folder };
  return outputOf(spawn(process.execPath, [file], { env, cwd: folder }));
}

async function outputOf(child: ReturnType<typeof spawn>): Promise<{ code: number | null; output: string }> {
  let output = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (output += text));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output };
}
