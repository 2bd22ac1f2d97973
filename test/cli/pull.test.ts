import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { FakeHub } from "../support/fake-hub.ts";
import { run, start } from "./program.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const model = randomBytes(3_000_000);

async function open(files: Record<string, Buffer> = { "Tiny-Q4_K_M.gguf": model, "Tiny-Q8_0.gguf": model }) {
  const hub = await FakeHub.start(files);
  const cwd = mkdtempSync(join(tmpdir(), "lair-pull-"));
  closers.push(
    () => hub.close(),
    () => rmSync(cwd, { recursive: true, force: true }),
  );
  const env = { HF_ENDPOINT: hub.url, LAIR_MODELS: join(cwd, "models") };
  return { hub, cwd, env, place: join(cwd, "models", "user", "repo") };
}

test("fetches a model into the models folder and says how to use it", async () => {
  const { cwd, env, place } = await open();
  const first = await run(["pull", "hf:user/repo"], { cwd, env });
  expect(first.code, first.stderr).toBe(0);
  expect(readFileSync(join(place, "Tiny-Q4_K_M.gguf")).equals(model)).toBe(true);
  expect(first.stdout).toContain("lair run Tiny-Q4_K_M");
  expect(first.stdout).toMatch(/100 % +3\.0 MB of 3\.0 MB/);
  const second = await run(["pull", "user/repo"], { cwd, env });
  expect(second.stdout).toContain("there already");
});

test("--to puts it elsewhere and says how that folder is served", async () => {
  const { cwd, env } = await open();
  const { code, stdout } = await run(["pull", "user/repo:Q8_0", "--to", join(cwd, "else")], { cwd, env });
  expect(code).toBe(0);
  expect(existsSync(join(cwd, "else", "user", "repo", "Tiny-Q8_0.gguf"))).toBe(true);
  expect(stdout).toContain(`LLAMA_CPP_MODEL=${join(cwd, "else")} lair serve`);
});

test("Ctrl-C keeps what has come and says that the same command goes on", async () => {
  const { hub, cwd, env, place } = await open({ "Big-Q4_K_M.gguf": randomBytes(40_000_000) });
  // The file's server goes silent after a part.
  hub.moods.stall = 20_000_000;
  const program = start(["pull", "user/repo"], { cwd, env });
  await program.until(/Big-Q4_K_M\.gguf +40 %/);
  program.child.kill("SIGINT");
  const { code, stderr } = await program.ended;
  expect(code).toBe(1);
  expect(stderr).toContain("the same command goes on where it was");
  expect(existsSync(join(place, "Big-Q4_K_M.gguf.part"))).toBe(true);
  expect(existsSync(join(place, "Big-Q4_K_M.gguf"))).toBe(false);
});

test("what cannot be fetched is one line with what to do", async () => {
  const { cwd, env } = await open();
  const missing = await run(["pull", "other/repo"], { cwd, env });
  expect([missing.code, missing.stderr]).toEqual([
    1,
    expect.stringMatching(/^lair pull: 127\.0\.0\.1:\d+ has no other\/repo/),
  ]);
  const nonsense = await run(["pull", "qwen"], { cwd, env });
  expect([nonsense.code, nonsense.stderr]).toEqual([2, expect.stringContaining("hf:user/repo:Q8_0")]);
  const unreachable = await run(["pull", "user/repo"], { cwd, env: { ...env, HF_ENDPOINT: "http://127.0.0.1:1" } });
  expect([unreachable.code, unreachable.stderr]).toEqual([1, expect.stringContaining("ECONNREFUSED")]);
});
