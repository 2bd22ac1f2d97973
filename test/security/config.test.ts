import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { run } from "../cli/program.ts";

// What the program says of its settings is pasted into reports of bugs.

const secret = "p1aNt3d-S3cr3t-w0rd";
let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-secrets-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

describe("a file that is no YAML", () => {
  it.each([
    ["a text that begins like an alias", `auth:\n  keys: *${secret}\n`],
    ["a text that begins like a block", `auth:\n  keys: |${secret}\n`],
    ["a text that begins like the end of a list", `auth:\n  keys: ]${secret}\n`],
    ["a reserved sign", `auth:\n  keys: @${secret}\n`],
    ["a quote that is not closed", `auth:\n  keys: "${secret}\n`],
    ["two texts", `auth:\n  keys: "a" ${secret}\n`],
    ["a list that is not closed", `auth:\n  keys: [${secret}\nlisten: {}\n`],
    ["an indented line too many", `auth:\n  keys: ${secret}\n    admin: ${secret}: ${secret}\n`],
    ["a tab", `auth:\n\tkeys: ${secret}\n`],
    ["an escape that there is not", `auth:\n  keys: "\\q${secret}"\n`],
    ["the same twice", `auth:\n  keys: ${secret}\n  keys: ${secret}\n`],
    ["two documents", `auth:\n  keys: ${secret}\n---\nkeys: ${secret}\n`],
  ])("is refused without a word of what stands in it: %s", async (_what, text) => {
    writeFileSync(path.join(folder, "lair.yaml"), text);
    const error = await loadConfig({ env: {}, cwd: folder, home: folder }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "ConfigError", message: expect.stringMatching(/YAML/) });
    expect((error as Error).message).not.toContain(secret);
  });
});

/** Every place for a secret, and the wrong places that are near. */
const settings: Readonly<Record<string, string>> = {
  LLM_V1_PROXY_TOKEN: secret,
  LAIR_AUTH_ADMIN: `${secret}-admin`,
  LAIR_STATE: `redis://lair:${secret}@127.0.0.1:1/0`,
  LAIR_AGENT_KEY: secret,
  LAIR_AGENT_OPENAI_KEY: secret,
  LAIR_RELAY_INTERNAL_SECRET: `${secret}-${secret}-${secret}`,
  LAIR_PROVIDERS_VLLM_KEY: secret,
  LAIR_PROVIDERS_VLLM_HEADERS: `x-box=${secret}`,
  LAIR_GATEWAY_UPSTREAMS: "home=http://127.0.0.1:1",
  LAIR_GATEWAY_UPSTREAMS_HOME_KEY: secret,
  LAIR_GATEWAY_UPSTREAMS_HOME_HEADERS: `x-box=${secret}`,
  HTTPS_PROXY: `http://user:${secret}@127.0.0.1:1`,
};

const wrong: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
  ["a password in an upstream's address", { LAIR_GATEWAY_UPSTREAMS: `home=http://user:${secret}@127.0.0.1:1` }],
  ["a password in a provider's address", { VLLM_HOST: `http://${secret}@127.0.0.1:1` }],
  ["a state of another kind", { LAIR_STATE: `postgres://lair:${secret}@127.0.0.1/x` }],
  ["a state whose port is none", { LAIR_STATE: `redis://lair:${secret}@127.0.0.1:port` }],
  ["headers that are none", { LAIR_GATEWAY_UPSTREAMS_HOME_HEADERS: `{"x-box": "${secret}"` }],
  ["a header with a line break", { LAIR_PROVIDERS_VLLM_HEADERS: `x-box=${secret}\r\nx: y` }],
  ["a secret that is too short", { LAIR_RELAY_INTERNAL_SECRET: secret.slice(0, 10) }],
  ["a relay's address with a password", { LAIR_AGENT_CLOUD: `https://lair:${secret}@127.0.0.1:1` }],
];

describe("a setting that is refused", () => {
  it.each(wrong)("is named, not repeated: %s", async (_what, env) => {
    const loading = loadConfig({ env: { ...settings, ...env }, cwd: folder, home: folder });
    const error = await loading.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "ConfigError" });
    expect((error as Error).message).not.toContain(secret.slice(0, 10));
  });
});

describe("lair config", () => {
  const lair = (args: string[], env: Record<string, string>): ReturnType<typeof run> => run(args, { cwd: folder, env });

  it("shows that secrets are set, and no secret", async () => {
    for (const args of [
      ["config", "show"],
      ["config", "show", "--json"],
      ["config", "check"],
    ]) {
      const { code, stdout, stderr } = await lair(args, settings);
      expect([code, stderr]).toEqual([0, expect.not.stringContaining(secret)]);
      expect(stdout).not.toContain(secret);
      if (args[1] === "show") expect(stdout.match(/\*\*\*/g)?.length, stdout).toBeGreaterThanOrEqual(8);
    }
  });

  it("repeats none of a flag that it does not know", async () => {
    for (const args of [
      [`--upstrem-key=${secret}`],
      ["--set", `auth.kyes=${secret}`],
      ["--set", `auth.keys.x=${secret}`],
    ]) {
      const { code, stdout, stderr } = await lair(["gateway", ...args], settings);
      expect([code, stdout + stderr]).toEqual([2, expect.not.stringContaining(secret)]);
    }
  });
});
