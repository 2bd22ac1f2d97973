import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Relay, startRelay } from "../../src/cloud.ts";
import { loadConfig } from "../../src/config/load.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { ask, get, open } from "../support/tunnel-caller.ts";
import { keptLog, waitUntil } from "../support/tunnel-log.ts";
import { answerJson, beginStream, chatEvent, SteeredRuntime } from "../support/tunnel-runtime.ts";
import { type Program, run, start } from "./program.ts";

let folder = "";
const closers: (() => unknown)[] = [];
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-agent-"));
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

function agent(args: readonly string[], env: Record<string, string> = {}): Program {
  const program = start(["agent", ...args], { cwd: folder, env });
  closers.push(async () => {
    program.child.kill("SIGKILL");
    await program.ended;
  });
  return program;
}

/** A relay with one registered agent, `home`. */
async function relayWithKey(): Promise<{
  relay: Relay;
  keys: AgentKeys;
  key: string;
  states: () => readonly string[];
}> {
  const file = path.join(mkdtempSync(path.join(folder, "relay-")), "agents.json");
  const keys = new AgentKeys(file);
  const { key } = await keys.add("home");
  const env = { LAIR_RELAY_PORT: "0", LAIR_RELAY_AGENTS: file };
  const { config } = await loadConfig({ env, cwd: folder, home: folder });
  const relay = await startRelay(config, keptLog(), { version: "0.0.0-test", env: {} });
  closers.push(async () => {
    keys.close();
    await relay.close();
  });
  const states = (): string[] =>
    relay.fleet.agents().map(({ name, ready, connections }) => `${name} ${ready} ${connections.length}`);
  return { relay, keys, key, states };
}

async function runtime(): Promise<SteeredRuntime> {
  const server = await SteeredRuntime.start();
  closers.push(() => server.close());
  return server;
}

const chat = { model: "demo", messages: [{ role: "user", content: "hi" }] };
// Windows has no signals: there `kill` ends a program without asking it.
const asking = it.skipIf(process.platform === "win32");

describe("lair agent", () => {
  it("answers the relay's callers from the runtime, with the runtime's own key", async () => {
    const { relay, key } = await relayWithKey();
    const server = await runtime();
    server.answering = async (asked) => answerJson(asked, 200, { said: (await asked.body()).toString() });
    const program = agent([`--cloud=${relay.url}`, `--openai=${server.url}/v1/`], {
      LAIR_AGENT_KEY: key,
      LLM_V1_PROXY_TOKEN: "callers-key",
    });
    await program.until(/connected to the relay/);
    await waitUntil(async () => (await get(`${relay.url}/v1/models`)).text.includes('"demo"'), "its model is listed");
    const answer = await ask(`${relay.url}/v1/chat/completions`, { body: chat });
    expect(answer).toMatchObject({ status: 200, text: JSON.stringify({ said: JSON.stringify(chat) }) });
    // The runtime of this machine is asked with the key that its callers have here, as lair run does it.
    expect(server.asked[0]?.request.headers.authorization).toBe("Bearer callers-key");
    await program.until(/"path":"\/v1\/chat\/completions","status":200/);
    expect(program.output()).not.toContain(key);
  });

  it("asks the runtime with agent.openaiKey where that is set", async () => {
    const { relay, key } = await relayWithKey();
    const server = await runtime();
    server.answering = (asked) => answerJson(asked, 200, {});
    const program = agent([`--cloud=${relay.url}`, `--openai=${server.url}`, "--openai-key=runtime-key"], {
      LAIR_AGENT_KEY: key,
      LLM_V1_PROXY_TOKEN: "callers-key",
    });
    await program.until(/connected to the relay/);
    await waitUntil(async () => (await get(`${relay.url}/v1/models`)).text.includes('"demo"'), "its model is listed");
    await ask(`${relay.url}/v1/chat/completions`, { body: chat });
    expect(server.asked[0]?.request.headers.authorization).toBe("Bearer runtime-key");
  });

  asking("finishes the answer under way when it is asked to stop, and says how many there are", async () => {
    const { relay, key, states } = await relayWithKey();
    const server = await runtime();
    const program = agent([`--cloud=${relay.url}`, `--openai=${server.url}`], { LAIR_AGENT_KEY: key });
    await waitUntil(() => states().includes("home true 2"), "both connections stand");
    const exchange = open(`${relay.url}/v1/chat/completions`, { body: { ...chat, stream: true } });
    const asked = await server.next();
    beginStream(asked);
    asked.reply.write(chatEvent("one"));
    await (await exchange).until(/one/);
    program.child.kill("SIGTERM");
    await program.until(/stopping: calls under way \(1\) have 10m to finish; press again to end at once/);
    await waitUntil(() => !states().includes("home true 2"), "the relay knows");
    expect((await ask(`${relay.url}/v1/chat/completions`, { body: chat })).status).toBe(503);
    asked.reply.end(chatEvent("two"));
    const answer = await (await exchange).answer;
    expect([answer.clean, answer.text]).toEqual([true, chatEvent("one") + chatEvent("two")]);
    expect((await program.ended).code).toBe(0);
  });

  asking("ends at once on the second signal, and the caller sees that the answer broke off", async () => {
    const { relay, key } = await relayWithKey();
    const server = await runtime();
    const program = agent([`--cloud=${relay.url}`, `--openai=${server.url}`], { LAIR_AGENT_KEY: key });
    await waitUntil(async () => (await get(`${relay.url}/v1/models`)).text.includes('"demo"'), "its model is listed");
    const exchange = open(`${relay.url}/v1/chat/completions`, { body: { ...chat, stream: true } });
    const asked = await server.next();
    beginStream(asked);
    asked.reply.write(chatEvent("one"));
    await (await exchange).until(/one/);
    program.child.kill("SIGINT");
    await program.until(/stopping/);
    program.child.kill("SIGINT");
    expect((await program.ended).code).toBe(130);
    expect((await (await exchange).answer).clean).toBe(false);
  });

  it("goes over to the key that its file holds now, and the old one can be revoked", async () => {
    const { relay, keys, key, states } = await relayWithKey();
    const server = await runtime();
    const file = path.join(folder, "rotating.key");
    writeFileSync(file, `${key}\n`);
    const program = agent([`--cloud=${relay.url}`, `--openai=${server.url}`, "--key-file=rotating.key"]);
    await waitUntil(() => states().includes("home true 2"), "both connections stand");
    const next = await keys.rotate("home");
    writeFileSync(`${file}.new`, next.key);
    renameSync(`${file}.new`, file);
    const keyIds = (): unknown =>
      relay.fleet.agents().flatMap(({ connections }) => connections.map(({ keyId }) => keyId));
    await waitUntil(() => String(keyIds()) === "k2,k2", "both connections use the new key");
    await keys.revoke("home", "k1");
    relay.fleet.recheck();
    expect(keyIds()).toEqual(["k2", "k2"]);
    expect(program.output()).not.toMatch(/lost|revoked|refuse/);
    expect(program.output()).not.toContain(next.key);
  });

  asking("takes SIGHUP for a word that its key is another one, when no person is there", async () => {
    const { relay, key, states } = await relayWithKey();
    const server = await runtime();
    const program = agent([`--cloud=${relay.url}`, `--openai=${server.url}`], { LAIR_AGENT_KEY: key });
    await waitUntil(() => states().includes("home true 2"), "both connections stand");
    program.child.kill("SIGHUP");
    await program.until(/connecting anew[^]*connected to the relay[^]*connected to the relay/);
    await waitUntil(() => states().includes("home true 2"), "two connections stand, not more");
    program.child.kill("SIGTERM");
    expect((await program.ended).code).toBe(0);
  });

  it("says loudly that the relay refuses its key, without the key", async () => {
    const { relay } = await relayWithKey();
    const key = `lla_home_${"x".repeat(43)}`;
    const program = agent([`--cloud=${relay.url}`, "--key", key]);
    await program.until(/"level":"error"[^\n]*the relay refuses this agent/);
    await program.until(/"level":"warn"[^\n]*--key can be seen by every user of this machine/);
    expect(program.output()).not.toContain("--openai-key");
    expect(program.output()).not.toContain(key);
  });

  asking("warns of a key file that others can read", async () => {
    writeFileSync(path.join(folder, "open.key"), "lla_home_x", { mode: 0o644 });
    const program = agent(["--cloud=http://127.0.0.1:9", "--key-file=open.key"]);
    await program.until(/"level":"warn"[^\n]*open\.key can be read by other users of this machine; chmod 600/);
  });

  it("writes readable lines to a file of its own where nobody else keeps them", async () => {
    const program = agent(["--cloud=http://127.0.0.1:9", "--log-file=agent.log"]);
    const file = path.join(folder, "agent.log");
    await waitUntil(() => {
      try {
        return /info {2}agent started/.test(readFileSync(file, "utf8"));
      } catch {
        return false;
      }
    }, "the log holds a line");
    expect(program.output()).toBe("");
  });
});

describe("lair agent does not start", () => {
  it.each<[string, string[], Record<string, string>, RegExp]>([
    ["without a relay", [], {}, /--cloud is missing: the address of the relay, e\.g\. --cloud https:/],
    [
      "with what is no address",
      ["--cloud=relay.example:8081"],
      {},
      /is no address of a relay; write for example https:/,
    ],
    ["elsewhere without a key", ["--cloud=https://relay.example"], {}, /lair cloud agents add NAME[^]*--key-file/],
    [
      "elsewhere without TLS",
      ["--cloud=http://relay.example:8081"],
      { LAIR_AGENT_KEY: "lla_a_b" },
      /every prompt and answer would be readable[^]*--cloud https:\/\/relay\.example:8081[^]*--insecure/,
    ],
    ["with a word that it does not know", ["stop"], {}, /install-service, uninstall-service, service-status/],
    [
      "with a runtime's address that is none",
      ["--cloud=http://127.0.0.1:9", "--openai=ftp://x"],
      {},
      /cannot use "ftp:/,
    ],
  ])("%s", async (_name, args, env, message) => {
    const { code, stderr, stdout } = await run(["agent", ...args], { cwd: folder, env });
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(message);
  });

  it.each([
    ["is missing", undefined, /agent\.keyFile: cannot read none\.key: there is no such file/],
    ["holds two words", "lla_a_b lla_c_d", /none\.key must hold one key and nothing else/],
    ["is empty", "\n", /none\.key must hold one key and nothing else/],
  ])("with a key file that %s", async (_name, text, message) => {
    const cwd = mkdtempSync(path.join(folder, "key-"));
    if (text !== undefined) writeFileSync(path.join(cwd, "none.key"), text);
    const { code, stderr } = await run(["agent", "--cloud=https://relay.example", "--key-file=none.key"], { cwd });
    expect([code, stderr]).toEqual([1, expect.stringMatching(message)]);
    expect(stderr).not.toContain("lla_");
  });
});
