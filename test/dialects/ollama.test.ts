import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../src/core/json.ts";
import type { ChoiceEvent } from "../../src/dialects/dialect.ts";
import { encodeRunning, encodeShow, encodeTags } from "../../src/dialects/ollama/model-forms.ts";
import { encodePull } from "../../src/dialects/ollama/pull-lines.ts";
import { decodeCompletion, decodePresence, isCompletion } from "../../src/dialects/ollama/request.ts";
import { ollamaChat, ollamaGenerate } from "../../src/dialects/ollama-chat.ts";
import { toChatBody, toEvents } from "../../src/providers/ollama-wire.ts";
import { parseNdjson } from "../../src/wire/ndjson.ts";
import { arriving, drain, inPieces, seeded } from "../support/bytes.ts";
import { asChoice, chatRequest, finish, replyHead, text } from "../support/chat.ts";

function fixture<Entry>(name: string): Entry[] {
  return JSON.parse(readFileSync(new URL(`fixtures/ollama/${name}.json`, import.meta.url), "utf8")) as Entry[];
}

const dialects = { "/api/chat": ollamaChat, "/api/generate": ollamaGenerate };
const decode = (body: JsonObject, path: keyof typeof dialects = "/api/chat") =>
  dialects[path].decodeRequest({ messages: [{ role: "user", content: "hi" }], ...body }, "m", {});
const stream = (events: AsyncIterable<ChoiceEvent>, form: "chat" | "generate" = "chat") =>
  drain(dialects[`/api/${form}`].encodeStream(events, chatRequest(), {}, replyHead));

interface RequestFixture {
  readonly name: string;
  readonly path: keyof typeof dialects;
  readonly body: JsonObject;
  readonly request: JsonObject;
}

interface AnswerFixture {
  readonly name: string;
  readonly events: ChatEvent[];
  readonly chat: string[];
  readonly generate?: string[];
}

describe("requests:", () => {
  test.each(fixture<RequestFixture>("requests"))("$name", ({ path, body, request }) => {
    expect(dialects[path].decodeRequest(body, "m", {})).toEqual(request);
  });

  test.each([
    ["messages", { messages: "hi" }],
    ["messages[0].role", { messages: [{ role: "wizard", content: "hi" }] }],
    ["messages[0].content", { messages: [{ role: "user", content: ["hi"] }] }],
    ["messages[0].images[0]", { messages: [{ role: "user", content: "", images: ["AAAA"] }] }],
    ["messages[0].images[0]", { messages: [{ role: "user", content: "", images: ["http://127.0.0.1/x.png"] }] }],
    ["messages[0].tool_calls[0].function", { messages: [{ role: "assistant", tool_calls: [{}] }] }],
    ["options.temperature", { options: { temperature: "hot" } }],
    ["options.top_p", { options: { top_p: 2 } }],
    ["options.stop[1]", { options: { stop: ["a", 1] } }],
    ["options", { options: [] }],
    ["format", { format: "yaml" }],
    ["think", { think: "hard" }],
    ["keep_alive", { keep_alive: "soon" }],
    ["top_logprobs", { logprobs: true, top_logprobs: 21 }],
  ])("a wrong %s is refused by name", (param, body) => {
    expect(() => decode(body as JsonObject)).toThrow(expect.objectContaining({ status: 400, param }) as Error);
  });

  test("a template of the client's own is refused, for it would not be used", () => {
    expect(() => decode({ prompt: "hi", template: "{{ .Prompt }}" }, "/api/generate")).toThrow(/raw: true/);
  });

  test("raw prompts and gaps are text completions", () => {
    expect(isCompletion({ prompt: "a" })).toBe(false);
    const body = { raw: true, prompt: "<s>a", options: { num_predict: 5 }, format: "json" };
    expect(isCompletion(body)).toBe(true);
    expect(decodeCompletion(body, "m")).toEqual({
      model: "m",
      prompt: "<s>a",
      maxTokens: 5,
      stop: [],
      responseFormat: { type: "json" },
      extra: {},
    });
    expect(decodeCompletion({ prompt: "a", suffix: "b" }, "m")).toMatchObject({ prompt: "a", suffix: "b" });
    expect(isCompletion({ suffix: "b" })).toBe(true);
  });

  test("a request that says nothing wants the model loaded, or unloaded", () => {
    expect(decodePresence({ messages: [] })).toBe("load");
    expect(decodePresence({ prompt: "" })).toBe("load");
    expect(decodePresence({ prompt: "", keep_alive: "0s" })).toBe("unload");
    expect(decodePresence({ messages: [], keep_alive: 0 })).toBe("unload");
    expect(decodePresence({ prompt: "", suffix: "b" })).toBeUndefined();
    expect(decodePresence({ prompt: "a", keep_alive: 0 })).toBeUndefined();
  });

  test("decoding, encoding for an Ollama and decoding again changes nothing", () => {
    for (const { path, body } of fixture<RequestFixture>("requests")) {
      const once = dialects[path].decodeRequest(body, "m", {});
      const written = toChatBody(once, { numCtx: 4096, thinking: "levels" });
      const twice = ollamaChat.decodeRequest({ ...written, think: body.think, stream: once.stream }, "m", {});
      expect(twice).toEqual(once);
    }
  });
});

describe("answers:", () => {
  const answers = fixture<AnswerFixture>("answers");

  test.each(answers)("$name", async ({ events, chat, generate }) => {
    const { items, error } = await stream(asChoice(events));
    expect(error).toBeUndefined();
    expect(items.join("")).toBe(chat.map((line) => `${line}\n`).join(""));
    if (generate === undefined) return;
    expect((await stream(asChoice(events), "generate")).items.join("")).toBe(
      generate.map((line) => `${line}\n`).join(""),
    );
  });

  test.each(answers)("$name, not streamed, says the same in one object", async ({ events, chat }) => {
    const whole = await ollamaChat.encodeReply(asChoice(events), chatRequest(), {}, replyHead);
    const lines = chat.map((line) => JSON.parse(line) as JsonObject & { message: JsonObject });
    const said = (key: string): string => lines.map(({ message }) => String(message[key] ?? "")).join("");
    const calls = lines.flatMap(({ message }) => (Array.isArray(message.tool_calls) ? message.tool_calls : []));
    const logprobs = lines.flatMap((line) => (Array.isArray(line.logprobs) ? line.logprobs : []));
    expect(whole).toEqual({
      ...lines.at(-1),
      message: {
        role: "assistant",
        content: said("content"),
        ...(said("thinking") === "" ? {} : { thinking: said("thinking") }),
        ...(calls.length === 0 ? {} : { tool_calls: calls }),
      },
      ...(logprobs.length === 0 ? {} : { logprobs }),
    });
  });

  test("any split of the lines gives a client the events back", async () => {
    for (const { events, chat } of answers) {
      const wanted = settled(events);
      for (let seed = 0; seed < 40; seed++) {
        const pieces = inPieces(chat.map((line) => `${line}\n`).join(""), seeded(seed), 1 + (seed % 17));
        const { items, error } = await drain(toEvents("box", parseNdjson(pieces), 0));
        expect(error).toBeUndefined();
        expect(settled(items)).toEqual(wanted);
      }
    }
  });

  test("a heartbeat is a line that adds nothing, and no line is empty", async () => {
    for (const dialect of Object.values(dialects)) {
      const beat = dialect.encodeStream(asChoice([]), chatRequest(), {}, replyHead).heartbeat();
      expect(beat).toMatch(/^\{.*\}\n$/);
      const end = `{"model":"m","message":{"content":""},"response":"","done":true}\n`;
      const { items } = await drain(toEvents("box", parseNdjson(arriving(beat, beat, end)), 1));
      expect(items.map(({ type }) => type)).toEqual(["finish"]);
    }
    const { items } = await stream(asChoice([{ type: "progress", phase: "prefill", done: 1, total: 2 }, finish()]));
    expect(items.join("").split("\n").slice(0, -1)).toHaveLength(1);
  });

  test("arguments that are no object are not lost", async () => {
    const call = (said: string): ChatEvent => ({ type: "tool-call", index: 0, id: "c", name: "f", arguments: said });
    const argumentsOf = async (said: string): Promise<Json | undefined> => {
      const whole = await ollamaChat.encodeReply(asChoice([call(said), finish()]), chatRequest(), {}, replyHead);
      return (whole as { message: { tool_calls: { function: { arguments: Json } }[] } }).message.tool_calls[0]?.function
        .arguments;
    };
    expect(await argumentsOf('{"a"')).toEqual({ arguments: '{"a"' });
    expect(await argumentsOf("[1]")).toEqual({ arguments: [1] });
    expect(await argumentsOf(" ")).toEqual({});
  });

  test("a failure in the midst is the last line, and half a call is never told", async () => {
    async function* failing(): AsyncGenerator<ChoiceEvent> {
      yield { choice: 0, event: text("Hi") };
      yield { choice: 0, event: { type: "tool-call", index: 0, id: "c", name: "f", arguments: '{"a"' } };
      throw new ApiError("engine_crashed", "the engine is gone");
    }
    const { items, error } = await stream(failing());
    expect(error).toMatchObject({ code: "engine_crashed" });
    expect(items.at(-1)).toBe('{"error":"the engine is gone"}\n');
    expect(items.join("")).not.toContain("tool_calls");
    const cut = await stream(asChoice([text("Hi")]));
    expect(cut.items.at(-1)).toContain("ended early");
    expect(cut.error).toMatchObject({ code: "upstream_error" });
  });
});

describe("models:", () => {
  const card = {
    id: "box:a/b",
    created: 1_700_000_000,
    state: "loaded",
    context_length: 8192,
    capabilities: { chat: true, tools: true, vision: false, reasoning: true, embeddings: false, rerank: false },
    memory_bytes: 6e9,
    gpu_bytes: 5e9,
    expires_at: "2026-01-01T00:00:00.000Z",
    weights: { architecture: "qwen3", parameters: 8_190_735_360, quantization: "Q4_K_M", bytes: 5e9, fills_gaps: true },
  };
  const bare = { id: "gpt", state: "available" };

  test("a card becomes what Ollama's lists say", () => {
    const details = {
      parent_model: "",
      format: "gguf",
      family: "qwen3",
      families: ["qwen3"],
      parameter_size: "8.2B",
      quantization_level: "Q4_K_M",
    };
    const identity = {
      name: "box:a/b",
      model: "box:a/b",
      modified_at: "2023-11-14T22:13:20.000Z",
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
      details: { ...details, context_length: 8192 },
    };
    const capabilities = ["completion", "tools", "thinking", "insert"];
    expect(encodeTags([card])).toEqual({ models: [{ ...identity, size: 5e9, capabilities }] });
    expect(encodeRunning([card, bare])).toEqual({
      models: [{ ...identity, size: 6e9, size_vram: 5e9, expires_at: card.expires_at, context_length: 8192 }],
    });
    expect(encodeShow(card)).toMatchObject({
      details,
      capabilities,
      parameters: "num_ctx 8192",
      template: expect.stringContaining(".Suffix"),
      model_info: { "general.architecture": "qwen3", "qwen3.context_length": 8192 },
    });
  });

  test("the sampling that holds for a model stands among its parameters, as far as Ollama has words for it", () => {
    const values = { temperature: 0.3, top_k: 20, repeat_penalty: 1.1, repetition_penalty: 1.1, samplers: ["top_k"] };
    const told = encodeShow({ ...card, default_parameters: values });
    expect(told.parameters).toBe("num_ctx 8192\ntemperature 0.3\ntop_k 20\nrepeat_penalty 1.1");
  });

  test("of a model of which nothing is known, every field that clients read is there", () => {
    const [listed] = encodeTags([bare]).models as JsonObject[];
    expect(listed).toMatchObject({ name: "gpt", size: 0, modified_at: "1970-01-01T00:00:00.000Z", capabilities: [] });
    expect(isObject(listed?.details) && Array.isArray(listed.details.families)).toBe(true);
    expect(encodeShow(bare)).toMatchObject({ template: "", model_info: { "general.architecture": "unknown" } });
  });

  test("a digest changes with the model, not with its state", () => {
    const digestOf = (one: JsonObject): Json | undefined => (encodeTags([one]).models as JsonObject[])[0]?.digest;
    expect(digestOf({ ...card, state: "unloaded", memory_bytes: 1 })).toBe(digestOf(card));
    expect(digestOf({ ...card, weights: { ...card.weights, bytes: 1 } })).not.toBe(digestOf(card));
  });
});

test("a pull says again how far it is while it says nothing new, and ends in success or an error", async () => {
  async function* progress(error?: Error): AsyncGenerator<{ status: string; total?: number }> {
    yield { status: "pulling a", total: 5 };
    if (error !== undefined) throw error;
  }
  const frames = encodePull(progress());
  expect(frames.heartbeat()).toBe('{"status":"pulling manifest"}\n');
  expect((await drain(frames)).items).toEqual(['{"status":"pulling a","total":5}\n', '{"status":"success"}\n']);
  expect(frames.heartbeat()).toBe('{"status":"pulling a","total":5}\n');
  const failed = await drain(encodePull(progress(new ApiError("upstream_error", "the hub is gone"))));
  expect(failed.items.at(-1)).toBe('{"error":"the hub is gone"}\n');
  expect(failed.error).toMatchObject({ code: "upstream_error" });
});

/** What a client of Ollama's can know of the events: pieces put together, calls whole, no times and no waiting. */
function settled(events: readonly ChatEvent[]): unknown {
  const said = (type: "text" | "reasoning"): string =>
    events.map((event) => (event.type === type ? event.text : "")).join("");
  const calls = new Map<number, { name: string; arguments: string }>();
  for (const event of events) {
    if (event.type !== "tool-call") continue;
    const call = calls.get(event.index) ?? { name: "", arguments: "" };
    calls.set(event.index, { name: call.name || (event.name ?? ""), arguments: call.arguments + event.arguments });
  }
  const last = events.at(-1);
  return {
    text: said("text"),
    reasoning: said("reasoning"),
    calls: [...calls.values()].map((call) => ({ ...call, arguments: JSON.parse(call.arguments || "{}") as Json })),
    logprobs: events.flatMap((event) => (event.type === "logprobs" ? event.tokens.map(({ token }) => token) : [])),
    end: last?.type === "finish" ? [last.reason, last.usage] : undefined,
  };
}
