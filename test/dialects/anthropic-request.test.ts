import { describe, expect, test } from "vitest";
import type { ChatRequest } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { anthropicMessages } from "../../src/dialects/anthropic-messages.ts";

const hi = [{ role: "user", content: "hi" }];
const decode = (body: JsonObject, headers = {}): ChatRequest =>
  anthropicMessages.decodeRequest({ model: "m", messages: hi, ...body }, "m", headers);
const spoken = (content: Json): ChatRequest["messages"] => decode({ messages: [{ role: "user", content }] }).messages;
const text = (said: string): { type: string; text: string } => ({ type: "text", text: said });

function refusal(body: JsonObject): { code: string; param: string | null } {
  try {
    decode(body);
  } catch (error) {
    if (error instanceof ApiError) return { code: error.code, param: error.param };
    throw error;
  }
  throw new Error("it was not refused");
}

describe("a request of Messages", () => {
  test("begins the same however Claude Code's billing line changes, in one system message", () => {
    const systems = ["cc_version=2.1.330.cd1; cch=0a1b2;", "cc_version=2.1.331.ff0; cch=99999;"].map((line) => [
      text(`x-anthropic-billing-header: ${line}`),
      { ...text("You are an agent."), cache_control: { type: "ephemeral" } },
      text("Be short."),
    ]);
    const [first, second] = systems.map((system) => decode({ system }).messages);
    expect(first).toEqual(second);
    expect(first?.[0]).toEqual({ role: "system", content: [text("You are an agent.\nBe short.")] });
    expect(decode({ system: "x-anthropic-billing-header: a=b\nBe short." }).messages[0]?.content).toEqual([
      text("Be short."),
    ]);
  });

  test("keeps a system message between the turns where it is, as text or as blocks", () => {
    const between = (content: Json): ChatRequest["messages"] =>
      decode({ messages: [...hi, { role: "system", content }, { role: "assistant", content: "yes" }] }).messages;
    expect(between([text("A remark.")])).toEqual(between("A remark."));
    expect(between("A remark.").map(({ role }) => role)).toEqual(["user", "system", "assistant"]);
  });

  test("puts results of tools before what the user says, and their images into the user's words", () => {
    const messages = spoken([
      text("Look at this:"),
      {
        type: "tool_result",
        tool_use_id: "a",
        content: [
          text("one"),
          { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0K" } },
        ],
      },
      { type: "tool_result", tool_use_id: "b", is_error: true, content: "no such file" },
      { type: "tool_result", tool_use_id: "c", is_error: true, content: "Error: no such file" },
      { type: "tool_result", tool_use_id: "d" },
    ]);
    expect(messages).toEqual([
      { role: "tool", toolCallId: "a", content: [text("one")] },
      { role: "tool", toolCallId: "b", content: [text("Error:\nno such file")] },
      { role: "tool", toolCallId: "c", content: [text("Error: no such file")] },
      { role: "tool", toolCallId: "d", content: [] },
      {
        role: "user",
        content: [
          text("Look at this:"),
          text("The result of the tool call a holds:"),
          { type: "image", mediaType: "image/png", base64: "iVBORw0K" },
        ],
      },
    ]);
  });

  test("gives back what the model thought, and leaves out what only Anthropic can read", () => {
    const { messages } = decode({
      messages: [
        ...hi,
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "Hm.", signature: "c2ln" },
            { type: "thinking", thinking: "", signature: "" },
            { type: "redacted_thinking", data: "xyz" },
            { type: "server_tool_use", id: "s", name: "web_search", input: {} },
            { type: "web_search_tool_result", tool_use_id: "s", content: [] },
            text("I call."),
            { type: "tool_use", id: "t", name: "ls", input: { path: "a" }, cache_control: { type: "ephemeral" } },
          ],
        },
      ],
    });
    expect(messages[1]).toEqual({
      role: "assistant",
      content: [text("I call.")],
      reasoning: "Hm.",
      toolCalls: [{ id: "t", name: "ls", arguments: '{"path":"a"}' }],
    });
  });

  test("reads documents and search results where they hold text", () => {
    expect(
      spoken([
        { type: "document", title: "Notes", source: { type: "text", media_type: "text/plain", data: "abc" } },
        { type: "document", source: { type: "content", content: [text("def")] } },
        { type: "search_result", title: "Found", source: "https://a.example", content: [text("ghi")] },
      ]),
    ).toEqual([{ role: "user", content: [text("Notes\n\n\nabc\ndef\nFound\nhttps://a.example\nghi")] }]);
  });

  test("shows a deferred tool to the model once a search has found it, and never those that run elsewhere", () => {
    const tool = (name: string, more = {}): JsonObject => ({ name, input_schema: { type: "object" }, ...more });
    const tools = [
      tool("Read", { input_examples: [{}], strict: true }),
      tool("DeferredToolPlaceholder", { defer_loading: true }),
      tool("Search", { defer_loading: true }),
      { type: "web_search_20250305", name: "web_search", max_uses: 5 },
      { type: "tool_search_tool_bm25_20251119", name: "tool_search_tool_bm25" },
    ];
    const names = (body: JsonObject): string[] => decode({ tools, ...body }).tools.map(({ name }) => name);
    expect(names({})).toEqual(["Read"]);
    const found = { type: "tool_result", tool_use_id: "a", content: [{ type: "tool_reference", tool_name: "Search" }] };
    expect(names({ messages: [{ role: "user", content: [found] }] })).toEqual(["Read", "Search"]);
    const searched = {
      type: "tool_search_tool_result",
      tool_use_id: "a",
      content: {
        type: "tool_search_tool_search_result",
        tool_references: [{ type: "tool_reference", tool_name: "Search" }],
      },
    };
    expect(names({ messages: [...hi, { role: "assistant", content: [searched] }] })).toEqual(["Read", "Search"]);
    expect(decode({ tools: tools.slice(3), tool_choice: { type: "any" } })).toMatchObject({ toolChoice: "none" });
  });

  test.each([
    [undefined, "auto", true],
    [{ type: "auto" }, "auto", true],
    [{ type: "any", disable_parallel_tool_use: true }, "required", false],
    [{ type: "tool", name: "ls" }, { name: "ls" }, true],
    [{ type: "none" }, "none", true],
  ])("with the tool choice %j", (choice, toolChoice, parallelToolCalls) => {
    const tools = [{ name: "ls", input_schema: { type: "object" } }];
    expect(decode({ tools, tool_choice: choice })).toMatchObject({ toolChoice, parallelToolCalls });
  });

  test.each([
    [{}, undefined],
    [{ thinking: { type: "adaptive", display: "omitted" }, output_config: { effort: "high" } }, undefined],
    [{ thinking: { type: "adaptive" }, output_config: { effort: "low" } }, "low"],
    [{ thinking: { type: "adaptive" }, output_config: { effort: "max" } }, "xhigh"],
    [{ thinking: { type: "enabled", budget_tokens: 1024 } }, "low"],
    [{ thinking: { type: "enabled", budget_tokens: 10_000 } }, "medium"],
    [{ thinking: { type: "enabled", budget_tokens: 32_000 } }, "high"],
    [{ thinking: { type: "disabled" }, output_config: { effort: "high" } }, "none"],
  ] as [JsonObject, string | undefined][])("thinks as hard as %j asks", (body, effort) => {
    expect(decode(body).reasoningEffort).toBe(effort);
  });

  test("carries its limits, format and session, and nothing that only Anthropic knows", () => {
    const schema = { type: "object", properties: { a: { type: "string" } } };
    const request = decode(
      {
        max_tokens: 10,
        top_k: 5,
        top_p: 0.5,
        temperature: 1,
        stop_sequences: ["END", ""],
        output_config: { format: { type: "json_schema", schema } },
        metadata: { user_id: '{"device_id":"d","session_id":"s-1"}' },
        context_management: { edits: [] },
        container: null,
        anything_new: true,
      },
      { "anthropic-beta": "x" },
    );
    expect(request).toMatchObject({
      maxTokens: 10,
      topK: 5,
      topP: 0.5,
      temperature: 1,
      stop: ["END"],
      responseFormat: { type: "json-schema", schema },
      session: "s-1",
      extra: {},
    });
    expect(decode({}, { "x-claude-code-session-id": "s-2" }).session).toBe("s-2");
    expect(decode({ output_format: { type: "json_schema", schema } }).responseFormat.type).toBe("json-schema");
  });

  test.each([
    [{ messages: [] }, "invalid_value", "messages"],
    [{ messages: undefined }, "missing_required_parameter", "messages"],
    [{ messages: [{ role: "tool", content: "x" }] }, "invalid_value", "messages[0].role"],
    [{ messages: [{ role: "user" }] }, "missing_required_parameter", "messages[0].content"],
    [{ messages: [{ role: "user", content: [{ type: "audio" }] }] }, "invalid_value", "messages[0].content[0].type"],
    [
      { messages: [{ role: "user", content: [{ type: "image", source: { type: "url", url: "http://10.0.0.1/a" } }] }] },
      "invalid_image",
      "messages[0].content[0].source.url",
    ],
    [
      { messages: [{ role: "user", content: [{ type: "document", source: { type: "base64", data: "JVBE" } }] }] },
      "unsupported_parameter",
      "messages[0].content[0].source.type",
    ],
    [{ tools: [{ input_schema: {} }] }, "missing_required_parameter", "tools[0].name"],
    [{ tool_choice: { type: "tool", name: "nothing" } }, "invalid_value", "tool_choice.name"],
    [{ max_tokens: 0 }, "invalid_value", "max_tokens"],
    [{ system: [{ type: "image" }] }, "invalid_value", "system[0].type"],
  ] as [JsonObject, string, string][])("%j is refused, naming the field", (body, code, param) => {
    expect(refusal(body)).toEqual({ code, param });
  });
});
