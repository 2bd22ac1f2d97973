import { describe, expect, test } from "vitest";
import type { ChatEvent, ChatRequest } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { JsonObject } from "../../src/core/json.ts";
import type { ChoiceEvent } from "../../src/dialects/dialect.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";
import { drain } from "../support/bytes.ts";
import { asChoice, dataOf, finish, reasoning, replyHead, text } from "../support/chat.ts";
import { expectValid } from "../support/openai-spec.ts";

const head = { ...replyHead, id: "resp_req1" };
const ls = { type: "function", name: "ls", description: "lists", parameters: { type: "object" }, strict: false };
const body: JsonObject = {
  input: "hi",
  instructions: "Be brief.",
  tools: [ls, { type: "web_search" }, { type: "namespace", name: "agents", description: "of agents", tools: [ls] }],
  temperature: 0.5,
  reasoning: { effort: "low", summary: "auto" },
  text: { format: { type: "json_schema", name: "s", schema: { type: "object" }, strict: true } },
  metadata: { a: "b" },
};
const decode = (change: JsonObject): ChatRequest => openaiResponses.decodeRequest({ input: "hi", ...change }, "m", {});
const stream = (events: AsyncIterable<ChoiceEvent>) =>
  drain(openaiResponses.encodeStream(events, decode(body), body, head));

const answers: Record<string, ChatEvent[]> = {
  text: [text("Hello"), text(" you"), finish()],
  empty: [finish()],
  cut: [text("Hel"), finish("length")],
  filtered: [text("x"), finish("content-filter")],
  progress: [{ type: "progress", phase: "prefill", done: 1, total: 2 }, text("Hi"), finish()],
  turn: [
    reasoning("Let me "),
    reasoning("think."),
    text("I will look."),
    { type: "tool-call", index: 0, id: "call_a", name: "ls", arguments: "" },
    { type: "tool-call", index: 1, name: "ls", arguments: '{"x"' },
    { type: "tool-call", index: 0, arguments: "{}" },
    { type: "tool-call", index: 1, arguments: ":1}" },
    {
      type: "finish",
      reason: "stop",
      usage: { promptTokens: 9, completionTokens: 8, cachedTokens: 4, reasoningTokens: 3 },
    },
  ],
  logprobs: [
    { type: "logprobs", tokens: [{ token: "Hé", logprob: -0.5, bytes: null, top: [] }] },
    text("Hé"),
    finish(),
  ],
};

describe.each(Object.entries(answers))("an answer of %s", (name, events) => {
  test("is a sequence of events as OpenAI describes them, numbered from 0", async () => {
    const { items } = await stream(asChoice(events));
    const sent = dataOf(items) as JsonObject[];
    for (const event of sent) expectValid("ResponseStreamEvent", event);
    expect(sent.map((event) => event.sequence_number)).toEqual(sent.map((_, index) => index));
    await expect(items.join("")).toMatchFileSnapshot(`./fixtures/openai-responses/ours-${name}.sse`);
  });

  test("ends with the same response that a reply without a stream is", async () => {
    const reply = await openaiResponses.encodeReply(asChoice(events), decode(body), body, head);
    expectValid("Response", reply);
    const { items } = await stream(asChoice(events));
    expect((dataOf(items).at(-1) as JsonObject).response).toEqual(reply);
  });
});

test("every event is named in its own line too", async () => {
  const { items } = await stream(asChoice(answers.turn ?? []));
  for (const [name, type] of items.join("").matchAll(/^event: (.*)\ndata: \{"type":"([^"]*)"/gm))
    expect(name).toContain(`event: ${type}`);
  expect(items.join("").match(/^event: /gm)).toHaveLength(dataOf(items).length);
});

describe("a failure in the midst", () => {
  const failing = async function* (error: Error): AsyncGenerator<ChoiceEvent> {
    yield { choice: 0, event: text("Hi") };
    throw error;
  };

  test.each([
    [new ApiError("engine_crashed", "gone"), "server_error"],
    [new ApiError("rate_limit_exceeded", "slow"), "rate_limit_exceeded"],
    [new ApiError("invalid_image", "no image"), "invalid_prompt"],
    [new Error("secret"), "server_error"],
  ])("is response.failed: %s", async (failure, code) => {
    const { items, error } = await stream(failing(failure));
    const last = dataOf(items).at(-1);
    expectValid("ResponseStreamEvent", last);
    expect(last).toMatchObject({ type: "response.failed", response: { status: "failed", error: { code } } });
    expect(JSON.stringify(last)).not.toContain("secret");
    expect(error).toBe(failure);
  });

  test("that is an overflow is called as Codex knows it", async () => {
    const { items } = await stream(failing(new ApiError("context_length_exceeded", "too long")));
    expect(dataOf(items).at(-1)).toMatchObject({ response: { error: { code: "context_length_exceeded" } } });
  });
});

test("items of one turn become one message of the assistant", () => {
  const call = (id: string): JsonObject => ({ type: "function_call", call_id: id, name: "ls", arguments: "{}" });
  const { messages } = decode({
    input: [
      {
        role: "user",
        content: [
          { type: "input_text", text: "a" },
          { type: "input_image", image_url: "data:image/png;base64,aGk=" },
        ],
      },
      {
        type: "reasoning",
        summary: [{ type: "summary_text", text: "short" }],
        content: [{ type: "reasoning_text", text: "long" }],
      },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "b", annotations: [] }] },
      call("1"),
      call("2"),
      { type: "function_call_output", call_id: "1", output: "x" },
      { type: "function_call_output", call_id: "2", output: [{ type: "input_text", text: "y" }] },
      { type: "item_reference", id: "msg_1" },
      { type: "web_search_call", id: "ws_1", status: "completed" },
      { role: "assistant", content: "c" },
      { role: "assistant", content: "d" },
    ],
  });
  const said = (part: string) => [{ type: "text", text: part }];
  expect(messages).toEqual([
    { role: "user", content: [...said("a"), { type: "image", mediaType: "image/png", base64: "aGk=" }] },
    {
      role: "assistant",
      reasoning: "long",
      content: said("b"),
      toolCalls: [
        { id: "1", name: "ls", arguments: "{}" },
        { id: "2", name: "ls", arguments: "{}" },
      ],
    },
    { role: "tool", toolCallId: "1", content: said("x") },
    { role: "tool", toolCallId: "2", content: said("y") },
    { role: "assistant", content: said("c"), toolCalls: [] },
    { role: "assistant", content: said("d"), toolCalls: [] },
  ]);
});

test.each<[JsonObject, string, string]>([
  [{ input: null }, "missing_required_parameter", "input"],
  [{ input: 5 }, "invalid_type", "input"],
  [{ input: [] }, "invalid_value", "input"],
  [{ input: [{ type: "spell" }] }, "invalid_value", "input[0].type"],
  [{ input: [{ role: "wizard", content: "x" }] }, "invalid_value", "input[0].role"],
  [{ input: [{ role: "user" }] }, "missing_required_parameter", "input[0].content"],
  [
    { input: [{ role: "user", content: [{ type: "input_file" }] }] },
    "unsupported_parameter",
    "input[0].content[0].type",
  ],
  [
    { input: [{ role: "user", content: [{ type: "input_image", image_url: "http://x/y.png" }] }] },
    "invalid_image",
    "input[0].content[0].image_url",
  ],
  [{ input: [{ type: "function_call", name: "ls" }] }, "missing_required_parameter", "input[0].call_id"],
  [{ input: [{ type: "function_call_output", call_id: "a" }] }, "missing_required_parameter", "input[0].output"],
  [{ previous_response_id: "resp_1" }, "unsupported_parameter", "previous_response_id"],
  [{ background: true }, "unsupported_parameter", "background"],
  [{ max_output_tokens: 0 }, "invalid_value", "max_output_tokens"],
  [{ text: { format: { type: "yaml" } } }, "invalid_value", "text.format.type"],
  [{ text: { format: { type: "json_schema" } } }, "missing_required_parameter", "text.format.schema"],
  [{ tools: [ls], tool_choice: { type: "function", name: "rm" } }, "invalid_value", "tool_choice.name"],
])("%j is refused", (change, code, param) => {
  let thrown: unknown;
  try {
    decode(change);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toMatchObject({ code, param });
});
