import { describe, expect, test } from "vitest";
import type { ChatRequest } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { openaiChat } from "../../src/dialects/openai-chat.ts";
import { chatRequest } from "../support/chat.ts";
import { seeded } from "../support/bytes.ts";

const user = { role: "user", content: "hi" };
const weather = { type: "function", function: { name: "weather", parameters: { type: "object" } } };
const time = { type: "function", function: { name: "time" } };
const decode = (body: JsonObject, headers = {}): ChatRequest =>
  openaiChat.decodeRequest({ messages: [user], ...body }, "m", headers);
const image = (url: Json): JsonObject => ({
  messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }],
});

function refusal(body: JsonObject): { code: string; param: string | null; message: string } {
  try {
    decode(body);
  } catch (error) {
    if (error instanceof ApiError) return { code: error.code, param: error.param, message: error.message };
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(body)}`);
}

describe("a bad request is refused by code and path", () => {
  test.each<[string, JsonObject, string, string]>([
    ["no messages", { messages: null }, "missing_required_parameter", "messages"],
    ["messages as a string", { messages: "hi" }, "invalid_type", "messages"],
    ["no message in messages", { messages: [] }, "invalid_value", "messages"],
    ["a message that is none", { messages: ["hi"] }, "invalid_type", "messages[0]"],
    ["no role", { messages: [user, { content: "x" }] }, "missing_required_parameter", "messages[1].role"],
    ["an unknown role", { messages: [{ role: "robot", content: "x" }] }, "invalid_value", "messages[0].role"],
    ["no content", { messages: [{ role: "user" }] }, "missing_required_parameter", "messages[0].content"],
    ["null content of a user", { messages: [{ role: "user", content: null }] }, "invalid_type", "messages[0].content"],
    ["a number as content", { messages: [{ role: "user", content: 7 }] }, "invalid_type", "messages[0].content"],
    [
      "a part without a type",
      { messages: [{ role: "user", content: [{ text: "x" }] }] },
      "missing_required_parameter",
      "messages[0].content[0].type",
    ],
    [
      "sound",
      { messages: [{ role: "user", content: [{ type: "input_audio" }] }] },
      "unsupported_parameter",
      "messages[0].content[0].type",
    ],
    [
      "an unknown part",
      { messages: [{ role: "user", content: [{ type: "smell" }] }] },
      "invalid_value",
      "messages[0].content[0].type",
    ],
    [
      "a tool result whose call is no text",
      { messages: [{ role: "tool", tool_call_id: 1, content: "x" }] },
      "invalid_type",
      "messages[0].tool_call_id",
    ],
    [
      "a call of no function",
      { messages: [{ role: "assistant", tool_calls: [{ id: "a" }] }] },
      "missing_required_parameter",
      "messages[0].tool_calls[0].function",
    ],
    [
      "an image from the web",
      image("https://example.com/cat.png"),
      "invalid_image",
      "messages[0].content[0].image_url.url",
    ],
    ["an image from a file", image("file:///etc/passwd"), "invalid_image", "messages[0].content[0].image_url.url"],
    [
      "an image that is a page",
      image("data:text/html;base64,aGk="),
      "invalid_image",
      "messages[0].content[0].image_url.url",
    ],
    [
      "an image that is not base64",
      image("data:image/png;base64,@@@"),
      "invalid_image",
      "messages[0].content[0].image_url.url",
    ],
    ["an empty image", image("data:image/png;base64,"), "invalid_image", "messages[0].content[0].image_url.url"],
    ["a hot temperature", { temperature: 2.1 }, "invalid_value", "temperature"],
    ["a temperature in words", { temperature: "hot" }, "invalid_type", "temperature"],
    ["a share above 1", { top_p: 1.5 }, "invalid_value", "top_p"],
    ["no tokens", { max_tokens: 0 }, "invalid_value", "max_tokens"],
    ["half a token", { max_completion_tokens: 1.5 }, "invalid_type", "max_completion_tokens"],
    ["no answers", { n: 0 }, "invalid_value", "n"],
    ["too many answers", { n: 17 }, "invalid_value", "n"],
    ["a stop that is none", { stop: [1] }, "invalid_type", "stop[0]"],
    ["stream as a string", { stream: "yes" }, "invalid_type", "stream"],
    ["stream options as a list", { stream_options: [] }, "invalid_type", "stream_options"],
    ["alternatives without log probabilities", { top_logprobs: 3 }, "invalid_value", "top_logprobs"],
    ["a bias of words", { logit_bias: { hello: 1 } }, "invalid_value", "logit_bias"],
    ["a bias too strong", { logit_bias: { 5: 101 } }, "invalid_value", "logit_bias.5"],
    [
      "a tool of another kind",
      { tools: [{ type: "custom", custom: { name: "x" } }] },
      "unsupported_parameter",
      "tools[0].type",
    ],
    [
      "a tool without a name",
      { tools: [{ type: "function", function: {} }] },
      "missing_required_parameter",
      "tools[0].function.name",
    ],
    [
      "a choice of a tool that is not there",
      { tools: [weather], tool_choice: { type: "function", function: { name: "time" } } },
      "invalid_value",
      "tool_choice.function.name",
    ],
    ["a demand for a tool where there is none", { tool_choice: "required" }, "invalid_value", "tool_choice"],
    ["an unknown choice", { tools: [weather], tool_choice: "maybe" }, "invalid_value", "tool_choice"],
    [
      "an allowed tool that is not there",
      { tools: [weather], tool_choice: { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [time] } } },
      "invalid_value",
      "tool_choice.allowed_tools.tools[0].function.name",
    ],
    [
      "a schema format without its schema",
      { response_format: { type: "json_schema", json_schema: { name: "x" } } },
      "missing_required_parameter",
      "response_format.json_schema.schema",
    ],
    ["an unknown format", { response_format: { type: "xml" } }, "invalid_value", "response_format.type"],
  ])("%s", (_, body, code, param) => {
    expect(refusal(body)).toMatchObject({ code, param });
  });

  test("the message repeats nothing on which clients would try again", () => {
    for (const risky of ["gpt-500", "429", "please try again later", "server error"]) {
      expect(refusal({ messages: [{ role: risky, content: "x" }] }).message).not.toContain(risky);
    }
  });
});

describe("tool_choice", () => {
  test.each<[string, Json | undefined, string[], ChatRequest["toolChoice"]]>([
    ["is auto where there are tools", undefined, ["weather", "time"], "auto"],
    ["none", "none", ["weather", "time"], "none"],
    ["required", "required", ["weather", "time"], "required"],
    ["any, as Mistral says", "any", ["weather", "time"], "required"],
    ["by name", { type: "function", function: { name: "time" } }, ["weather", "time"], { name: "time" }],
    ["by name, flat", { type: "function", name: "time" }, ["weather", "time"], { name: "time" }],
    [
      "some allowed",
      { type: "allowed_tools", allowed_tools: { mode: "required", tools: [time] } },
      ["time"],
      "required",
    ],
  ])("%s", (_, choice, names, expected) => {
    const request = decode({ tools: [weather, time], ...(choice === undefined ? {} : { tool_choice: choice }) });
    expect(request.tools.map(({ name }) => name)).toEqual(names);
    expect(request.toolChoice).toEqual(expected);
  });

  test("is none without tools", () => {
    expect(decode({ tool_choice: "auto" }).toolChoice).toBe("none");
  });
});

test("the old functions become tools, and their results find their calls", () => {
  const call = { role: "assistant", content: null, function_call: { name: "time", arguments: "{}" } };
  const request = decode({
    functions: [{ name: "time" }],
    function_call: { name: "time" },
    messages: [user, call, { role: "function", name: "time", content: "noon" }],
  });
  expect(request.tools).toEqual([{ name: "time", parameters: { type: "object", properties: {} } }]);
  expect(request.toolChoice).toEqual({ name: "time" });
  const [, assistant, result] = request.messages;
  expect(assistant).toMatchObject({ toolCalls: [{ id: "call_1", name: "time", arguments: "{}" }] });
  expect(result).toMatchObject({ role: "tool", toolCallId: "call_1", name: "time" });
});

test("a history is taken as models left it: broken arguments, argument objects, missing ids, reasoning under either name", () => {
  const calls = [
    { id: "a", type: "function", function: { name: "f", arguments: '{"x":' } },
    { type: "function", function: { name: "f", arguments: { x: 1 } } },
  ];
  const { messages } = decode({
    messages: [{ role: "assistant", reasoning: "hm", tool_calls: calls, parsed: null, refusal: null }, user],
  });
  expect(messages[0]).toEqual({
    role: "assistant",
    content: [],
    reasoning: "hm",
    toolCalls: [
      { id: "a", name: "f", arguments: '{"x":' },
      { id: "call_0_1", name: "f", arguments: '{"x":1}' },
    ],
  });
});

test("an image in a data URL arrives as its bytes", () => {
  const { messages } = decode(image("data:image/PNG;name=x;base64,iVBO\nRw0="));
  expect(messages[0]?.content).toEqual([{ type: "image", mediaType: "image/png", base64: "iVBORw0=" }]);
});

test("unlimited lengths of llama.cpp and an empty stop mean nothing", () => {
  const request = decode({ max_tokens: -1, stop: "", temperature: null });
  expect(request).not.toHaveProperty("maxTokens");
  expect(request).not.toHaveProperty("temperature");
  expect(request.stop).toEqual([]);
});

test("unknown fields are kept for providers that know them, and refused by nobody", () => {
  expect(decode({ store: true, metadata: { a: "b" }, best: "of all", cache_control: {} }).extra).toEqual({
    store: true,
    metadata: { a: "b" },
    best: "of all",
    cache_control: {},
  });
});

test.each([
  [{ "x-session-id": "a", "x-session-affinity": "b" }, {}, "a"],
  [{ "x-session-affinity": "b" }, { prompt_cache_key: "c" }, "b"],
  [{}, { prompt_cache_key: "c" }, "c"],
  [{}, {}, undefined],
])("the session is known by headers or field: %j %j", (headers, body, session) => {
  expect(decode(body, headers).session).toBe(session);
});

test("every field survives the way to another server and back", () => {
  const random = seeded(7);
  const pick = <Value>(...values: Value[]): Value => values[Math.floor(random() * values.length)] as Value;
  for (let round = 0; round < 300; round++) {
    const request = randomRequest(pick);
    expect(openaiChat.decodeRequest(openaiChat.encodeRequest(request), "m", {})).toEqual(request);
  }
});

function randomRequest(pick: <Value>(...values: Value[]) => Value): ChatRequest {
  const words = pick("", "hi", "Grüße 🦙\n", '"quoted"');
  const tools = pick([], [{ name: "f", parameters: { type: "object" }, description: "d", strict: true }]);
  const seen = { type: "image" as const, mediaType: "image/png", base64: "aGk=" };
  return chatRequest({
    messages: [
      { role: "system", content: [{ type: "text", text: words }] },
      { role: "user", content: pick([{ type: "text", text: words }], [{ type: "text", text: words }, seen]) },
      {
        role: "assistant",
        content: [{ type: "text", text: words }],
        toolCalls: pick([], [{ id: "c", name: "f", arguments: words }]),
        ...pick({}, { reasoning: "hm" }),
      },
      { role: "tool", content: [{ type: "text", text: words }], toolCallId: "c", ...pick({}, { name: "f" }) },
    ],
    tools,
    toolChoice:
      tools.length === 0 ? "none" : pick<ChatRequest["toolChoice"]>("auto", "none", "required", { name: "f" }),
    parallelToolCalls: tools.length === 0 ? true : pick(true, false),
    responseFormat: pick<ChatRequest["responseFormat"]>(
      { type: "text" },
      { type: "json" },
      { type: "json-schema", name: "s", schema: { type: "object" }, strict: true },
    ),
    stream: pick(true, false),
    n: pick(1, 4),
    stop: pick([], ["a", "\n"]),
    ...pick({}, { maxTokens: 9, temperature: 0, topP: 0.5, topK: 4, minP: 0.1, seed: 1 }),
    ...pick({}, { presencePenalty: 1, frequencyPenalty: -1, repeatPenalty: 1.1, logitBias: { 5: -100 } }),
    ...pick({}, { topLogprobs: 0 }, { topLogprobs: 5 }),
    ...pick({}, { reasoningEffort: "low", templateVariables: { enable_thinking: false }, session: "s" }),
    extra: pick<JsonObject>({}, { store: true }),
  });
}
