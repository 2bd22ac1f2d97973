import { describe, expect, test } from "vitest";
import type { ChatEvent, TokenLogprob } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { JsonObject } from "../../src/core/json.ts";
import type { ChoiceEvent } from "../../src/dialects/dialect.ts";
import { decodeStream } from "../../src/dialects/openai-chat/client.ts";
import { openaiChat } from "../../src/dialects/openai-chat.ts";
import { drain, inPieces, seeded } from "../support/bytes.ts";
import { asChoice, chatRequest, dataOf, finish, reasoning, replyHead, text } from "../support/chat.ts";
import { expectValid } from "../support/openai-spec.ts";

const logprob = (token: string): TokenLogprob => ({
  token,
  logprob: -0.25,
  bytes: null,
  top: [{ token, logprob: -0.25, bytes: [104] }],
});

const answers: Record<string, ChatEvent[]> = {
  text: [text("Hello"), text(' "Grüße"\n'), text("\u2028🦙"), finish()],
  empty: [finish("length")],
  reasoning: [reasoning("Let me "), reasoning("think."), text("Hi"), finish()],
  filtered: [text("x"), finish("content-filter")],
  tools: [
    text("I will read."),
    { type: "tool-call", index: 0, id: "call_a", name: "read", arguments: "" },
    { type: "tool-call", index: 0, arguments: '{"path":' },
    { type: "tool-call", index: 0, arguments: '"a"}' },
    { type: "tool-call", index: 1, name: "ls", arguments: "{}" },
    // As Ollama says it.
    finish("stop"),
  ],
  logprobs: [
    { type: "logprobs", tokens: [logprob("He")] },
    text("Hel"),
    text("lo"),
    { type: "logprobs", tokens: [logprob("llo")] },
    finish(),
  ],
  progress: [
    { type: "progress", phase: "queued", position: 2 },
    { type: "progress", phase: "prefill", done: 10, total: 20 },
    text("Hi"),
    finish(),
  ],
  cached: [
    text("Hi"),
    {
      type: "finish",
      reason: "stop",
      usage: { promptTokens: 9, completionTokens: 2, cachedTokens: 8, reasoningTokens: 1 },
    },
  ],
};

const stream = (events: AsyncIterable<ChoiceEvent>, body: JsonObject = {}, n = 1) =>
  drain(openaiChat.encodeStream(events, chatRequest({ n }), body, replyHead));
const reply = (events: AsyncIterable<ChoiceEvent>, change = {}) =>
  openaiChat.encodeReply(events, chatRequest(change), {}, replyHead);

describe.each(Object.entries(answers))("an answer of %s", (name, events) => {
  test("is a stream as OpenAI describes it", async () => {
    const { items } = await stream(asChoice(events));
    const chunks = dataOf(items);
    expect(chunks.pop()).toBe("[DONE]");
    for (const chunk of chunks) expectValid("CreateChatCompletionStreamResponse", chunk);
    await expect(items.join("")).toMatchFileSnapshot(`./fixtures/openai-chat/ours-${name}.sse`);
  });

  test("is a reply as OpenAI describes it", async () => {
    const json = await reply(asChoice(events), name === "logprobs" ? { topLogprobs: 1 } : {});
    expectValid("CreateChatCompletionResponse", json);
    await expect(`${JSON.stringify(json, null, 2)}\n`).toMatchFileSnapshot(
      `./fixtures/openai-chat/ours-${name}.reply.json`,
    );
  });

  test("is read back as it was, however the bytes are cut", async () => {
    const { items } = await stream(asChoice(events));
    const ids = events.filter((event) => event.type !== "progress");
    for (let seed = 0; seed < 10; seed++) {
      const { items: back } = await drain(decodeStream(inPieces(items.join(""), seeded(seed), 40), chatRequest()));
      expect(joined(back)).toEqual(joined(ids));
    }
  });
});

/** What was said in sum: where text is cut and when log probabilities come is not part of it, invented ids neither. */
function joined(events: readonly ChatEvent[]): object {
  const calls = events.filter((event) => event.type === "tool-call");
  return {
    text: events.map((event) => (event.type === "text" ? event.text : "")).join(""),
    reasoning: events.map((event) => (event.type === "reasoning" ? event.text : "")).join(""),
    calls: [0, 1].map((index) => {
      const fragments = calls.filter((call) => call.index === index);
      return { name: fragments[0]?.name, arguments: fragments.map((call) => call.arguments).join("") };
    }),
    logprobs: events.flatMap((event) => (event.type === "logprobs" ? event.tokens : [])),
    finish: events
      .filter((event) => event.type === "finish")
      .map((event) => ({ ...event, reason: calls.length > 0 ? "tool-calls" : event.reason })),
  };
}

test("tool calls have an id and a name in their first delta, the same each time, and of their own in every choice", async () => {
  const call: ChatEvent = { type: "tool-call", index: 0, id: "", name: "ls", arguments: "{}" };
  const both = async function* (): AsyncGenerator<ChoiceEvent> {
    yield* asChoice([call, finish()], 0);
    yield* asChoice([call, finish()], 1);
  };
  const first = (await stream(both(), {}, 2)).items.join("");
  expect((await stream(both(), {}, 2)).items.join("")).toBe(first);
  expect(first).toContain('"id":"call_req1_0_0"');
  expect(first).toContain('"id":"call_req1_1_0"');
});

test.each([
  [{}, true],
  [{ stream_options: { include_usage: true } }, true],
  [{ stream_options: null }, true],
  [{ stream_options: {} }, true],
  [{ stream_options: { include_usage: false } }, false],
])("usage comes unless it is declined: %j", async (body, wanted) => {
  const { items } = await stream(asChoice([text("Hi"), finish()]), body);
  const last = dataOf(items).at(-2);
  if (wanted)
    expect(last).toMatchObject({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 } });
  else expect(last).toMatchObject({ choices: [{ finish_reason: "stop" }] });
});

test("several answers are kept apart, and end together", async () => {
  const mixed = async function* (): AsyncGenerator<ChoiceEvent> {
    yield* asChoice([text("b")], 1);
    yield* asChoice([text("a"), finish()], 0);
    yield* asChoice([text("B"), finish("length")], 1);
    throw new Error("nothing is asked for after the last finish");
  };
  const { items, error } = await stream(mixed(), {}, 2);
  expect(error).toBeUndefined();
  const finishes = dataOf(items).filter((chunk) => JSON.stringify(chunk).includes('"finish_reason":"'));
  expect(finishes).toMatchObject([
    { choices: [{ index: 0, finish_reason: "stop" }] },
    { choices: [{ index: 1, finish_reason: "length" }] },
  ]);
  expect(dataOf(items).at(-2)).toMatchObject({ usage: { prompt_tokens: 7, completion_tokens: 6 } });
  expect(await reply(mixed(), { n: 2 })).toMatchObject({
    choices: [
      { index: 0, message: { content: "a" }, finish_reason: "stop" },
      { index: 1, message: { content: "bB" }, finish_reason: "length" },
    ],
  });
});

describe("a failure in the midst", () => {
  const failing = async function* (error: unknown): AsyncGenerator<ChoiceEvent> {
    yield { choice: 0, event: text("Hi") };
    if (error !== undefined) throw error;
  };

  test("is an error frame with all four keys, then the end; never a finish", async () => {
    const { items, error } = await stream(failing(new ApiError("upstream_error", "lost", { provider: "ollama" })));
    expect(error).toMatchObject({ code: "upstream_error" });
    const [frame, done] = dataOf(items).slice(-2);
    expectValid("ErrorResponse", frame);
    expect(frame).toEqual({
      error: { message: "lost", type: "server_error", param: null, code: "upstream_error" },
      provider: "ollama",
    });
    expect(done).toBe("[DONE]");
    expect(items.join("")).not.toContain('"finish_reason":"');
  });

  test("that is a bug of ours tells nothing of it", async () => {
    const { items } = await stream(failing(new Error("secret path /etc/key")));
    expect(items.join("")).toContain('"code":"internal_error"');
    expect(items.join("")).not.toContain("secret");
  });

  test("and an engine that just ends are the same", async () => {
    const { items, error } = await stream(failing(undefined));
    expect(error).toMatchObject({ code: "upstream_error" });
    expect(items.join("")).toContain('"code":"upstream_error"');
    await expect(reply(failing(undefined))).rejects.toMatchObject({ code: "upstream_error" });
  });
});
