import { randomUUID } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import type { Log } from "../../src/core/log.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { startFakeOllama } from "../support/fake-ollama.ts";
import type { Step } from "../support/fake-server.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";
import { callerKey, startChain } from "../support/tunnel-chain.ts";
import { toolCall, writePlay } from "../support/opencode-model.ts";
import { holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { findOpencode, makeWorkplace, type OpencodeRun, runOpencode, type Workplace } from "../support/opencode.ts";

const example = fileURLToPath(new URL("../../examples/opencode/opencode.json", import.meta.url));
const key = `key-${randomUUID()}`;
/** The title and three turns make four; a client in an endless loop makes hundreds (clients.md R1). */
const tooManyRequests = 20;

let program: string | undefined;
let missing: string | undefined;
let workplace: Workplace | undefined;
const closing: (() => Promise<void>)[] = [];

beforeAll(async () => {
  const found = await findOpencode();
  if ("program" in found) ({ program } = found);
  else {
    missing = found.missing;
    console.warn(`The tests with the real opencode are skipped: ${missing}.`);
  }
}, 16 * 60_000);

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  workplace?.remove();
  workplace = undefined;
});

/** Copy a token from a file into another, which takes two tools and an answer. */
interface Task extends Workplace {
  readonly token: string;
  readonly input: string;
  readonly output: string;
  readonly prompt: string;
}

function makeTask(): Task {
  workplace = makeWorkplace();
  const token = `TOKEN-${randomUUID()}`;
  const input = path.join(workplace.repository, "input.txt");
  const output = path.join(workplace.repository, "output.txt");
  writeFileSync(input, `${token}\n`);
  copyFileSync(example, path.join(workplace.repository, "opencode.json"));
  return {
    ...workplace,
    token,
    input,
    output,
    prompt: "Copy the token of input.txt into output.txt, then say DONE and the token.",
  };
}

/** What a model would say to finish the task: a title where there are no tools, else the next step. */
function play({ input, output, token }: Task, body: JsonObject, finish = "stop"): Step[] {
  if (body.tools === undefined) return [{ text: "Copying " }, { text: "a token" }, { finish: "stop" }];
  const done = toolResults(body);
  if (done === 0)
    return [
      { text: "I will read the file." },
      { call: { id: "call_1", name: "read", arguments: { filePath: input } } },
      { finish, prompt: 7001, completion: 31 },
    ];
  if (done === 1)
    return [
      { call: { id: "call_2", name: "write", arguments: { filePath: output, content: `${token}\n` } } },
      { finish, prompt: 7201, completion: 47 },
    ];
  return [{ text: "DONE " }, { text: token }, { finish: "stop", prompt: 7301, completion: 9 }];
}

function messagesOf(body: JsonObject): JsonObject[] {
  return Array.isArray(body.messages) ? body.messages.filter(isObject) : [];
}

function toolResults(body: JsonObject): number {
  return messagesOf(body).filter(({ role }) => role === "tool").length;
}

interface Setup {
  /** As the runtime names it. */
  readonly model: string;
  /** Variables that configure the runtime. */
  readonly env: Record<string, string>;
  /** Models that the example does not name, as opencode is told of them. */
  readonly models?: JsonObject;
  /** The runtime is reached through a relay, with an agent of this name beside it. */
  readonly agent?: string;
  /** The relay is reached through a gateway over this place, with a managed key of it. */
  readonly place?: Place;
  readonly signal: AbortSignal;
}

interface Finished extends OpencodeRun {
  /** Every request that the runtime answered. */
  readonly requests: readonly { status: number; model?: string; end: string }[];
  /** What the runtime warned of. */
  readonly warnings: readonly string[];
}

/** Starts a runtime and lets opencode do the task with one of its models. */
async function finish(task: Task, { model, env, models = {}, agent, place, signal }: Setup): Promise<Finished> {
  const requests: { status: number; model?: string; end: string }[] = [];
  const warnings: string[] = [];
  const looping = new AbortController();
  const warn = (fields: object, message: string): void => void warnings.push(`${message} ${JSON.stringify(fields)}`);
  const info = (fields: object, message: string): void => {
    if (message !== "request") return;
    requests.push(fields as (typeof requests)[number]);
    if (requests.length > tooManyRequests) looping.abort();
  };
  const log: Log = { debug() {}, info, warn, error: warn };
  const runtime = await startHere(task, env, log);
  const relay = agent === undefined ? { url: runtime.url, apiKey: key } : await relayed(runtime, agent);
  const { url, apiKey } = place === undefined ? relay : await guarded(place, relay);
  const local: JsonObject = { options: { baseURL: `${url}/v1` }, models };
  const run = await runOpencode({
    ...task,
    program: program as string,
    model: `local/${model}`,
    config: { small_model: `local/${model}`, provider: { local } },
    env: { LOCAL_API_KEY: apiKey },
    signal: AbortSignal.any([signal, looping.signal]),
  });
  return { ...run, requests, warnings };
}

async function startHere(task: Task, env: Record<string, string>, log: Log): Promise<Runtime> {
  const { config } = await loadConfig({
    env: { RUNTIME_LISTEN_PORT: "0", LLAMA_CPP_CACHE_BYTES: "0", LLM_V1_PROXY_TOKEN: key, ...env },
    cwd: task.home,
    home: task.home,
  });
  const runtime = await startRuntime(config, log, { version: "0.0.0-test" });
  closing.push(() => runtime.close());
  return runtime;
}

/** A relay, and an agent beside the runtime. */
async function relayed(runtime: Runtime, agent: string): Promise<{ url: string; apiKey: string }> {
  const agentEnv = { LAIR_AGENT_OPENAI_KEY: key };
  const chain = await startChain({ runtime: runtime.url, agents: [agent], agentEnv });
  closing.push(() => chain.close());
  return { url: chain.url, apiKey: callerKey };
}

/** A gateway before the relay, and a key that it has made. */
async function guarded(place: Place, relay: { url: string; apiKey: string }): Promise<{ url: string; apiKey: string }> {
  const apiKey = await place.createKey("opencode", { models: ["llama_cpp:*"], limits: { requestsPerMinute: 600 } });
  const gateway = await holdGateway(place, `home=${relay.url}`, { LAIR_GATEWAY_UPSTREAMS_HOME_KEY: relay.apiKey });
  closing.push(() => gateway.close());
  return { url: gateway.url, apiKey };
}

function expectDone(task: Task, run: Finished, complaints: unknown[] = []): void {
  expect(run.requests.length, "requests until it was ended").toBeLessThan(tooManyRequests);
  expect(run.complaints).toEqual(complaints);
  expect(run.tools).toEqual([
    { name: "read", status: "completed", input: { filePath: task.input } },
    { name: "write", status: "completed", input: { filePath: task.output, content: `${task.token}\n` } },
  ]);
  expect(readFileSync(task.output, "utf8")).toBe(`${task.token}\n`);
  expect(run.texts.at(-1)).toBe(`DONE ${task.token}`);
  expect(run.code).toBe(0);
  expect(run.steps.map(({ reason }) => reason)).toEqual(["tool-calls", "tool-calls", "stop"]);
}

/** A folder with a model that does the task and one that does not, and how runtime and opencode are told of them. */
function copyist(task: Task): { id: string; models: JsonObject; env: Record<string, string> } {
  const folder = path.join(task.home, "models");
  mkdirSync(folder);
  writeGguf(path.join(folder, "other.gguf"), scriptedModel({ scripts: [{ after: "\n", say: "I am another." }] }));
  writePlay(path.join(folder, "copyist.gguf"), {
    title: "Copying a token",
    turns: [
      `I will read the file.\n${toolCall("read", { filePath: task.input })}`,
      toolCall("write", { filePath: task.output, content: `${task.token}\n` }),
      `DONE ${task.token}`,
    ],
  });
  const id = "llama_cpp:copyist";
  // Its vocabulary has little more than single bytes: opencode's prompt of 31 kB is 31,000 tokens.
  const models: JsonObject = { [id]: { tool_call: true, limit: { context: 65536, output: 4096 } } };
  // So small a model gains nothing by a GPU, and a second thread where cores are scarce costs it more than it gives.
  const env = {
    LLAMA_CPP_MODEL: folder,
    LLAMA_CPP_CACHE_DIR: path.join(task.home, "prompts"),
    LLAMA_CPP_CACHE_BYTES: "1GB",
    LLAMA_CPP_N_CTX: "65536",
    LLAMA_CPP_N_GPU_LAYERS: "0",
    LLAMA_CPP_N_THREADS: "1",
  };
  return { id, models, env };
}

describe("the real opencode reads a file and writes another", () => {
  it("with a model of Ollama", { timeout: 180_000 }, async ({ signal, skip }) => {
    if (missing !== undefined) return skip(missing);
    const task = makeTask();
    const ollama = await startFakeOllama({ models: [{ name: "qwen3:8b" }], reply: (body) => play(task, body) });
    closing.push(() => ollama.close());

    const run = await finish(task, { model: "ollama:qwen3:8b", env: { OLLAMA_HOST: ollama.url }, signal });

    expectDone(task, run);
    expect(run.warnings).toEqual([]);
    expect(run.requests).toHaveLength(4);
    expect(
      run.requests.every(
        ({ status, end, model }) => status === 200 && end === "complete" && model === "ollama:qwen3:8b",
      ),
    ).toBe(true);
    expect(run.steps.map(({ promptTokens, completionTokens }) => [promptTokens, completionTokens])).toEqual([
      [7001, 31],
      [7201, 47],
      [7301, 9],
    ]);
    const asked = ollama.to("/api/chat").map(({ body }) => body);
    expect(asked).toHaveLength(4);
    expect(asked.every(({ model, stream }) => model === "qwen3:8b" && stream === true)).toBe(true);
    expect(ollama.loads).toEqual([{ model: "qwen3:8b", numCtx: 32768 }]);
    const last = asked.find((body) => toolResults(body) === 2);
    expect(messagesOf(last ?? {}).map(({ role }) => role)).toEqual([
      "system",
      "user",
      "assistant",
      "tool",
      "assistant",
      "tool",
    ]);
    expect(toolNames(last)).toEqual(expect.arrayContaining(["bash", "edit", "read", "write"]));
    const [, , , content] = messagesOf(last ?? {});
    expect(content).toMatchObject({ tool_name: "read" });
    expect(content?.content).toContain(task.token);
  });

  it(
    "with a model of vLLM that thinks, though its server dies once in the middle of an answer",
    { timeout: 180_000 },
    async ({ signal, skip }) => {
      if (missing !== undefined) return skip(missing);
      const task = makeTask();
      let died = false;
      const vllm = await startFakeVllm({
        contextLength: 32768,
        reply(body) {
          if (toolResults(body) !== 1 || died)
            return [{ reasoning: "The user wants a copy." }, ...play(task, body, "tool_calls")];
          died = true;
          return [{ text: "Now I wri" }, { die: true }];
        },
      });
      closing.push(() => vllm.close());

      const run = await finish(task, { model: "vllm:Qwen/Qwen3-8B", env: { VLLM_HOST: vllm.url }, signal });

      expectDone(task, run, [expect.stringMatching(/stream error.*broke the connection/)]);
      const asked = vllm.to("/v1/chat/completions").map(({ body }) => body);
      // The title, three turns and one repetition.
      expect(asked).toHaveLength(5);
      expect(asked.every(({ model }) => model === "Qwen/Qwen3-8B")).toBe(true);
    },
  );

  it(
    "with a model of a folder by the embedded llama.cpp, and after a restart without reading the prompt again",
    { timeout: 180_000 },
    async ({ signal, skip }) => {
      if (missing !== undefined) return skip(missing);
      const task = makeTask();
      const { id, models, env } = copyist(task);

      const run = await finish(task, { model: id, env, models, signal });

      expectDone(task, run);
      expect(run.warnings).toEqual([]);
      // opencode does not wait for the title.
      expect(run.requests.length).toBeLessThanOrEqual(4);
      // Each turn computes what is new in it, not the 31,000 tokens before.
      for (const { promptTokens, cachedTokens } of run.steps.slice(1))
        expect(promptTokens - cachedTokens).toBeLessThan(1000);

      for (const close of closing.splice(0).reverse()) await close();
      rmSync(task.output);
      const again = await finish(task, { model: id, env, models, signal });

      expectDone(task, again);
      for (const { promptTokens, cachedTokens } of again.steps) expect(promptTokens - cachedTokens).toBeLessThan(1000);
    },
  );

  it(
    "with the embedded llama.cpp at home, through a relay and the agent beside it",
    { timeout: 180_000 },
    async ({ signal, skip }) => {
      if (missing !== undefined) return skip(missing);
      const task = makeTask();
      const { id, models, env } = copyist(task);

      const run = await finish(task, { model: id, env, models, agent: "home", signal });

      expectDone(task, run);
      expect(run.warnings).toEqual([]);
      expect(run.requests.every(({ status, end }) => status === 200 && end === "complete")).toBe(true);
    },
  );

  it(
    "with the embedded llama.cpp at home, through a gateway that asks for a key, a relay and an agent",
    { timeout: 180_000 },
    async ({ signal, skip }) => {
      if (missing !== undefined) return skip(missing);
      const task = makeTask();
      const { id, models, env } = copyist(task);
      const place = await openPlace();
      closing.push(() => place.close());

      const run = await finish(task, { model: id, env, models, agent: "home", place, signal });

      expectDone(task, run);
      expect(run.warnings).toEqual([]);
      const records = await place.records(run.requests.length);
      const { id: keyId } = (await place.state.keys.find("opencode")) ?? {};
      for (const record of records)
        expect(record).toMatchObject({ key: keyId, model: id, provider: "home", agent: "home", outcome: "complete" });
      // What the gateway has counted is what opencode was told.
      for (const { promptTokens, cachedTokens, completionTokens } of run.steps)
        expect(records).toContainEqual(expect.objectContaining({ promptTokens, cachedTokens, completionTokens }));
    },
  );
});

function toolNames(body: JsonObject = {}): unknown[] {
  const tools = Array.isArray(body.tools) ? body.tools.filter(isObject) : [];
  return tools.map((tool) => (isObject(tool.function) ? tool.function.name : undefined));
}
