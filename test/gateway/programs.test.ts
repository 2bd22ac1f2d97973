import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { isBuilt, program as builtProgram } from "../../scripts/bootstrap.mjs";
import { newKey } from "../../src/access/issue.ts";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import { type Ended, type Program, start } from "../cli/program.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer } from "../support/fake-server.ts";
import { ask, get } from "../support/tunnel-caller.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { crash } from "../support/tunnel-processes.ts";

// `lair gateway`, `lair keys` and `lair usage` as their users have them: programs of their own that share a state.

let cwd = "";
let upstream: FakeServer;
const programs: Program[] = [];
beforeAll(async () => {
  const reply = [{ text: "one two three" }, { finish: "stop", prompt: 7, completion: 3 }];
  upstream = await startFakeOpenAi({ model: "small", reply });
});
beforeEach(() => {
  cwd = mkdtempSync(path.join(tmpdir(), "lair-gateway-programs-"));
});
afterEach(async () => {
  for (const { child, ended } of programs.splice(0)) {
    child.kill("SIGKILL");
    await ended;
  }
  rmSync(cwd, { recursive: true, force: true, maxRetries: 5 });
});
afterAll(() => upstream.close());

const stateFile = (): string => path.join(cwd, "state", "state.db");

function started(args: readonly string[], env: Record<string, string> = {}): Program {
  const built = isBuilt() ? { script: builtProgram } : {};
  const program = start(args, { cwd, env: { LAIR_STATE: stateFile(), ...env }, ...built });
  programs.push(program);
  return program;
}

const lair = (args: readonly string[], env: Record<string, string> = {}): Promise<Ended> => started(args, env).ended;
const gateway = (args: readonly string[] = [], env: Record<string, string> = {}): Program =>
  started(["gateway", "--port", "0", "--upstream", `llama=${upstream.url}`, ...args], env);
const urlOf = async (program: Program): Promise<string> => (await program.until(/"url":"(https?:[^"]+)"/))[1] ?? "";
const keyIn = ({ stdout }: Ended): string => /lair_k[a-z2-7]{12}_[A-Za-z0-9_-]{43}/.exec(stdout)?.[0] ?? "";
const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
const statusOf = async (url: string, key: string): Promise<number> =>
  (await get(`${url}/v1/models`, bearer(key))).status;

/** What `lair keys create` does, without the time that a program takes to start. */
async function createKey(name: string): Promise<string> {
  mkdirSync(path.dirname(stateFile()), { recursive: true });
  const state = await openState(stateFile(), { log: silent, replica: "test" });
  const { record, text } = newKey({ name }, Date.now());
  await state.keys.insert([record]);
  await state.close();
  return text;
}

/** Ids of the calls that were answered in full, by clients that ask without a pause until nobody answers any more. */
function load(url: string, key: string, clients: number): { answered: Set<string>; over: Promise<unknown> } {
  // More than will be asked before the end, and fewer than one page of records.
  const most = 900;
  let asked = 0;
  const answered = new Set<string>();
  const body = { model: "small", messages: [{ role: "user", content: "hello" }], stream: true };
  const client = async (): Promise<void> => {
    while (asked++ < most) {
      const answer = await ask(`${url}/v1/chat/completions`, { headers: bearer(key), body }).catch(() => undefined);
      if (answer?.status !== 200) return;
      if (answer.clean && answer.text.includes("[DONE]")) answered.add(String(answer.headers["x-request-id"]));
    }
  };
  return { answered, over: Promise.all(Array.from({ length: clients }, client)) };
}

/** Ids of all calls that the state has a record of. */
async function recorded(): Promise<string[]> {
  const state = await openState(stateFile(), { log: silent, replica: "test" });
  try {
    const ids = (await state.usage.list({ limit: 1000 })).map(({ id }) => id);
    expect(ids.length, "fits into one page").toBeLessThan(1000);
    return ids;
  } finally {
    await state.close();
  }
}

// Windows has no signals: there `kill` ends a program without asking it.
const asking = it.skipIf(process.platform === "win32");

describe("lair gateway", () => {
  asking("takes a key that another program makes, forgets one that is revoked, and tells of its calls", async () => {
    const program = gateway();
    const url = await urlOf(program);
    const made = await lair(["keys", "create", "laptop", "--owner", "ada"]);
    const key = keyIn(made);
    expect([made.code, made.stderr, key]).toEqual([0, "", expect.stringMatching(/./)]);
    await waitUntil(async () => (await statusOf(url, "nobody's")) === 401, "it asks for a key");
    expect(await statusOf(url, key)).toBe(200);
    const body = { model: "small", messages: [{ role: "user", content: "hello" }] };
    expect((await ask(`${url}/v1/chat/completions`, { headers: bearer(key), body })).status).toBe(200);
    expect((await lair(["keys", "revoke", "laptop"])).code).toBe(0);
    await waitUntil(async () => (await statusOf(url, key)) === 401, "the key is revoked");
    program.child.kill("SIGTERM");
    expect((await program.ended).code).toBe(0);
    const told = await lair(["usage", "--by", "key,model"]);
    expect([told.code, told.stdout]).toEqual([0, expect.stringMatching(/laptop \(k\w+\) +small +1 +0 +7 +0 +3/)]);
    expect(program.output() + told.stdout).not.toContain(key.slice(-40));
  });

  it("tells a person what is behind it, whether keys are asked for, and the next step", async () => {
    const first = gateway(["--log-format", "pretty"]);
    await first.until(/Next: {2}lair keys create NAME/);
    expect(first.output()).toMatch(
      /gateway, is ready: http:\/\/127\.0\.0\.1:\d+\/v1[\s\S]*llama +http:\/\/127\.0\.0\.1:\d+: small\n[\s\S]*callers +need no key[\s\S]*state +\S+state\.db/,
    );
    await createKey("laptop");
    const second = gateway(["--log-format", "pretty"]);
    await second.until(
      /Try it with a key: {2}curl http:\/\/127\.0\.0\.1:\d+\/v1\/models -H "Authorization: Bearer \$KEY"/,
    );
    expect(second.output()).toMatch(/callers +need a key/);
  });

  it("has the original's name, and flags of its own", async () => {
    const program = started(["llm_servers", "--port", "0", "--upstream", upstream.url]);
    expect(await urlOf(program)).toMatch(/^http:/);
    const [help, stray] = await Promise.all([lair(["gateway", "--help"]), lair(["gateway", "--model", "x"])]);
    expect([help.code, help.stdout]).toEqual([
      0,
      expect.stringMatching(/usage: lair gateway [\s\S]*--upstream <\[name=\]value>[\s\S]*--state[\s\S]*examples:/),
    ]);
    expect([stray.code, stray.stderr]).toEqual([2, expect.stringContaining("there is no flag --model")]);
  });
});

describe("lair gateway does not start", () => {
  it("beyond this machine without a key, and says how to make one", async () => {
    const refused = await lair(["gateway", "--host", "0.0.0.0", "--upstream", upstream.url]);
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringMatching(/without a key is refused[\s\S]*lair keys create NAME/),
    ]);
  });

  it("with a state that it cannot use, and names it without its password", async () => {
    mkdirSync(stateFile(), { recursive: true });
    const [folder, nobody, nonsense] = await Promise.all([
      lair(["gateway", "--upstream", upstream.url]),
      lair(["gateway", "--upstream", upstream.url, "--state", "redis://lair:pass-word@127.0.0.1:1"]),
      lair(["gateway", "--upstream", upstream.url, "--state", "mysql://lair:pass-word@127.0.0.1/x"]),
    ]);
    expect([folder.code, folder.stderr]).toEqual([1, expect.stringContaining(stateFile())]);
    expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining("127.0.0.1:1")]);
    expect([nonsense.code, nonsense.stderr]).toEqual([
      2,
      expect.stringMatching(/state\.url .*cannot be kept at mysql:/),
    ]);
    for (const { stdout, stderr } of [nobody, nonsense]) expect(stdout + stderr).not.toContain("pass-word");
  });

  it("with files that it cannot use, and names them", async () => {
    writeFileSync(path.join(cwd, "empty.pem"), "");
    const flags = ["--tls-cert", "empty.pem", "--tls-key", "missing.pem"];
    const refused = await lair(["gateway", "--upstream", upstream.url, ...flags]);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining("gateway.tls.key: the file missing.pem cannot be read"),
    ]);
  });
});

describe("a gateway that ends under load", () => {
  asking("because it was asked to, has written down each call that it answered, once", async () => {
    const key = await createKey("load");
    const program = gateway();
    const { answered, over } = load(await urlOf(program), key, 16);
    await waitUntil(() => answered.size >= 200, "200 answers");
    program.child.kill("SIGTERM");
    expect((await program.ended).code).toBe(0);
    await over;
    const ids = await recorded();
    expect([...answered].filter((id) => !ids.includes(id))).toEqual([]);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("because it was killed, has lost none either: the next one writes them down", async () => {
    const key = await createKey("load");
    const program = gateway();
    const { answered, over } = load(await urlOf(program), key, 16);
    await waitUntil(() => answered.size >= 200, "200 answers");
    await crash(program);
    await over;
    await urlOf(gateway());
    await waitUntil(async () => {
      const ids = await recorded();
      return [...answered].every((id) => ids.includes(id));
    }, "each answered call is written down");
    const ids = await recorded();
    expect(new Set(ids).size).toBe(ids.length);
  });
});
