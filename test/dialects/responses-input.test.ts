import { describe, expect, test } from "vitest";
import type { ChatRequest } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";

const decode = (input: JsonObject[], more: JsonObject = {}): ChatRequest =>
  openaiResponses.decodeRequest({ input, ...more }, "m", {});
const call = (id: string): JsonObject => ({ type: "function_call", call_id: id, name: "ls", arguments: "{}" });
const result = (id: string, output: string | JsonObject[] = "x"): JsonObject => ({
  type: "function_call_output",
  call_id: id,
  output,
});
const thought = (text: string): JsonObject => ({ type: "reasoning", summary: [{ type: "summary_text", text }] });
const toolCall = (id: string): JsonObject => ({ id, name: "ls", arguments: "{}" });
const said = (text: string): JsonObject[] => [{ type: "text", text }];

describe("a turn of the model", () => {
  test("holds all that it says until its calls are answered, as chat templates want results right behind their calls", () => {
    const input = [
      call("a"),
      { role: "assistant", content: "Wait." },
      thought("hm"),
      call("b"),
      result("a"),
      result("b"),
    ];
    expect(decode(input).messages).toEqual([
      { role: "assistant", content: said("Wait."), reasoning: "hm", toolCalls: [toolCall("a"), toolCall("b")] },
      { role: "tool", toolCallId: "a", content: said("x") },
      { role: "tool", toolCallId: "b", content: said("x") },
    ]);
  });

  test("begins anew after each result", () => {
    const { messages } = decode([thought("1"), call("a"), result("a"), thought("2"), call("b"), result("b")]);
    expect(messages.map(({ role }) => role)).toEqual(["assistant", "tool", "assistant", "tool"]);
    expect(messages[2]).toMatchObject({ reasoning: "2", toolCalls: [toolCall("b")] });
  });

  test("begins anew with each text, and thinks before it speaks", () => {
    const { messages } = decode([
      { role: "assistant", content: "a" },
      thought("1"),
      thought("2"),
      { role: "assistant", content: "b" },
    ]);
    expect(messages).toEqual([
      { role: "assistant", content: said("a"), toolCalls: [] },
      { role: "assistant", content: said("b"), reasoning: "1\n\n2", toolCalls: [] },
    ]);
  });
});

test("what clients send beside the point is passed over: nulls, ids, what SDKs add to what they were given", () => {
  const given = {
    parsed: null,
    annotations: [],
    logprobs: [],
    phase: "final_answer",
  };
  const { messages } = decode([
    { type: "reasoning", id: "rs_1", summary: [], content: null, encrypted_content: null, status: null },
    {
      type: "message",
      id: "msg_1",
      role: "assistant",
      content: [{ type: "output_text", text: "a", ...given }],
      ...given,
    },
    { ...call("c"), id: "fc_1", status: "completed", parsed_arguments: null, caller: null, namespace: null },
    { ...result("c"), id: "fco_1", status: null },
    { role: "assistant", content: null },
    { role: "assistant", content: [{ type: "refusal", refusal: "No." }] },
  ]);
  expect(messages).toEqual([
    { role: "assistant", content: said("a"), toolCalls: [toolCall("c")] },
    { role: "tool", toolCallId: "c", content: said("x") },
    { role: "assistant", content: said("No."), toolCalls: [] },
  ]);
});

test("a tool's result may be an image", () => {
  const picture = { type: "input_image", image_url: "data:image/png;base64,aGk=", detail: "auto" };
  expect(decode([call("a"), result("a", [{ type: "input_text", text: "see" }, picture])]).messages[1]).toEqual({
    role: "tool",
    toolCallId: "a",
    content: [...said("see"), { type: "image", mediaType: "image/png", base64: "aGk=" }],
  });
});

test("messages of system and developer keep their places, and Codex's call has no instructions", () => {
  const input = ["developer", "system", "user", "developer"].map((role) => ({ type: "message", role, content: role }));
  expect(decode(input).messages.map(({ role }) => role)).toEqual(["developer", "system", "user", "developer"]);
  expect(decode(input, { instructions: null }).messages).toHaveLength(4);
  expect(decode(input, { instructions: "Be brief." }).messages[0]).toEqual({
    role: "system",
    content: said("Be brief."),
  });
});

test("items of tools that only OpenAI runs leave no trace", () => {
  const types = `item_reference compaction_trigger web_search_call file_search_call computer_call computer_call_output
  image_generation_call code_interpreter_call local_shell_call local_shell_call_output shell_call shell_call_output
  apply_patch_call apply_patch_call_output mcp_list_tools mcp_call mcp_approval_request mcp_approval_response
  tool_search_call tool_search_output additional_tools program program_output`.split(/\s+/);
  const items = types.map((type) => ({ type, id: "x", call_id: "y", tools: [] }));
  expect(decode([...items, { role: "user", content: "hi" }]).messages).toHaveLength(1);
});

test("fields that mean nothing to a model go no further, and those of local servers are understood", () => {
  const request = decode([{ role: "user", content: "hi" }], {
    client_metadata: { a: "b" },
    context_management: [],
    max_tool_calls: 3,
    prompt_cache_retention: "24h",
    service_tier: "flex",
    stream_options: { include_obfuscation: false },
    store: false,
    top_k: 5,
    presence_penalty: 0.5,
    keep_alive: "5m",
    chat_template_kwargs: { enable_thinking: false },
    somebodys_own: 1,
  });
  expect(request).toMatchObject({
    extra: { somebodys_own: 1 },
    topK: 5,
    presencePenalty: 0.5,
    keepAlive: 300,
    priority: "background",
    templateVariables: { enable_thinking: false },
  });
  expect(Object.keys(request.extra)).toEqual(["somebodys_own"]);
});
