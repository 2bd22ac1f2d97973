import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { type Relay, startRelay } from "../../src/cloud.ts";
import { loadConfig } from "../../src/config/load.ts";
import { silent } from "../../src/core/log.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { ask, get, open } from "../support/tunnel-caller.ts";
import { type KeptLog, keptLog, waitUntil } from "../support/tunnel-log.ts";
import { answerJson, beginStream, chatEvent, SteeredRuntime } from "../support/tunnel-runtime.ts";
import { run, start } from "./program.ts";

let folder = "";
const closers: (() => unknown)[] = [];
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-publish-"));
  const scripts = [{ after: "\n", say: ["Good", " day", ", sir"] }];
  writeGguf(path.join(folder, "butler.gguf"), scriptedModel({ name: "butler", scripts }));
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

interface Published {
  readonly relay: Relay;
  readonly runtime: Runtime;
  readonly log: KeptLog;
}

/** A relay, and a runtime that offers its models there. */
async function publish(env: Record<string, string> = {}): Promise<Published> {
  const agents = path.join(mkdtempSync(path.join(folder, "relay-")), "agents.json");
  const keys = new AgentKeys(agents);
  const { key } = await keys.add("home");
  keys.close();
  const configure = async (more: Record<string, string>) =>
    (await loadConfig({ env: more, cwd: folder, home: folder })).config;
  const relay = await startRelay(
    await configure({ LAIR_RELAY_PORT: "0", LAIR_RELAY_AGENTS: agents, LLM_V1_PROXY_TOKEN: "relay-caller" }),
    silent,
    { version: "0.0.0-test", env: {} },
  );
  closers.push(() => relay.close());
  const log = keptLog();
  const config = await configure({
    LAIR_PUBLISH: relay.url,
    LAIR_AGENT_KEY: key,
    LAIR_PROVIDERS_OLLAMA_ENABLED: "false",
    LLAMA_CPP_CACHE_BYTES: "0",
    LLAMA_CPP_N_THREADS: "1",
    RUNTIME_LISTEN_PORT: "0",
    LLM_V1_PROXY_TOKEN: "runtime-caller",
    ...env,
  });
  const runtime = await startRuntime(config, log, { version: "0.0.0-test", env: {} });
  closers.push(() => runtime.close());
  await waitUntil(() => relay.fleet.agents().some(({ ready }) => ready), "the relay has the runtime's models");
  return { relay, runtime, log };
}

const atRelay = { authorization: "Bearer relay-caller" };
const chat = { model: "butler", messages: [{ role: "user", content: "hello" }] };

describe("lair serve --publish", () => {
  it("offers the models of the embedded engine at the relay, with the same answers and streams", async () => {
    const { relay, runtime, log } = await publish({ LLAMA_CPP_MODEL: path.join(folder, "butler.gguf") });
    const here = { authorization: "Bearer runtime-caller" };
    const ids = async (url: string, headers: Record<string, string>): Promise<string[]> =>
      (JSON.parse((await get(`${url}/v1/models`, headers)).text) as { data: { id: string }[] }).data.map(
        ({ id }) => id,
      );
    expect(await ids(relay.url, atRelay)).toEqual(await ids(runtime.url, here));

    const asked = { headers: atRelay, body: chat };
    const answer = JSON.parse((await ask(`${relay.url}/v1/chat/completions`, asked)).text) as Record<string, unknown>;
    expect(answer).toMatchObject({ model: "butler", choices: [{ message: { content: "Good day, sir" } }] });

    const streamed = { headers: atRelay, body: { ...chat, stream: true, stream_options: { include_usage: true } } };
    const stream = await ask(`${relay.url}/v1/chat/completions`, streamed);
    expect(stream.clean).toBe(true);
    const events = stream.text.split("\n\n").filter((event) => event.startsWith("data: {"));
    const deltas = events.map((event) => JSON.parse(event.slice(6)) as { choices: { delta: { content?: string } }[] });
    expect(deltas.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? "")).join("")).toBe(
      "Good day, sir",
    );
    expect(stream.text.trimEnd().endsWith("data: [DONE]")).toBe(true);
    await log.until(
      /info request .*"path":"\/v1\/chat\/completions","status":200,"model":"butler","provider":"llama_cpp"/,
    );
  });

  it("speaks of failures as the runtime does, and keeps what is the runtime's own for this machine", async () => {
    const { relay } = await publish({ LLAMA_CPP_MODEL: path.join(folder, "butler.gguf") });
    const wrong = { headers: atRelay, body: { ...chat, messages: "none" } };
    const refused = await ask(`${relay.url}/v1/chat/completions`, wrong);
    expect([refused.status, JSON.parse(refused.text)]).toMatchObject([400, { error: { param: "messages" } }]);
    const keyless = await ask(`${relay.url}/v1/chat/completions`, { body: chat });
    expect(keyless.status).toBe(401);
    // A key of the runtime's is none of the relay's.
    const other = await ask(`${relay.url}/v1/chat/completions`, {
      headers: { authorization: "Bearer runtime-caller" },
      body: chat,
    });
    expect(other.status).toBe(401);
  });

  it("counts calls of the relay and of this machine together against the limit", async () => {
    const upstream = await SteeredRuntime.start();
    closers.push(() => upstream.close());
    const { relay, runtime } = await publish({ ...toProvider(upstream.url), LAIR_LIMITS_CONCURRENT: "1" });
    const first = ask(`${relay.url}/v1/chat/completions`, { headers: atRelay, body: slow });
    const asked = await upstream.next();
    const second = await ask(`${runtime.url}/v1/chat/completions`, {
      headers: { authorization: "Bearer runtime-caller" },
      body: slow,
    });
    expect([second.status, JSON.parse(second.text)]).toMatchObject([429, { error: { code: "concurrency_limit" } }]);
    answerJson(asked, 200, whole);
    expect((await first).status).toBe(200);
  });

  it("lets answers for the relay's callers end before it stops, and takes no more", async () => {
    const upstream = await SteeredRuntime.start();
    closers.push(() => upstream.close());
    const { relay, runtime } = await publish(toProvider(upstream.url));
    const exchange = open(`${relay.url}/v1/chat/completions`, { headers: atRelay, body: { ...slow, stream: true } });
    const asked = await upstream.next();
    beginStream(asked);
    asked.reply.write(chatEvent("one"));
    await (await exchange).until(/one/);
    const closed = runtime.close();
    await waitUntil(() => relay.fleet.agents().every(({ ready }) => !ready), "the relay knows that it leaves");
    const late = await ask(`${relay.url}/v1/chat/completions`, { headers: atRelay, body: slow });
    expect(late.status).toBe(503);
    asked.reply.end(`${chatEvent("two")}data: [DONE]\n\n`);
    const answer = await (await exchange).answer;
    expect([answer.clean, /one[^]*two[^]*\[DONE\]/.test(answer.text)]).toEqual([true, true]);
    await closed;
  });

  it("says where its models are offered, and starts while the relay is not there", async () => {
    const args = ["serve", "--port=0", "--publish=http://127.0.0.1:9", "--set", "providers.ollama.enabled=false"];
    const program = start([...args, "--log-format=pretty"], { cwd: folder });
    closers.push(async () => {
      program.child.kill("SIGKILL");
      await program.ended;
    });
    await program.until(/is ready in [^]*Its models are offered at http:\/\/127\.0\.0\.1:9 too/);
    await program.until(/warn +cannot connect to the relay/);
  });

  it.each<[string, string[], Record<string, string>, RegExp]>([
    [
      "without TLS",
      ["--publish=http://relay.example"],
      { LAIR_AGENT_KEY: "lla_a_b" },
      /--publish https:\/\/relay\.example/,
    ],
    ["without a key", ["--publish=https://relay.example"], {}, /lair cloud agents add NAME[^]*LAIR_AGENT_KEY_FILE=/],
  ])("does not publish elsewhere %s", async (_name, args, env, message) => {
    const { code, stderr } = await run(["serve", ...args], { cwd: folder, env });
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });
});

const slow = { model: "demo", messages: [{ role: "user", content: "hello" }] };
const whole = {
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model: "demo",
  choices: [{ index: 0, message: { role: "assistant", content: "done" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
};

/** An upstream as the default provider. */
function toProvider(url: string): Record<string, string> {
  return {
    LAIR_PROVIDERS_SLOW_KIND: "openai",
    LAIR_PROVIDERS_SLOW_URLS: url,
    RUNTIME_PROVIDER: "slow",
  };
}
