import { afterAll, describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import type { Log } from "../../src/core/log.ts";
import { fromEngine } from "../../src/dialects/translate.ts";
import type { LlamaEngine } from "../../src/engines/llama/engine.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import type { LlamaSettings } from "../../src/engines/llama/settings.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { type Answer, readAnswer, startEngine, writeModel } from "../support/llama.ts";
import { chunksOf, post } from "../providers/calls.ts";

const never = new AbortController().signal;
const names = ["a", "b", "c"];
const paths = names.map((name) =>
  writeModel(`${name}.gguf`, scriptedModel({ scripts: [{ after: "\n", say: `I am ${name}.` }], contextLength: 1024 })),
);
// Its words mean nothing, but it goes on for as long as it may.
const endless = writeModel("endless.gguf", randomDecoder({ architecture: "qwen2", contextLength: 131_072 }));

/** An engine over a, b, c and endless, each of which needs 100 bytes, and what it said in its log. */
function start(settings: LlamaSettings): { engine: LlamaEngine; lines: string[]; waits: string[] } {
  const lines: string[] = [];
  const waits: string[] = [];
  const note = (fields: object, message: string): void => {
    const { model = "", reason } = fields as { model?: string; reason?: string };
    if (message === "waiting for memory") waits.push(model);
    if (/^(un)?loading model$/.test(message))
      lines.push([message === "loading model" ? "load" : "unload", model, reason].filter(Boolean).join(" "));
  };
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const sources = [...paths, endless].map((path) => ({ kind: "files", path }) as const);
  const { models = {}, ...others } = settings;
  const engine = startEngine(
    { sources, ...others, models: { "*": { memory: 100 }, "endles*": { contextLength: 32_768 }, ...models } },
    log,
  );
  return { engine, lines, waits };
}

function ask(
  engine: LlamaEngine,
  model: string,
  more: { keepAlive?: number; signal?: AbortSignal } = {},
): Promise<Answer> {
  const { signal = never, ...fields } = more;
  return readAnswer(engine.chat(chatRequest(model, "Who?", fields), signal));
}

function loaded(engine: LlamaEngine): string[] {
  return engine
    .processes()
    .map(({ model }) => model)
    .toSorted();
}

/** Asks for an answer without end; resolves once it speaks. `leave` ends it. */
async function keepBusy(engine: LlamaEngine): Promise<{ leave: () => void; over: Promise<unknown> }> {
  const controller = new AbortController();
  const stream = engine.chat(chatRequest("endless", "Go on", { ignoreEos: true }), controller.signal);
  const iterator: AsyncIterator<ChatEvent> = stream[Symbol.asyncIterator]();
  for (;;) {
    const step = await iterator.next();
    if (step.done === true) throw new Error("the endless model ended");
    if (step.value.type === "text") break;
  }
  const rest = (async () => {
    while ((await iterator.next()).done !== true);
  })();
  return { leave: () => controller.abort(), over: rest.catch(() => undefined) };
}

const open: (() => void)[] = [];
afterAll(() => open.forEach((leave) => leave()));

async function busy(engine: LlamaEngine): Promise<{ leave: () => void; over: Promise<unknown> }> {
  const holder = await keepBusy(engine);
  open.push(holder.leave);
  return holder;
}

describe("a memory budget", () => {
  test("keeps as many models as it has room for, and gives up the one unused for longest", async () => {
    const { engine, lines } = start({ memoryBudget: 250 });
    for (const model of ["a", "b", "a", "c"]) expect((await ask(engine, model)).text).toBe(`I am ${model}.`);
    expect(loaded(engine)).toEqual(["a", "c"]);
    await ask(engine, "b");
    expect(loaded(engine)).toEqual(["b", "c"]);
    expect(lines).toEqual(["load a", "load b", "unload b room for c", "load c", "unload a room for b", "load b"]);
  });

  test("makes several leave for a large one, but never a pinned one", async () => {
    const { engine, lines } = start({ memoryBudget: 300, models: { a: { pinned: true }, c: { memory: 200 } } });
    for (const model of ["a", "b", "endless"]) await engine.load(model, never);
    await ask(engine, "c");
    expect(loaded(engine)).toEqual(["a", "c"]);
    expect(lines.slice(3).toSorted()).toEqual(["load c", "unload b room for c", "unload endless room for c"]);
  });

  test("refuses what can never fit with the figures and a way out, and starts no process for it", async () => {
    const { engine } = start({
      memoryBudget: 5 * 1024 ** 3,
      models: {
        a: { memory: 6 * 1024 ** 3 },
        b: { memory: 3 * 1024 ** 3, pinned: true },
        c: { memory: 3 * 1024 ** 3 },
      },
    });
    await expect(ask(engine, "a")).rejects.toMatchObject({
      code: "model_too_large",
      message: expect.stringMatching(/^a needs about 6\.0 GiB .* may use 5\.0 GiB: .*llama\.memoryBudget/),
    });
    expect(loaded(engine)).toEqual([]);
    await ask(engine, "b");
    await expect(ask(engine, "c")).rejects.toThrow(/pinned models \(b\) hold 3\.0 GiB/);
    const unlimited = start({ memoryBudget: "unlimited", models: { a: { memory: 6 * 1024 ** 4 } } });
    expect((await ask(unlimited.engine, "a")).text).toBe("I am a.");
  });

  test("never takes a busy model's memory; who needs it waits, and then is served", async () => {
    const { engine, lines, waits } = start({ memoryBudget: 100 });
    const holder = await busy(engine);
    const waiting = ask(engine, "a");
    const gone = new AbortController();
    const leaving = ask(engine, "b", { signal: gone.signal });
    await expect.poll(() => waits).toEqual(["endless", "a", "b"]);
    gone.abort();
    await expect(leaving).rejects.toMatchObject({ code: "client_closed_request" });
    expect(loaded(engine)).toEqual(["endless"]);
    holder.leave();
    expect((await waiting).text).toBe("I am a.");
    expect(lines).toEqual(["load endless", "unload endless room for a", "load a"]);
  });

  test("does not let a model in steady use keep another out: who came first is served first, like with like", async () => {
    const { engine, lines, waits } = start({ memoryBudget: 100 });
    const holder = await busy(engine);
    const order: string[] = [];
    const asked: Promise<unknown>[] = [];
    for (const model of ["a", "endless", "a", "b", "endless"]) {
      const answer = readAnswer(engine.chat(chatRequest(model, "Who?", { maxTokens: 3 }), never));
      asked.push(answer.then(() => order.push(model)));
      await expect.poll(() => waits.length).toBe(asked.length + 1);
    }
    holder.leave();
    await Promise.all(asked);
    expect(order).toEqual(["a", "a", "endless", "endless", "b"]);
    expect(lines.filter((line) => line.startsWith("load"))).toEqual([
      "load endless",
      "load a",
      "load endless",
      "load b",
    ]);
  });

  test("a waiting load that is given up does not keep the busy model's own requests out", async () => {
    const { engine, waits } = start({ memoryBudget: 100 });
    const holder = await busy(engine);
    const gone = new AbortController();
    const given = ask(engine, "a", { signal: gone.signal });
    await expect.poll(() => waits).toEqual(["endless", "a"]);
    const behind = readAnswer(engine.chat(chatRequest("endless", "Who?", { maxTokens: 3 }), never));
    await expect.poll(() => waits).toEqual(["endless", "a", "endless"]);
    gone.abort();
    await expect(given).rejects.toMatchObject({ code: "client_closed_request" });
    expect((await behind).reason).toBe("length");
    expect(loaded(engine)).toEqual(["endless"]);
    holder.leave();
    await holder.over;
  });

  test("many first requests share one load", async () => {
    const { engine, lines } = start({ memoryBudget: 100, maxSessions: 4 });
    const answers = await Promise.all(Array.from({ length: 6 }, () => ask(engine, "a")));
    expect(new Set(answers.map(({ text }) => text))).toEqual(new Set(["I am a."]));
    expect(lines).toEqual(["load a"]);
  });

  test("a model whose process has died gives its room back", async () => {
    const { engine } = start({ memoryBudget: 100 });
    await ask(engine, "b");
    const [{ pid } = { pid: 0 }] = engine.processes();
    process.kill(pid, "SIGKILL");
    await expect.poll(() => loaded(engine)).toEqual([]);
    expect((await ask(engine, "c")).text).toBe("I am c.");
  });
});

describe("the time in memory", () => {
  test("ends after the model was unused for as long as is set, and the list tells when", async () => {
    const { engine, lines } = start({ keepAlive: 40, models: { b: { keepAlive: 3_600_000 }, c: { pinned: true } } });
    const before = Date.now();
    for (const model of ["a", "b", "c"]) await ask(engine, model);
    const { expiresAt = 0, memoryBytes } = (await engine.models()).find(({ id }) => id === "b") ?? {};
    expect([memoryBytes, expiresAt >= before + 3_600_000 && expiresAt <= Date.now() + 3_600_000]).toEqual([100, true]);
    await expect.poll(() => loaded(engine)).toEqual(["b", "c"]);
    expect(lines).toContain("unload a unused for 0.04 s");
    expect((await engine.models()).find(({ id }) => id === "c")?.expiresAt).toBeUndefined();
  });

  test("is the request's to choose: 0 ends it with the answer, −1 never, and the next request chooses anew", async () => {
    const { engine } = start({ keepAlive: 40 });
    await ask(engine, "a", { keepAlive: -1 });
    await ask(engine, "b", { keepAlive: 0 });
    await expect.poll(() => loaded(engine)).toEqual(["a"]);
    await engine.load("c", never, 60);
    await engine.load("c", never, -1);
    expect((await engine.models()).find(({ id }) => id === "c")?.expiresAt).toBeUndefined();
    await engine.load("c", never, 3600);
    expect((await engine.models()).map(({ expiresAt }) => expiresAt !== undefined)).toEqual([
      false,
      false,
      true,
      false,
    ]);
    await ask(engine, "a");
    await expect.poll(() => loaded(engine)).toEqual(["c"]);
  });

  test("ends on demand: at once where the model is idle, else when its answer is done", async () => {
    const { engine } = start({});
    await engine.load("a", never);
    expect(loaded(engine)).toEqual(["a"]);
    await engine.unload("a");
    expect(loaded(engine)).toEqual([]);
    const holder = await busy(engine);
    await engine.unload("endless");
    expect(loaded(engine)).toEqual(["endless"]);
    holder.leave();
    await expect.poll(() => loaded(engine)).toEqual([]);
    await expect(engine.unload("nobody")).rejects.toMatchObject({ code: "model_not_found" });
  });
});

describe("settings of one model", () => {
  test("win over the engine's, by id or pattern, the later over the earlier", async () => {
    const { engine } = start({
      maxNewTokens: 7,
      models: { "en*": { maxNewTokens: 2, contextLength: 256 }, endless: { maxNewTokens: 4 } },
    });
    expect((await ask(engine, "endless")).usage?.completionTokens).toBe(4);
    const models = await engine.models();
    expect(models.find(({ id }) => id === "endless")).toMatchObject({ contextLength: 256, maxOutput: 4 });
    expect(models.find(({ id }) => id === "a")).toMatchObject({ contextLength: 1024, maxOutput: 7 });
  });
});

test("who streams over HTTP sees the load go on", async () => {
  const { engine } = start({});
  const provider = fromEngine(engine);
  const reply = await post(provider, "/v1/chat/completions", {
    model: "endless",
    stream: true,
    max_tokens: 2,
    messages: [{ role: "user", content: "Go" }],
  });
  let text = "";
  for await (const chunk of chunksOf(reply)) text += chunk;
  expect(text).toMatch(/: loading \d+\/1000\n\n[\s\S]*\[DONE\]/);
});
