import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { randomBert } from "../support/gguf.ts";
import { type Program, run, start } from "./program.ts";

let cwd: string;
let env: Record<string, string>;

beforeAll(() => {
  cwd = mkdtempSync(join(tmpdir(), "lair-run-"));
  writeGguf(
    join(cwd, "parrot.gguf"),
    scriptedModel({ scripts: [{ after: "\n", say: "<think>\nHm.\n</think>\nA word \u001b[31mof mine." }] }),
  );
  // First in the list, and no model to chat with.
  writeGguf(join(cwd, "a-vectors.gguf"), randomBert());
  const own = { LLAMA_CPP_MODEL: cwd, LAIR_MODELS: join(cwd, "none"), LLAMA_CPP_CACHE_BYTES: "0" };
  // The port of this machine's own lair, if there is one, must not be asked.
  env = { ...own, RUNTIME_LISTEN_PORT: "0", LLAMA_CPP_N_THREADS: "1" };
});

afterAll(() => rmSync(cwd, { recursive: true, force: true }));

test("answers one prompt with a server of its own, and prints the answer alone", async () => {
  const { code, stdout, stderr } = await run(["run", "parrot", "say", "something"], { cwd, env });
  expect([code, stdout, stderr]).toEqual([0, "A word [31mof mine.\n", ""]);
});

test("takes what is piped in, and the default model", async () => {
  const { code, stdout, stderr } = await ask("say something", env);
  expect([code, stdout, stderr]).toEqual([0, "A word [31mof mine.\n", ""]);
});

test("asks the server that is named, with its key, and says what the server says", async () => {
  const server: Program = start(["serve"], { cwd, env: { ...env, LLM_V1_PROXY_TOKEN: "secret-of-the-test" } });
  try {
    const [, url = ""] = await server.until(/"url":"([^"]+)"/);
    const good = await run(["run", "parrot", "hello", "--url", `${url}/v1`], {
      cwd,
      env: { LAIR_KEY: "secret-of-the-test" },
    });
    expect([good.code, good.stdout]).toEqual([0, "A word [31mof mine.\n"]);
    const without = await run(["run", "parrot", "hello", "--url", url], { cwd, env: {} });
    expect(without.code).toBe(1);
    expect(without.stderr).toMatch(/^lair run: .*key/);
    const unknown = await run(["run", "nothing", "hello", "--url", url, "--key", "secret-of-the-test"], {
      cwd,
      env: {},
    });
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining("nothing")]);
  } finally {
    server.child.kill();
    await server.ended;
  }
});

test("asks the server that runs here, with the key of the configuration, rather than start another", async () => {
  const token = { LLM_V1_PROXY_TOKEN: "secret-of-the-test" };
  const server: Program = start(["serve"], { cwd, env: { ...env, ...token } });
  try {
    const [, port = ""] = await server.until(/"url":"http:[^"]+:(\d+)"/);
    const here = { RUNTIME_LISTEN_PORT: port, LAIR_MODELS: join(cwd, "none"), ...token };
    const { code, stdout } = await run(["run", "parrot", "hello"], { cwd, env: here });
    expect([code, stdout]).toEqual([0, "A word [31mof mine.\n"]);
  } finally {
    server.child.kill();
    await server.ended;
  }
});

test("a server that is not there, and an address that is none, are one line each", async () => {
  const away = await run(["run", "x", "hello", "--url", "http://127.0.0.1:1"], { cwd, env: {} });
  expect([away.code, away.stderr]).toEqual([1, expect.stringContaining("http://127.0.0.1:1 does not answer")]);
  const none = await run(["run", "x", "hello", "--url", "here"], { cwd, env: {} });
  expect([none.code, none.stderr]).toEqual([2, expect.stringContaining("--url wants an address")]);
});

test("takes the demo where there is no other model, and says on the error output what that is", async () => {
  const none = { LAIR_MODELS: join(cwd, "none"), RUNTIME_LISTEN_PORT: "0", LAIR_PROVIDERS_OLLAMA_ENABLED: "false" };
  const { code, stdout, stderr } = await ask("hello", none);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/\S/)]);
  expect(stderr).toMatch(/^demo is the tiny demo model .* For real answers: lair pull hf:\S+\n$/);
  const beside = await ask("hello", { ...env, LAIR_LLAMA_DEMO: "true" });
  expect([beside.stdout, beside.stderr]).toEqual(["A word [31mof mine.\n", ""]);
});

/** `lair run` with the question piped in. */
async function ask(
  question: string,
  variables: Record<string, string>,
): Promise<Record<"stdout" | "stderr", string> & { code: unknown }> {
  const program = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), mainFile(), "run"], {
    cwd,
    env: { PATH: process.env["PATH"] ?? "", HOME: cwd, ...variables },
  });
  const said = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const)
    program[stream].setEncoding("utf8").on("data", (text: string) => (said[stream] += text));
  program.stdin.end(question);
  const code = await new Promise((resolve) => program.on("close", resolve));
  return { code, ...said };
}

function mainFile(): string {
  return join(import.meta.dirname, "../../src/cli/main.ts");
}
