import { describe, expect, test } from "vitest";
import type { ByteStream } from "../../src/core/bytes.ts";
import { Call, type Reply } from "../../src/core/call.ts";
import type { ChatEvent, ChatRequest } from "../../src/core/chat.ts";
import type { Engine } from "../../src/core/engine.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { JsonObject } from "../../src/core/json.ts";
import type { Provider } from "../../src/core/provider.ts";
import type { LiftOptions } from "../../src/dialects/lift.ts";
import { fromEngine, translated } from "../../src/dialects/translate.ts";
import { dataOf, finish, saying, text } from "../support/chat.ts";
import { expectValid } from "../support/openai-spec.ts";

const messages = [{ role: "user", content: "hi" }];

function engineWith(change: Partial<Engine>): Engine {
  return {
    name: "box",
    kind: "fake",
    chat: () => saying(text("Hi"), finish()),
    models: async () => [],
    health: async () => ({ ok: true }),
    close: async () => undefined,
    ...change,
  };
}

interface Asked {
  readonly reply: Promise<Reply>;
  readonly leave: () => void;
}

function ask(provider: Provider, path: string, body: JsonObject): Asked {
  const client = new AbortController();
  const call = new Call({
    id: "req/1",
    method: "POST",
    path,
    signal: client.signal,
    body: Buffer.from(JSON.stringify(body)),
  });
  call.target = { provider, model: "m", requested: "box:m" };
  return { reply: provider.handle(call), leave: () => client.abort() };
}

const chat = (engine: Partial<Engine>, body: JsonObject = {}, options: LiftOptions = {}): Asked =>
  ask(fromEngine(engineWith(engine), options), "/v1/chat/completions", { messages, ...body });

/** Everything that the body says; `ended` tells how. */
function read(reply: Reply): Promise<{ frames: string[]; ended: "end" | Error }> {
  const stream = reply.body as ByteStream;
  const frames: string[] = [];
  return new Promise((resolve) => {
    stream.start({
      write: (chunk) => frames.push(String(chunk)) > 0,
      end: () => resolve({ frames, ended: "end" }),
      fail: (error) => resolve({ frames, ended: error }),
    });
  });
}

const jsonOf = (reply: Reply): unknown => JSON.parse(String(reply.body));

/** An answer that fails, at once or when the promise says so. */
function failing(error: Error | Promise<Error>): AsyncIterable<ChatEvent> {
  const next = async (): Promise<never> => {
    throw await error;
  };
  return { [Symbol.asyncIterator]: () => ({ next }) };
}

/** An engine whose events come when the test says so. */
function gated(): {
  chat: Engine["chat"];
  say: (event: ChatEvent) => void;
  fail: (error: Error) => void;
  signal: () => AbortSignal | undefined;
  left: Promise<void>;
} {
  const waiting: ((step: () => ChatEvent) => void)[] = [];
  const ready: (() => ChatEvent)[] = [];
  let seen: AbortSignal | undefined;
  let leave = (): void => undefined;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const put = (step: () => ChatEvent): void => {
    const taker = waiting.shift();
    if (taker === undefined) ready.push(step);
    else taker(step);
  };
  const next = (signal: AbortSignal): Promise<() => ChatEvent> => {
    const step = ready.shift();
    if (step !== undefined) return Promise.resolve(step);
    return new Promise((resolve, reject) => {
      if (signal.aborted) reject(new DOMException("aborted", "AbortError"));
      waiting.push(resolve);
      signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")), { once: true });
    });
  };
  return {
    async *chat(_request, signal) {
      seen = signal;
      try {
        for (;;) yield (await next(signal))();
      } finally {
        leave();
      }
    },
    say: (event) => put(() => event),
    fail: (error) =>
      put(() => {
        throw error;
      }),
    signal: () => seen,
    left,
  };
}

describe("the status line", () => {
  test("tells of a failure before the first token, and who failed", async () => {
    const chatting = async function* (): AsyncGenerator<ChatEvent> {
      yield { type: "progress", phase: "loading", done: 1, total: 2 };
      throw new ApiError("context_length_exceeded", "too long", { param: "messages" });
    };
    await expect(chat({ chat: chatting }, { stream: true }).reply).rejects.toMatchObject({
      status: 400,
      param: "messages",
      provider: "box",
    });
  });

  test("waits for the first token, not for progress", async () => {
    const engine = gated();
    const { reply } = chat(engine, { stream: true }, { headDelay: 60_000 });
    engine.say({ type: "progress", phase: "queued", position: 1 });
    engine.say({ type: "progress", phase: "prefill", done: 1, total: 2 });
    expect(await Promise.race([reply, new Promise((resolve) => setImmediate(() => resolve("waits")))])).toBe("waits");
    engine.say(text("Hi"));
    engine.say(finish());
    const { frames } = await read(await reply);
    expect(frames.slice(0, 2)).toEqual([": queued 1 ahead\n\n", ": prefill 1/2\n\n"]);
  });

  test("goes out as soon as the request is accepted, however long the model takes to come", async () => {
    const engine = gated();
    const { reply } = chat(engine, { stream: true }, { headDelay: 60_000 });
    engine.say({ type: "progress", phase: "loading", done: 0, total: 1000, accepted: true });
    const result = read(await reply);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    engine.say(text("Hi"));
    engine.say(finish());
    const { frames, ended } = await result;
    expect([frames[0], ended]).toEqual([": loading 0/1000\n\n", "end"]);
  });

  test("goes out at the deadline, and a heartbeat with it; what comes later is told in the stream", async () => {
    const engine = gated();
    const reply = await chat(engine, { stream: true }, { headDelay: 1 }).reply;
    expect(reply).toMatchObject({
      status: 200,
      headers: {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
      },
    });
    const result = read(reply);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    engine.say({ type: "progress", phase: "loading", done: 500, total: 1000 });
    engine.fail(new ApiError("engine_crashed", "gone"));
    const { frames, ended } = await result;
    expect(frames.slice(0, 2)).toEqual([": ping\n\n", ": loading 500/1000\n\n"]);
    expect(dataOf(frames)).toMatchObject([{ error: { code: "engine_crashed" }, provider: "box" }, "[DONE]"]);
    expect(ended).toBe("end");
  });

  test("of Responses goes out with its own opening, for SDKs want `response.created` first", async () => {
    const engine = gated();
    const reply = await ask(fromEngine(engineWith(engine), { headDelay: 1 }), "/v1/responses", {
      input: "hi",
      stream: true,
    }).reply;
    const result = read(reply);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    engine.say(text("Hi"));
    engine.say(finish());
    expect(dataOf((await result).frames)[0]).toMatchObject({ type: "response.created" });
  });
});

test("silence is filled with heartbeats, speech is not", async () => {
  const engine = gated();
  engine.say(text("Hi"));
  const reply = await chat(engine, { stream: true }, { heartbeatInterval: 5 }).reply;
  const frames: string[] = [];
  const ended = new Promise<void>((resolve) => {
    (reply.body as ByteStream).start({
      write(chunk) {
        frames.push(String(chunk));
        if (frames.filter((frame) => frame === ": ping\n\n").length === 3) engine.say(finish());
        return true;
      },
      end: () => resolve(),
      fail: () => resolve(),
    });
  });
  await ended;
  expect(frames.filter((frame) => frame === ": ping\n\n")).toHaveLength(3);
});

describe("a client that leaves", () => {
  test.each([true, false])(
    "before the first token ends the engine's work, though the engine heeds nothing (stream: %s)",
    async (stream) => {
      let signal: AbortSignal | undefined;
      const deaf = (_request: ChatRequest, given: AbortSignal): AsyncIterable<ChatEvent> => {
        signal = given;
        return { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) };
      };
      const { reply, leave } = chat({ chat: deaf }, { stream });
      await Promise.resolve();
      leave();
      await expect(reply).rejects.toMatchObject({ code: "client_closed_request" });
      expect(signal?.aborted).toBe(true);
    },
  );

  test("in the midst ends the engine's work, and what it got does not look complete", async () => {
    const engine = gated();
    engine.say(text("Hi"));
    const { reply, leave } = chat(engine, { stream: true });
    const result = read(await reply);
    leave();
    await engine.left;
    expect((await result).ended).toBeInstanceOf(Error);
  });

  test("is known by its stream being cancelled too", async () => {
    const engine = gated();
    engine.say(text("Hi"));
    const reply = await chat(engine, { stream: true }).reply;
    void read(reply);
    (reply.body as ByteStream).cancel();
    await engine.left;
    expect(engine.signal()?.aborted).toBe(true);
  });

  test("ends a call without a stream as well", async () => {
    const engine = gated();
    const { reply, leave } = chat(engine);
    engine.say(text("Hi"));
    await Promise.resolve();
    leave();
    await expect(reply).rejects.toThrow();
    await engine.left;
  });
});

test("a reader that does not keep up holds the engine back", async () => {
  let made = 0;
  const eager = async function* (): AsyncGenerator<ChatEvent> {
    for (; made < 1000; made++) yield text("x");
    yield finish();
  };
  const reply = await chat({ chat: eager }, { stream: true }).reply;
  const stream = reply.body as ByteStream;
  let taken = 0;
  await new Promise<void>((resolve) => {
    stream.start({
      write() {
        taken++;
        if (taken === 3) setImmediate(resolve);
        return taken < 3;
      },
      end: () => undefined,
      fail: () => undefined,
    });
  });
  expect(taken).toBe(3);
  expect(made).toBeLessThan(10);
  stream.cancel();
});

describe("several answers", () => {
  test("are asked for one by one, each with a seed of its own", async () => {
    const asked: ChatRequest[] = [];
    const chatting = (request: ChatRequest): AsyncIterable<ChatEvent> => {
      asked.push(request);
      return saying(text(`answer ${request.seed}`), finish());
    };
    const reply = await chat({ chat: chatting }, { n: 3, seed: 5 }).reply;
    expect(asked.map(({ n, seed }) => [n, seed])).toEqual([
      [1, 5],
      [1, 6],
      [1, 7],
    ]);
    expect(jsonOf(reply)).toMatchObject({
      model: "box:m",
      choices: [5, 6, 7].map((seed, index) => ({ index, message: { content: `answer ${seed}` } })),
      usage: { prompt_tokens: 7, completion_tokens: 9 },
    });
  });

  test("fail together, and the others are ended", async () => {
    const signals: AbortSignal[] = [];
    const chatting = (_request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> => {
      signals.push(signal);
      if (signals.length === 2) return failing(new ApiError("insufficient_memory", "full"));
      return failing(new Promise((resolve) => signal.addEventListener("abort", () => resolve(new Error("ended")))));
    };
    await expect(chat({ chat: chatting }, { n: 2, stream: true }).reply).rejects.toMatchObject({
      code: "insufficient_memory",
    });
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
  });
});

test("what an engine cannot do is refused by name", async () => {
  const provider = fromEngine(engineWith({}));
  expect(provider.speaks.has("/v1/chat/completions")).toBe(true);
  for (const path of ["/v1/rerank", "/v1/embeddings", "/tokenize"] as const)
    expect(provider.speaks.has(path)).toBe(false);
  await expect(ask(provider, "/v1/rerank", {}).reply).rejects.toMatchObject({
    status: 400,
    code: "unsupported_capability",
    provider: "box",
  });
});

test("a body that is no object is refused", async () => {
  await expect(
    ask(fromEngine(engineWith({})), "/v1/chat/completions", [] as unknown as JsonObject).reply,
  ).rejects.toMatchObject({ code: "invalid_type" });
});

describe("completions", () => {
  const complete: Engine["complete"] = ({ prompt, topLogprobs }) =>
    topLogprobs === undefined
      ? saying(text(`<${String(prompt)}>`), finish("length"))
      : saying(
          text("ab"),
          {
            type: "logprobs",
            tokens: [{ token: "ab", logprob: -1, bytes: null, top: [{ token: "ab", logprob: -1, bytes: null }] }],
          },
          finish(),
        );
  const completion = async (body: JsonObject): Promise<Reply> =>
    ask(fromEngine(engineWith({ complete })), "/v1/completions", body).reply;

  test("number their answers prompt by prompt", async () => {
    const json = jsonOf(await completion({ prompt: ["a", [1, 2]], n: 2 }));
    expectValid("CreateCompletionResponse", json);
    expect(json).toMatchObject({
      id: "cmpl-req1",
      choices: ["<a>", "<a>", "<1,2>", "<1,2>"].map((said, index) => ({ index, text: said, finish_reason: "length" })),
    });
  });

  test("repeat their prompt where asked, and count it in the offsets", async () => {
    const json = jsonOf(await completion({ prompt: "xyz", echo: true, logprobs: 1 }));
    expectValid("CreateCompletionResponse", json);
    expect(json).toMatchObject({
      choices: [
        {
          text: "xyzab",
          logprobs: { tokens: ["ab"], token_logprobs: [-1], top_logprobs: [{ ab: -1 }], text_offset: [3] },
        },
      ],
    });
    await expect(completion({ prompt: [1], echo: true })).rejects.toMatchObject({
      code: "unsupported_parameter",
      param: "echo",
    });
  });

  test("stream", async () => {
    const { frames } = await read(await completion({ prompt: "a", echo: true, stream: true }));
    const chunks = dataOf(frames) as { choices: { text: string; finish_reason: string | null }[] }[];
    expect(chunks.pop()).toBe("[DONE]");
    // OpenAI sends `finish_reason: null` before the last, though its description knows no null there.
    for (const chunk of chunks)
      expectValid("CreateCompletionResponse", {
        ...chunk,
        choices: chunk.choices.map((one) => ({ ...one, finish_reason: one.finish_reason ?? "stop" })),
      });
    expect(chunks.flatMap(({ choices }) => choices.map((one) => one.text)).join("")).toBe("a<a>");
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 10 } });
  });

  test.each<[JsonObject, string, string]>([
    [{}, "missing_required_parameter", "prompt"],
    [{ prompt: [] }, "invalid_value", "prompt"],
    [{ prompt: [1.5] }, "invalid_type", "prompt[0]"],
    [{ prompt: ["a", {}] }, "invalid_type", "prompt[1]"],
    [{ prompt: "a", best_of: 3 }, "unsupported_parameter", "best_of"],
  ])("refuse %j", async (body, code, param) => {
    await expect(completion(body)).rejects.toMatchObject({ code, param });
  });
});

describe("embeddings", () => {
  const embed: Engine["embed"] = async ({ input, dimensions }) => ({
    vectors: input.map((_, index) => [0.5, -index].slice(0, dimensions)),
    promptTokens: 4,
  });
  const embedding = async (body: JsonObject): Promise<Reply> =>
    ask(fromEngine(engineWith({ embed })), "/v1/embeddings", body).reply;

  test.each<[JsonObject, number[][]]>([
    [{ input: "a" }, [[0.5, -0]]],
    [
      { input: ["a", "b"] },
      [
        [0.5, -0],
        [0.5, -1],
      ],
    ],
    [{ input: [1, 2, 3] }, [[0.5, -0]]],
    [{ input: [[1], [2]], dimensions: 1 }, [[0.5], [0.5]]],
  ])("of %j", async (body, vectors) => {
    const json = jsonOf(await embedding(body));
    expectValid("CreateEmbeddingResponse", json);
    expect(json).toEqual({
      object: "list",
      model: "box:m",
      data: vectors.map((vector, index) => ({
        object: "embedding",
        index,
        embedding: vector.map((value) => value + 0),
      })),
      usage: { prompt_tokens: 4, total_tokens: 4 },
    });
  });

  test("in base64 are little-endian floats", async () => {
    const json = jsonOf(await embedding({ input: ["a", "b"], encoding_format: "base64" })) as {
      data: { embedding: string }[];
    };
    const bytes = Buffer.from(json.data[1]?.embedding ?? "", "base64");
    expect([bytes.length, bytes.readFloatLE(0), bytes.readFloatLE(4)]).toEqual([8, 0.5, -1]);
  });

  test.each<[JsonObject, string, string]>([
    [{}, "missing_required_parameter", "input"],
    [{ input: "" }, "invalid_value", "input"],
    [{ input: ["a", ""] }, "invalid_value", "input[1]"],
    [{ input: { text: "a" } }, "invalid_type", "input"],
    [{ input: "a", encoding_format: "int8" }, "invalid_value", "encoding_format"],
    [{ input: "a", dimensions: 0 }, "invalid_value", "dimensions"],
  ])("of %j are refused", async (body, code, param) => {
    await expect(embedding(body)).rejects.toMatchObject({ code, param });
  });

  test("that do not fit the inputs are an error of the engine", async () => {
    const provider = fromEngine(engineWith({ embed: async () => ({ vectors: [], promptTokens: 0 }) }));
    await expect(ask(provider, "/v1/embeddings", { input: "a" }).reply).rejects.toMatchObject({
      code: "upstream_error",
    });
  });
});

describe("rerank", () => {
  const rerank: Engine["rerank"] = async ({ documents }) => ({
    scores: documents.map((document) => document.length),
    promptTokens: 5,
  });
  const ranking = async (body: JsonObject): Promise<unknown> =>
    jsonOf(await ask(fromEngine(engineWith({ rerank })), "/v1/rerank", body).reply);

  test("gives the best first, as many as asked for, with their texts", async () => {
    const documents = ["a", { text: "ccc" }, "bb"];
    expect(await ranking({ query: "q", documents, top_n: 2, return_documents: true })).toMatchObject({
      results: [
        { index: 1, relevance_score: 3, document: { text: "ccc" } },
        { index: 2, relevance_score: 2, document: { text: "bb" } },
      ],
      usage: { total_tokens: 5 },
    });
    expect(await ranking({ query: "q", texts: ["a"] })).toMatchObject({ results: [{ index: 0, relevance_score: 1 }] });
  });

  test.each<[JsonObject, string]>([
    [{ documents: ["a"] }, "query"],
    [{ query: "q" }, "documents"],
    [{ query: "q", documents: [] }, "documents"],
    [{ query: "q", documents: [5] }, "documents[0]"],
  ])("refuses %j", async (body, param) => {
    await expect(ranking(body)).rejects.toMatchObject({ param });
  });
});

test("tokens are given in llama-server's form or vLLM's, as they were asked for", async () => {
  const provider = fromEngine(
    engineWith({
      tokenize: async (_model, said) => [...Buffer.from(said)],
      detokenize: async (_model, tokens) => Buffer.from(tokens).toString(),
      models: async () => [
        {
          id: "m",
          contextLength: 4096,
          capabilities: { chat: true, tools: false, vision: false, reasoning: false, embeddings: false, rerank: false },
          state: "loaded",
        },
      ],
    }),
  );
  const asked = async (path: string, body: JsonObject): Promise<unknown> =>
    jsonOf(await ask(provider, path, body).reply);
  expect(await asked("/tokenize", { content: "hi" })).toEqual({ tokens: [104, 105] });
  expect(await asked("/tokenize", { prompt: "hi" })).toEqual({ count: 2, max_model_len: 4096, tokens: [104, 105] });
  expect(await asked("/detokenize", { tokens: [104, 105] })).toEqual({ content: "hi", prompt: "hi" });
  await expect(asked("/tokenize", {})).rejects.toMatchObject({ param: "content" });
  await expect(asked("/detokenize", { tokens: [-1] })).rejects.toMatchObject({ param: "tokens[0]" });
});

describe("a provider that speaks only chat", () => {
  /** A lifted engine, with its other formats taken away. */
  const chatOnly = (change: Partial<Engine>): Provider => ({
    ...fromEngine(engineWith(change)),
    speaks: new Set(["/v1/chat/completions"]),
  });

  test.each([true, false])("answers Responses too (stream: %s)", async (stream) => {
    const seen: ChatRequest[] = [];
    const provider = translated(
      chatOnly({
        chat(request) {
          seen.push(request);
          return saying(
            { type: "reasoning", text: "hm" },
            text("Hi"),
            { type: "tool-call", index: 0, id: "c", name: "ls", arguments: "{}" },
            finish(),
          );
        },
      }),
    );
    expect(provider.speaks.has("/v1/responses")).toBe(true);
    const tools = [{ type: "function", name: "ls", parameters: { type: "object" }, strict: false }];
    const reply = await ask(provider, "/v1/responses", { input: "hi", instructions: "Be brief.", tools, stream }).reply;
    const response = stream ? (dataOf((await read(reply)).frames).at(-1) as JsonObject).response : jsonOf(reply);
    expectValid("Response", response);
    expect(response).toMatchObject({
      id: expect.stringMatching(/^resp_[0-9a-f]{32}$/) as string,
      model: "box:m",
      status: "completed",
      output: [
        { type: "reasoning" },
        { type: "message" },
        { type: "function_call", call_id: "c", name: "ls", arguments: "{}" },
      ],
      usage: { input_tokens: 7, output_tokens: 3 },
    });
    expect(seen).toMatchObject([
      { model: "m", messages: [{ role: "system" }, { role: "user" }], tools: [{ name: "ls" }] },
    ]);
  });

  test("fails as it failed", async () => {
    const provider = translated(chatOnly({ chat: () => failing(new ApiError("context_length_exceeded", "too long")) }));
    await expect(ask(provider, "/v1/responses", { input: "hi", stream: true }).reply).rejects.toMatchObject({
      code: "context_length_exceeded",
      provider: "box",
    });
  });

  test.each([
    [
      429,
      { error: { message: "slow", type: "rate_limit_error", code: "rate_limit_exceeded", param: null } },
      { code: "rate_limit_exceeded", retryAfter: 7 },
    ],
    [
      400,
      { error: { message: "long", code: "context_length_exceeded", param: "messages" } },
      { code: "context_length_exceeded", param: "messages" },
    ],
    [418, "tea", { code: "upstream_error", status: 502 }],
  ])("hands on a reply of status %s as the failure that it is", async (status, body, expected) => {
    const provider = translated({
      ...chatOnly({}),
      handle: async () => ({
        status,
        headers: { "retry-after": "7" },
        body: typeof body === "string" ? body : JSON.stringify(body),
      }),
    });
    await expect(ask(provider, "/v1/responses", { input: "hi" }).reply).rejects.toMatchObject(expected);
  });

  test("keeps its own handling of all it speaks", async () => {
    const provider = translated(chatOnly({}));
    expect(jsonOf(await ask(provider, "/v1/chat/completions", { messages }).reply)).toMatchObject({
      object: "chat.completion",
    });
  });
});

describe("truncation: auto of the Responses API", () => {
  test("asks an engine anew with fewer turns, and a stream's status waits for that", async () => {
    const asked: number[] = [];
    const chatting = async function* ({ messages }: ChatRequest): AsyncGenerator<ChatEvent> {
      asked.push(messages.length);
      if (messages.length > 1) throw new ApiError("context_length_exceeded", "too long");
      yield text("Hi");
      yield finish();
    };
    const input = ["one", "two", "three"].map((content) => ({ role: "user", content }));
    const provider = fromEngine(engineWith({ chat: chatting }));
    const body = { input, stream: true, truncation: "auto" };
    const { frames } = await read(await ask(provider, "/v1/responses", body).reply);
    expect(frames.at(-1)).toContain("response.completed");
    expect(asked).toEqual([3, 1]);
    await expect(ask(provider, "/v1/responses", { ...body, truncation: "disabled" }).reply).rejects.toMatchObject({
      code: "context_length_exceeded",
    });
  });
});
