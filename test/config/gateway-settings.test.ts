import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { config } from "../../src/cli/config.ts";
import { flagLines, settingFlags } from "../../src/cli/setting-flags.ts";
import { asksForKey, checkExposure, checkGatewayExposure, checkRelayExposure } from "../../src/config/exposure.ts";
import { journalFolder, stateUrl } from "../../src/config/folders.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { FlagCommand } from "../../src/config/setting.ts";
import { maskPassword } from "../../src/config/state-settings.ts";

const cwd = mkdtempSync(path.join(tmpdir(), "lair-gateway-settings-"));
afterAll(() => rmSync(cwd, { recursive: true }));

type Flags = Record<string, string | string[]>;
const load = (env: Record<string, string> = {}, flags: Flags = {}, command: FlagCommand = "gateway") =>
  loadConfig({ flags, env, cwd, home: cwd, command });
async function loadFile(text: string, env: Record<string, string> = {}) {
  writeFileSync(path.join(cwd, "given.yaml"), text);
  return load({ LAIR_CONFIG: path.join(cwd, "given.yaml"), ...env });
}

describe("upstreams", () => {
  it("come by flag, with a name or without, and more than one", async () => {
    const { config, sources } = await load(
      {},
      { upstream: ["http://127.0.0.1:9", "home=https://relay.example", "10.0.0.2,office=http://box"] },
    );
    const urls = Object.entries(config.gateway.upstreams).map(([name, entry]) => [name, entry.kind, ...entry.urls]);
    expect(urls).toEqual([
      ["upstream", "lair", "http://127.0.0.1:9"],
      ["home", "lair", "https://relay.example"],
      ["upstream-2", "lair", "http://10.0.0.2:8081"],
      ["office", "lair", "http://box:8081"],
    ]);
    expect(sources.get("gateway.upstreams.home.urls")).toBe("--upstream");
  });

  it("come by variable, with further settings by variables of their own", async () => {
    const { config, warnings } = await load({
      LAIR_GATEWAY_UPSTREAMS: "my-box=http://10.0.0.2:8081, gpu=http://10.0.0.3:8000",
      LAIR_GATEWAY_UPSTREAMS_MY_BOX_KEY: "relay-key",
      LAIR_GATEWAY_UPSTREAMS_GPU_KIND: "vllm",
      LAIR_GATEWAY_UPSTREAMS_GPU_WEIGHT: "2.5",
    });
    expect(warnings).toEqual([]);
    expect(config.gateway.upstreams).toMatchObject({
      "my-box": { kind: "lair", urls: ["http://10.0.0.2:8081"], key: "relay-key", weight: 1 },
      gpu: { kind: "vllm", urls: ["http://10.0.0.3:8000"], weight: 2.5 },
    });
  });

  it("that a flag has named take their further settings from variables too", async () => {
    const env = { LAIR_GATEWAY_UPSTREAMS_MY_BOX_KEY: "relay-key" };
    const { config: loaded } = await load(env, { upstream: ["my-box=http://10.0.0.2:8081"] });
    expect(loaded.gateway.upstreams).toMatchObject({ "my-box": { key: "relay-key" } });
  });

  it("stand in a file with all that a provider may have, and virtual models beside them", async () => {
    const { config: loaded } = await loadFile(
      `
gateway:
  upstreams:
    home: { urls: ["https://relay.example:8081"], key: "\${env:RELAY_KEY}", weight: 2, aliases: { small: "qwen3:8b" } }
    office: { kind: vllm, urls: ["http://10.0.0.5:8000"], contextLength: 32768, timeouts: { firstByte: 1m } }
    old: { urls: ["http://old"], enabled: false }
  models:
    coder: [home/llama_cpp:qwen3-coder, office/Qwen/Qwen3-Coder-30B]
prices:
  "qwen3.5*": { prompt: 0.1, cached: 0.02, completion: 0.4 }
queue:
  concurrent: 4
  models: { "gpt-4.1*": { concurrent: 1 } }
`,
      { RELAY_KEY: "from outside" },
    );
    expect(Object.keys(loaded.gateway.upstreams)).toEqual(["home", "office"]);
    expect(loaded.gateway.upstreams["home"]).toMatchObject({ key: "from outside", weight: 2 });
    expect(loaded.gateway.upstreams["office"]).toMatchObject({ kind: "vllm", timeouts: { firstByte: 60_000 } });
    expect(loaded.gateway.models).toEqual({ coder: ["home/llama_cpp:qwen3-coder", "office/Qwen/Qwen3-Coder-30B"] });
    expect(loaded.prices).toEqual({ "qwen3.5*": { prompt: 0.1, cached: 0.02, completion: 0.4 } });
    expect(loaded.queue).toMatchObject({ concurrent: 4, waiting: 64, models: { "gpt-4.1*": { concurrent: 1 } } });
  });
});

describe("what makes no sense is refused, by its name:", () => {
  it.each<[string, Record<string, string>, Flags, RegExp]>([
    [
      "a name twice",
      {},
      { upstream: ["a=http://x", "a=http://y"] },
      /gateway\.upstreams\.a\.urls \(--upstream\): the name "a" is given twice/,
    ],
    ["a name that is none", {}, { upstream: ["My Box=http://x"] }, /is no name for a provider/],
    ["an address that is none", {}, { upstream: ["ftp://x"] }, /cannot use "ftp:\/\/"/],
    ["an upstream without an address", { LAIR_GATEWAY_UPSTREAMS_HOME_KEY: "k" }, {}, /home\.urls.*: is missing/],
    [
      "a weight of nothing",
      { LAIR_GATEWAY_UPSTREAMS: "a=http://x", LAIR_GATEWAY_UPSTREAMS_A_WEIGHT: "0" },
      {},
      /a number above 0/,
    ],
    [
      "a limit of nothing",
      { LAIR_LIMITS_CALLER_TOKENS_PER_DAY: "0" },
      {},
      /tokensPerDay .*found 0; allowed: a whole number, at least 1/,
    ],
    ["a limit in halves", { LAIR_LIMITS_CALLER_CONCURRENT: "1.5" }, {}, /found 1\.5/],
    ["a spend below zero", { LAIR_LIMITS_CALLER_SPEND_PER_DAY: "-1" }, {}, /found -1; allowed: a number above 0/],
    [
      "a front that is no address",
      { LAIR_PROXIES: "10.0.0.1,my-front" },
      {},
      /proxies .*"my-front" is no address nor network/,
    ],
    ["a network that is too narrow", { LAIR_PROXIES: "10.0.0.0/33" }, {}, /is no address nor network/],
    ["a certificate without its key", {}, { "tls-cert": "c.pem" }, /gateway\.tls\.key \(--tls-cert\): is missing/],
    [
      "a token of callers that is one of operators",
      { LLM_V1_PROXY_TOKEN: "both", LAIR_AUTH_ADMIN: "x,both" },
      {},
      /auth\.admin .*holds a key that is one of auth\.keys too/,
    ],
    [
      "another database",
      { LAIR_STATE: "mysql://u:pass-word@host/x" },
      {},
      /state\.url \(LAIR_STATE\): cannot be kept at mysql:; write a file's path, redis:/,
    ],
    ["an address of Redis that is none", { LAIR_STATE: "redis://" }, {}, /is no address of a Redis server/],
  ])("%s", async (_what, env, flags, message) => {
    const refused = load(env, flags);
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.not.toThrow(/pass-word|both,/);
  });

  it.each([
    ['prices: { "x": { prompt: -1 } }', /prices\.x\.prompt \(given\.yaml:1\): found -1; allowed: a number/],
    ['prices: { "x": { promt: 1 } }', /there is no such setting; did you mean "prompt"\?/],
    ['prices: { "": { prompt: 1 } }', /is no name for a model; allowed: 1 to 200 characters/],
    ["gateway: { models: { coder: home/x } }", undefined],
    ["gateway: { models: { coder: [] } }", /gateway\.models\.coder .*allowed: a list of texts/],
    ["gateway: { upstreams: { home: } }", /gateway\.upstreams\.home\.urls.*: is missing/],
    ["gateway: { upstreams: { home: { urls: [http://x], wieght: 2 } } }", /did you mean "weight"\?/],
  ])("in a file: %s", async (text, message) => {
    if (message === undefined) await expect(loadFile(text)).resolves.toBeDefined();
    else await expect(loadFile(text)).rejects.toThrow(message);
  });
});

describe("settings that need a state", () => {
  it("are said to have no effect without one, where there is no gateway either", async () => {
    const env = { LAIR_LIMITS_CALLER_CONCURRENT: "2" };
    expect((await load(env, {}, "serve")).warnings).toEqual([
      expect.stringMatching(/^limits\.caller\.concurrent \(LAIR_LIMITS_CALLER_CONCURRENT\) has no effect/),
    ]);
    expect((await load({ ...env, LAIR_STATE: "x.db" }, {}, "serve")).warnings).toEqual([]);
    expect((await load(env, { upstream: ["http://x"] })).warnings).toEqual([]);
  });
});

describe("the state", () => {
  const owner = { env: {}, home: "/home/ada", platform: "linux" as const };
  const urlFor = async (value: string): Promise<string | undefined> =>
    stateUrl((await load({ LAIR_STATE: value })).config, owner);

  it("is a file of the user's where nothing is said, and nowhere for `none`", async () => {
    expect(await urlFor("")).toBe(path.join("/home/ada", ".local", "share", "lair", "state.db"));
    expect(await urlFor("none")).toBeUndefined();
  });

  it("is a path from the current folder, also with ~, or an address as it stands", async () => {
    expect(await urlFor("state.db")).toBe(path.resolve("state.db"));
    expect(await urlFor("~/lair.db")).toBe(path.join(homedir(), "lair.db"));
    expect(await urlFor("sqlite:/var/lib/lair.db")).toBe(path.resolve("/var/lib/lair.db"));
    for (const url of ["redis://u:p@host:6379/2", "rediss://host:6380", "unix:/run/redis.sock"])
      expect(await urlFor(url)).toBe(url);
  });

  it("is a flag of all commands that use it", async () => {
    for (const command of ["serve", "cloud", "gateway", "keys", "usage"] as const)
      expect((await load({}, { state: "x.db" }, command)).config.state.url).toBe("x.db");
    expect(Object.keys(settingFlags("keys"))).toEqual(["config", "set", "state"]);
    expect(flagLines("gateway").join("\n")).toMatch(/--upstream <\[name=\]value>[\s\S]*--state <value>/);
  });

  it("has a journal of its own, wherever it is, whose name tells no password", () => {
    expect(journalFolder("/var/lib/lair/state.db", owner)).toBe("/var/lib/lair/state.db.journal");
    const folders = ["redis://u:pass@host:6379/2", "redis://host:6379/3", "unix:/run/redis.sock"].map((url) =>
      journalFolder(url, owner),
    );
    expect(new Set(folders).size).toBe(3);
    expect(folders.join()).not.toContain("pass");
  });

  it.each([
    ["redis://user:pass@host:6379/1", "redis://user:***@host:6379/1"],
    ["redis://:p@ss@host", "redis://:***@host"],
    ["rediss://host:6380?password=pass&x=1", "rediss://host:6380?password=***&x=1"],
    ["unix:/run/redis.sock?password=pass", "unix:/run/redis.sock?password=***"],
    ["C:\\lair\\state.db", "C:\\lair\\state.db"],
  ])("is masked where it is shown: %s", (url, shown) => expect(maskPassword(url)).toBe(shown));
});

describe("lair config", () => {
  async function printed(...args: string[]): Promise<{ code: number; text: string }> {
    let text = "";
    const say = (line: string): void => void (text += `${line}\n`);
    const env = {
      LAIR_CONFIG: path.join(cwd, "empty.yaml"),
      LAIR_STATE: "redis://lair:pass-word@127.0.0.1:6379/1",
      LAIR_AUTH_ADMIN: "operators-token",
      LAIR_RELAY_INTERNAL_SECRET: "a-secret-that-all-the-relays-share",
      LAIR_GATEWAY_UPSTREAMS: "home=http://127.0.0.1:8081",
      LAIR_GATEWAY_UPSTREAMS_HOME_KEY: "relays-key",
    };
    writeFileSync(env.LAIR_CONFIG, "");
    const terminal = { env, print: say, write: say, complain: say, interactive: false };
    return { code: await config.run(args, { ...terminal, input: process.stdin, output: process.stdout }), text };
  }

  it.each([["show"], ["show", "--json"], ["check", "--host", "0.0.0.0"]])("%s %s prints no secret", async (...args) => {
    const { code, text } = await printed(...args);
    expect([code, text]).toEqual([0, expect.not.stringMatching(/pass-word|operators-token|a-secret|relays-key/)]);
    if (args[0] === "show") expect(text).toContain("redis://lair:***@127.0.0.1:6379/1");
  });

  it("explains a setting with the variables that it really has", async () => {
    expect((await printed("explain", "gateway.upstreams.home.key")).text).toMatch(
      /variable +LAIR_GATEWAY_UPSTREAMS_<NAME>_KEY$/m,
    );
    expect((await printed("explain", "state.url")).text).toMatch(/variable +LAIR_STATE_URL, LAIR_STATE$/m);
    expect((await printed("explain", "prices.x.prompt")).text).not.toMatch(/variable/);
  });
});

describe("listening beyond this machine", () => {
  const everywhere = { RUNTIME_LISTEN_HOST: "0.0.0.0", LAIR_RELAY_HOST: "0.0.0.0", LAIR_GATEWAY_HOST: "0.0.0.0" };
  it("needs a key: of the configuration, or of the state", async () => {
    const { config: loaded } = await load(everywhere);
    for (const check of [checkExposure(loaded), checkGatewayExposure(loaded, 0), checkRelayExposure(loaded, 1)])
      expect(check).toMatch(/without a key is refused[\s\S]*lair keys create NAME/);
    for (const check of [checkExposure(loaded, 1), checkGatewayExposure(loaded, 1), checkRelayExposure(loaded, 1, 1)])
      expect(check).toBeUndefined();
    for (const env of [{ LLM_V1_PROXY_TOKEN: "a" }, { LAIR_AUTH_ADMIN: "a" }] as Record<string, string>[]) {
      const { config: keyed } = await load({ ...everywhere, ...env });
      expect([asksForKey(keyed), checkGatewayExposure(keyed, 0)]).toEqual([true, undefined]);
    }
  });
});
