import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { cloud as command } from "../../src/cli/cloud.ts";
import { UsageError } from "../../src/cli/command.ts";
import { SteeredRuntime } from "../support/tunnel-runtime.ts";
import { type Ended, type Program, start } from "./program.ts";

const root = path.join(import.meta.dirname, "../..");
let cwd = "";
let runtime: SteeredRuntime;
const programs: Program[] = [];
beforeAll(async () => {
  runtime = await SteeredRuntime.start();
});
beforeEach(() => {
  cwd = mkdtempSync(path.join(tmpdir(), "lair-cloud-"));
});
afterEach(async () => {
  for (const { child, ended } of programs.splice(0)) {
    child.kill("SIGKILL");
    await ended;
  }
  rmSync(cwd, { recursive: true, force: true, maxRetries: 5 });
});
afterAll(() => runtime.close());

const file = (): string => path.join(cwd, "own", "agents.json");
const lair = (args: readonly string[], env: Record<string, string> = {}): Promise<Ended> => started(args, env).ended;

function started(args: readonly string[], env: Record<string, string> = {}): Program {
  const program = start(args, { cwd, env: { LAIR_RELAY_AGENTS: file(), ...env } });
  programs.push(program);
  return program;
}

const cloud = (args: readonly string[] = [], env: Record<string, string> = {}): Program =>
  started(["cloud", "--port", "0", ...args], env);
const urlOf = async (program: Program): Promise<string> => (await program.until(/"url":"(https?:[^"]+)"/))[1] ?? "";
/** `lair cloud agents …` within this process, for each program takes its time to start; the file is the programs' own. */
async function agents(...args: string[]): Promise<Ended> {
  const texts = { stdout: "", stderr: "" };
  const terminal = {
    env: { LAIR_CONFIG: path.join(cwd, "none.yaml"), LAIR_RELAY_AGENTS: file() },
    print: (line: string) => void (texts.stdout += `${line}\n`),
    write: (text: string) => void (texts.stdout += text),
    complain: (line: string) => void (texts.stderr += `${line}\n`),
    input: process.stdin,
    output: process.stdout,
    interactive: false,
  };
  writeFileSync(terminal.env.LAIR_CONFIG, "");
  try {
    return { code: await command.run(["agents", ...args], terminal), ...texts };
  } catch (error) {
    return { code: error instanceof UsageError ? 2 : null, ...texts, stderr: String(error) };
  }
}
/** The first key in what was printed. */
const keyIn = ({ stdout }: Ended): string => /lla_[a-z0-9-]+_[A-Za-z0-9_-]{43}/.exec(stdout)?.[0] ?? "";

// Windows has no signals: there `kill` ends a program without asking it.
const asking = it.skipIf(process.platform === "win32");

describe("lair cloud", () => {
  asking("says where it listens, and ends with 0 when asked to stop", async () => {
    const program = cloud();
    const url = await urlOf(program);
    expect(await (await fetch(`${url}/version`)).json()).toMatchObject({ role: "relay" });
    program.child.kill("SIGTERM");
    const { code, stdout } = await program.ended;
    expect(code).toBe(0);
    for (const said of [/"keyless":true/, /stopping: answers under way have 30s to finish/, /"stopped"/])
      expect(stdout).toMatch(said);
  });

  asking("reads its files anew on SIGHUP, and goes on", async () => {
    const program = cloud();
    const url = await urlOf(program);
    mkdirSync(path.dirname(file()));
    writeFileSync(file(), "{");
    program.child.kill("SIGHUP");
    await program.until(/the file of agents .* cannot be used/);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  it("tells a person the address, who needs a key, and the next step", async () => {
    const first = cloud(["--log-format", "pretty"]);
    await first.until(/Next, beside the runtime: {2}lair agent --cloud http:\/\/127\.0\.0\.1:\d+\n/);
    expect(first.output()).toMatch(/ready: http:\/\/127\.0\.0\.1:\d+\/v1[\s\S]*TLS +none[\s\S]*callers +need no key/);
    await agents("add", "home");
    const second = cloud(["--log-format", "pretty"], { LLM_V1_PROXY_TOKEN: "callers" });
    await second.until(/Next, .*--key-file/);
    expect(second.output()).toMatch(/callers +need a key\n +agents +1 is registered\n/);
  });

  it("has the original's words, and each command's own flags", async () => {
    const program = started(["cloud_server", "http_proxy", "--port", "0"]);
    expect(await urlOf(program)).toMatch(/^http:/);
    const [help, other, stray] = await Promise.all([
      lair(["cloud_server", "--help"]),
      lair(["cloud", "--model", "x"]),
      lair(["cloud", "--json"]),
    ]);
    expect([help.code, help.stdout]).toEqual([
      0,
      expect.stringMatching(/usage: lair cloud [\s\S]*--tls-cert[\s\S]*examples:/),
    ]);
    expect([other.code, other.stderr]).toEqual([2, expect.stringContaining("there is no flag --model")]);
    expect([stray.code, stray.stderr]).toEqual([2, expect.stringContaining("--json belongs to")]);
  });
});

describe("lair cloud does not start", () => {
  it("beyond this machine without keys, and says how to get them", async () => {
    const key = { LLM_V1_PROXY_TOKEN: "x" };
    const [open, bare] = await Promise.all([
      lair(["cloud", "--host", "0.0.0.0"]),
      lair(["cloud", "--host", "0.0.0.0"], key),
    ]);
    expect([open.code, open.stderr]).toEqual([2, expect.stringContaining("without a key is refused")]);
    expect([bare.code, bare.stderr]).toEqual([2, expect.stringContaining("lair cloud agents add NAME")]);
    await agents("add", "home");
    await agents("revoke", "home");
    const useless = await lair(["cloud", "--host", "0.0.0.0"], key);
    expect([useless.code, useless.stderr]).toEqual([2, expect.stringContaining("without any agent")]);
  });

  it("with files that it cannot use, and names them", async () => {
    writeFileSync(path.join(cwd, "bad.json"), "{");
    const [broken, tls, half] = await Promise.all([
      lair(["cloud", "--agents", "bad.json"]),
      lair(["cloud", "--tls-cert", "no.pem", "--tls-key", "no.pem"]),
      lair(["cloud", "--tls-cert", "no.pem"]),
    ]);
    expect([broken.code, broken.stderr]).toEqual([
      1,
      expect.stringContaining("the file of agents bad.json cannot be used"),
    ]);
    expect([tls.code, tls.stderr]).toEqual([
      1,
      expect.stringContaining("relay.tls.cert: the file no.pem cannot be read"),
    ]);
    expect([half.code, half.stderr]).toEqual([2, expect.stringContaining("relay.tls.key (--tls-cert): is missing")]);
  });
});

describe("lair cloud agents", () => {
  it("prints a key once, with the command that uses it", async () => {
    const added = await agents("add", "home", "--expires", "90d");
    const key = keyIn(added);
    expect(added.stdout).toContain(`lair agent --cloud https://HOST:8081 --key ${key}`);
    expect(added.stdout).toMatch(/good until \d{4}-.*not shown again/);
    const listed = await agents("list");
    expect(listed.stdout).toMatch(/^home +k1 +works +\d{4}-\d\d-\d\d +\d{4}-\d\d-\d\d +-$/m);
    expect(listed.stdout).not.toContain(key.slice(-43));
  });

  it("rotates, revokes and removes", async () => {
    await agents("add", "home");
    const second = await agents("rotate", "home", "--json");
    expect(JSON.parse(second.stdout)).toMatchObject({ name: "home", keyId: "k2", expires: null });
    const third = await agents("rotate", "home");
    expect([third.code, third.stderr]).toEqual([
      1,
      expect.stringMatching(/2 keys that work \(k1, k2\).*revoke home k1/),
    ]);
    expect((await agents("revoke", "home", "k1")).stdout).toMatch(/^home: k1 revoked/);
    const listed = JSON.parse((await agents("list", "--json")).stdout) as { keys: { id: string; state: string }[] }[];
    expect(listed[0]?.keys.map(({ id, state }) => [id, state])).toEqual([
      ["k1", "revoked"],
      ["k2", "works"],
    ]);
    await agents("remove", "home");
    expect((await agents()).stdout).toMatch(/^No agent is registered yet/);
  });

  it.each([
    [["add"], 2, "agents add takes NAME"],
    [["add", "Home"], 1, '"Home" is no name for an agent'],
    [["add", "home", "--expires", "soon"], 2, "--expires wants a duration such as 90d"],
    [["list", "--expires", "1d"], 2, "--expires belongs to add and rotate"],
    [["revoke", "away"], 1, 'there is no agent "away"'],
    [["forget", "home"], 2, 'there is no "forget"; it is list, add, rotate, revoke, remove'],
  ])("answers %j with %i", async (args, code, text) => {
    const ended = await agents(...args);
    expect([ended.code, ended.stdout, ended.stderr]).toEqual([code, "", expect.stringContaining(text)]);
  });

  it.skipIf(process.platform === "win32")("keeps its file where only its user reads it", async () => {
    await agents("add", "home");
    const mode = (name: string): number => statSync(name).mode & 0o777;
    expect([mode(path.dirname(file())), mode(file())]).toEqual([0o700, 0o600]);
  });
});

describe("a relay and an agent as programs", () => {
  it("meet by the key that was printed, are shown by status, and part when it is revoked", async () => {
    const env = { LLM_V1_PROXY_TOKEN: "callers", LAIR_AUTH_ADMIN: "operators" };
    const relay = cloud([], env);
    const url = await urlOf(relay);
    const key = keyIn(await agents("add", "home"));
    const none = await lair(["cloud", "status", "--url", url], env);
    expect(none.stdout).toMatch(/no agent has connected[\s\S]*lair agent --cloud/);
    const agent = started(["agent", "--cloud", url, "--openai", runtime.url], { LAIR_AGENT_KEY: key });
    await relay.until(/an agent is connected/);
    await agent.until(/connected to the relay/);
    const shown = await lair(["cloud", "status", "--url", url], env);
    expect(shown.stdout).toMatch(/^AGENT +STATE .*MODELS +VERSION +ADDRESS$/m);
    expect(shown.stdout).toMatch(/^home +ready \(\d\) +\d+s .* +1 +\d+\.\d+\.\d+ +127\.0\.0\.1$/m);
    const listed = JSON.parse((await lair(["cloud", "status", "--url", url, "--json"], env)).stdout);
    expect(listed).toMatchObject({ url, agents: [{ name: "home", models: ["demo"] }] });
    for (const [token, problem] of [
      [{}, "asks for a key with the role admin: set LAIR_AUTH_ADMIN"],
      [{ LLM_V1_PROXY_TOKEN: "callers" }, "may use models only: set LAIR_AUTH_ADMIN"],
    ] as const) {
      const refused = await lair(["cloud", "status", "--url", url], token);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(problem)]);
    }
    await agents("revoke", "home");
    await agent.until(/the key k1 was revoked/);
    expect(relay.output() + agent.output()).not.toContain(key.slice(-43));
  });

  it("are not there: status says where it looked", async () => {
    runtime.answering = ({ reply }) => void reply.end("{}");
    const gone = await SteeredRuntime.start();
    const { url } = gone;
    await gone.close();
    const { port } = new URL(url);
    const [nobody, other] = await Promise.all([
      lair(["cloud", "status", "--port", port]),
      lair(["cloud", "status", "--url", runtime.url]),
    ]);
    expect([nobody.code, nobody.stderr]).toEqual([
      1,
      expect.stringContaining(`no relay answers at ${url} (ECONNREFUSED)`),
    ]);
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining("and not as a relay does")]);
  });
});

it("is started under the original's names by programs of their own", () => {
  const { bin } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as { bin: Record<string, string> };
  const firstWord = (name: string): string | undefined => {
    const source = bin[name]?.replace(/^dist\/(.*)\.js$/, "src/$1.ts") ?? "";
    return /argv\.splice\(2, 0, "(\w+)"\)/.exec(readFileSync(path.join(root, source), "utf8"))?.[1];
  };
  expect([firstWord("cloud_server"), firstWord("local_agent")]).toEqual(["cloud", "agent"]);
});
