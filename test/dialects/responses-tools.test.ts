import { describe, expect, test } from "vitest";
import type { ChatEvent, ChatRequest } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { openaiChat } from "../../src/dialects/openai-chat.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";
import { finish, text } from "../support/chat.ts";
import { expectValid } from "../support/openai-spec.ts";
import { outputOf, responseOf, streamOf } from "../support/responses.ts";

const decode = (body: JsonObject): ChatRequest => openaiResponses.decodeRequest({ input: "hi", ...body }, "m", {});
const tool = (name: string, more: JsonObject = {}): JsonObject => ({
  type: "function",
  name,
  parameters: { type: "object" },
  ...more,
});
const patch = { type: "custom", name: "apply_patch", description: "Edits files." };
const crm = { type: "namespace", name: "crm", description: "Customers.", tools: [tool("find"), tool("drop")] };
const namesOf = (body: JsonObject): string[] => decode(body).tools.map(({ name }) => name);

/** What a model's one call of a tool becomes, in a reply and as a stream. */
async function callOf(tools: JsonObject[], name: string, fragments: string[]): Promise<[JsonObject, JsonObject[]]> {
  const events: ChatEvent[] = [
    { type: "tool-call", index: 0, id: "call_a", name, arguments: "" },
    ...fragments.map((fragment): ChatEvent => ({ type: "tool-call", index: 0, arguments: fragment })),
    finish(),
  ];
  const sent = await streamOf({ tools }, events);
  for (const event of sent) expectValid("ResponseStreamEvent", event);
  const { output } = (await responseOf({ tools }, events)) as { output: JsonObject[] };
  expect(outputOf(sent)).toEqual(output);
  return [output[0] ?? {}, sent];
}

describe("a custom tool", () => {
  test("is given to the model as a function of one text, with its grammar in words", () => {
    const format = { type: "grammar", syntax: "lark", definition: "start: /a+/" };
    const [given] = decode({ tools: [{ ...patch, format }] }).tools;
    expect(given).toEqual({
      name: "apply_patch",
      description: "Edits files.\n\nIts input must match this lark grammar:\nstart: /a+/",
      parameters: {
        type: "object",
        properties: { input: { type: "string" } },
        required: ["input"],
        additionalProperties: false,
      },
    });
  });

  test.each([
    [String.raw`^\d+-[a-z]+$`, String.raw`^(\d+-[a-z]+)$`],
    ["a|b", "^(a|b)$"],
    ["(?<=a", undefined],
    [String.raw`(?x) a # Rust's own`, undefined],
  ])("with the expression %j holds its input to it, where JSON Schema can say it", (definition, pattern) => {
    const [given] = decode({ tools: [{ ...patch, format: { type: "grammar", syntax: "regex", definition } }] }).tools;
    const input = { type: "string", ...(pattern === undefined ? {} : { pattern }) };
    expect(given?.parameters.properties).toEqual({ input });
  });

  const input = '*** Begin "Patch"\n+\tHé 👩‍💻 \\ \u2028\n';
  const escaped = JSON.stringify({ input }).replace(/[^ -~]/g, (unit) => {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });

  test.each([
    ["at once", [JSON.stringify({ input })]],
    ["by the character", [...JSON.stringify({ input })]],
    ["in pieces, with spaces", (JSON.stringify({ input }, null, 2).match(/[^]{1,5}/gu) ?? []).map(String)],
    ["escaped, by the character", [...escaped]],
  ])("that is called %s is a custom_tool_call whose text streams unwrapped", async (_name, fragments) => {
    const [item, sent] = await callOf([patch], "apply_patch", fragments);
    expect(item).toMatchObject({ type: "custom_tool_call", call_id: "call_a", name: "apply_patch", input });
    const deltas = sent.filter(({ type }) => type === "response.custom_tool_call_input.delta");
    expect(deltas.map(({ delta }) => delta).join("")).toBe(input);
    expect(deltas.every(({ delta }) => Buffer.from(String(delta)).toString() === delta)).toBe(true);
    if (fragments.length > 1) expect(deltas.length).toBeGreaterThan(1);
    expect(sent.find(({ type }) => type === "response.custom_tool_call_input.done")).toMatchObject({ input });
    expect(sent.some(({ type }) => String(type).startsWith("response.function_call"))).toBe(false);
  });

  test.each([
    ["another name for its text", '{"patch":"abc"}', "abc"],
    ["a text without an object", '"abc"', "abc"],
    ["no JSON at all", "*** Begin Patch\nabc", "*** Begin Patch\nabc"],
    ["more than a text", '{"a":1,"b":2}', '{"a":1,"b":2}'],
    ["line breaks as they are", '{"input":"a\nb"}', "a\nb"],
    ["something after its text", '{"input":"abc","why":"x"}', "abc"],
    ["a text that breaks off", '{"input":"abc\\u00', "abc"],
    ["an escape that JSON does not have", String.raw`{"input":"a\d+"}`, String.raw`a\d+`],
    ["an empty text", '{"input":""}', ""],
  ])("that a model calls with %s still gets its text", async (_name, written, expected) => {
    for (const fragments of [[written], [...written]]) {
      const [item, sent] = await callOf([patch], "apply_patch", fragments);
      expect(item.input).toBe(expected);
      const said = sent.map((event) => (String(event.type).endsWith("input.delta") ? event.delta : ""));
      expect(said.join("")).toBe(expected);
    }
  });

  test("comes back in a history as the function that the model knows", () => {
    const { messages } = decode({
      tools: [patch],
      input: [
        { type: "custom_tool_call", id: "ctc_1", call_id: "c", name: "apply_patch", input: 'a "b"\n' },
        { type: "custom_tool_call_output", call_id: "c", output: "Done!" },
      ],
    });
    expect(messages).toEqual([
      {
        role: "assistant",
        content: [],
        toolCalls: [{ id: "c", name: "apply_patch", arguments: '{"input":"a \\"b\\"\\n"}' }],
      },
      { role: "tool", toolCallId: "c", content: [{ type: "text", text: "Done!" }] },
    ]);
  });
});

describe("a namespace", () => {
  test("is flattened to functions whose names are unique and fit for OpenAI's chat", () => {
    const long = "x".repeat(70);
    const spaces = [
      crm,
      { ...crm, name: "my.crm", tools: [`a${long}`, `b${long}`, `c${long}`, "a.b", "a b"].map((name) => tool(name)) },
    ];
    const names = namesOf({ tools: [tool("crm__find"), ...spaces, tool("find")] });
    expect(names).toHaveLength(9);
    expect(new Set(names).size).toBe(9);
    for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
    expect(names).toContain("crm__drop");
  });

  test.each(["crm__find", "crm.find", "find"])(
    "is told of by name in a call of %s, as Codex expects it",
    async (called) => {
      const [item] = await callOf([crm, tool("ls")], called, ["{}"]);
      expect(item).toMatchObject({ type: "function_call", namespace: "crm", name: "find", arguments: "{}" });
    },
  );

  test("may hold custom tools", async () => {
    const [item] = await callOf([{ ...crm, tools: [patch] }], "crm__apply_patch", ['{"input":"a"}']);
    expect(item).toMatchObject({ type: "custom_tool_call", namespace: "crm", name: "apply_patch", input: "a" });
  });

  test("does not take calls from a function of the same name", async () => {
    const [item] = await callOf([tool("find"), crm], "find", ["{}"]);
    expect(item).toMatchObject({ name: "find" });
    expect(item).not.toHaveProperty("namespace");
  });

  test("leaves a name that no tool has as the model wrote it", async () => {
    const [item] = await callOf([crm, { ...crm, name: "other" }], "find", ["{}"]);
    expect(item).toMatchObject({ name: "find" });
    expect(item).not.toHaveProperty("namespace");
  });

  test("comes back in a history under the flattened name, even when its tools are gone", () => {
    const call = { type: "function_call", call_id: "c", namespace: "crm", name: "find", arguments: "{}" };
    for (const tools of [[crm], [tool("find"), crm], []]) {
      const [message] = decode({ tools, input: [call] }).messages;
      expect(message).toMatchObject({ toolCalls: [{ name: "crm__find" }] });
    }
  });
});

describe("the choice of a tool", () => {
  const tools = [tool("ls"), patch, crm, { type: "web_search" }];

  test.each<[JsonObject["tool_choice"], ChatRequest["toolChoice"], string[]]>([
    ["auto", "auto", ["ls", "apply_patch", "crm__find", "crm__drop"]],
    ["none", "none", ["ls", "apply_patch", "crm__find", "crm__drop"]],
    ["required", "required", ["ls", "apply_patch", "crm__find", "crm__drop"]],
    [null, "auto", ["ls", "apply_patch", "crm__find", "crm__drop"]],
    [{ type: "function", name: "ls" }, { name: "ls" }, ["ls", "apply_patch", "crm__find", "crm__drop"]],
    [{ type: "function", name: "find" }, { name: "crm__find" }, ["ls", "apply_patch", "crm__find", "crm__drop"]],
    [{ type: "custom", name: "apply_patch" }, { name: "apply_patch" }, ["ls", "apply_patch", "crm__find", "crm__drop"]],
    [{ type: "web_search" }, "auto", ["ls", "apply_patch", "crm__find", "crm__drop"]],
    [{ type: "mcp", server_label: "s" }, "auto", ["ls", "apply_patch", "crm__find", "crm__drop"]],
    [
      {
        type: "allowed_tools",
        mode: "required",
        tools: [{ type: "custom", name: "apply_patch" }, { type: "web_search" }],
      },
      "required",
      ["apply_patch"],
    ],
    [
      { type: "allowed_tools", mode: "auto", tools: [{ type: "namespace", name: "crm" }] },
      "auto",
      ["crm__find", "crm__drop"],
    ],
  ])("%j is understood", (choice, expected, names) => {
    const request = decode({ tools, tool_choice: choice ?? null });
    expect(request.toolChoice).toEqual(expected);
    expect(request.tools.map(({ name }) => name)).toEqual(names);
  });

  test("of hosted tools alone leaves the model none, instead of failing", () => {
    const hosted = [{ type: "web_search" }];
    for (const choice of ["auto", "required", { type: "web_search" }, null])
      expect(decode({ tools: hosted, tool_choice: choice })).toMatchObject({ tools: [], toolChoice: "none" });
    const allowed = { type: "allowed_tools", mode: "required", tools: hosted };
    expect(decode({ tools: [tool("ls"), ...hosted], tool_choice: allowed })).toMatchObject({ toolChoice: "none" });
  });

  test.each<[JsonObject, string]>([
    [{ tools: [tool("ls")], tool_choice: { type: "custom", name: "rm" } }, "tool_choice.name"],
    [{ tools: [], tool_choice: "required" }, "tool_choice"],
    [{ tools: [{ name: "ls" }] }, "tools[0].type"],
    [{ tools: [{ type: "custom" }] }, "tools[0].name"],
    [{ tools: [{ type: "namespace", name: "a", tools: [{ type: "function" }] }] }, "tools[0].tools[0].name"],
    [{ tools: [tool("ls")], tool_choice: { type: "allowed_tools", mode: "auto" } }, "tool_choice.tools"],
  ])("%j is refused by the name of the field", (body, param) => {
    expect(() => decode(body)).toThrow(expect.objectContaining({ param }));
  });
});

test("more tools than any model can use are refused before they cost time, and notes on them are few", async () => {
  const many = Array.from({ length: 2000 }, (_, index) => tool(`ls${index}`));
  expect(() => decode({ tools: many })).toThrow(expect.objectContaining({ param: "tools" }));
  const odd = Array.from({ length: 2000 }, (_, index) => ({ type: `odd_${index}` }));
  const { lair } = (await responseOf({ tools: odd }, [finish()])) as { lair: { notes: string[] } };
  expect(lair.notes).toHaveLength(16);
});

test("tools that the input brings later are given to the model too, each once", () => {
  const input = [
    { type: "additional_tools", role: "developer", tools: [tool("late")] },
    { type: "tool_search_output", call_id: "c", execution: "client", status: "completed", tools: [crm] },
    { type: "tool_search_output", call_id: "d", execution: "client", status: "completed", tools: [crm, tool("ls")] },
    { role: "user", content: "hi" },
  ];
  expect(namesOf({ input, tools: [tool("ls"), { type: "tool_search" }] })).toEqual([
    "ls",
    "late",
    "crm__find",
    "crm__drop",
  ]);
});

test("what is asked of another server is the same after it went on as a chat", () => {
  const body = { tools: [tool("ls"), patch, crm], tool_choice: { type: "custom", name: "apply_patch" } };
  const encoded = openaiChat.encodeRequest(decode(body));
  expect(openaiChat.encodeRequest(openaiChat.decodeRequest(encoded, "m", {}))).toEqual(encoded);
});

test("parallel calls of several kinds keep their places", async () => {
  const events: ChatEvent[] = [
    text("Both."),
    { type: "tool-call", index: 0, id: "a", name: "apply_patch", arguments: '{"inp' },
    { type: "tool-call", index: 1, id: "b", name: "crm__find", arguments: "{" },
    { type: "tool-call", index: 0, arguments: 'ut":"x"}' },
    { type: "tool-call", index: 1, arguments: "}" },
    finish("tool-calls"),
  ];
  const sent = await streamOf({ tools: [patch, crm] }, events);
  const done = sent.filter(({ type }) => type === "response.output_item.done").map(({ item }) => item as JsonObject);
  expect(done.map(({ type }) => type)).toEqual(["message", "custom_tool_call", "function_call"]);
  expect(new Set(done.map(({ id }) => id)).size).toBe(3);
  expect(done[1]).toMatchObject({ call_id: "a", input: "x" });
  expect(done[2]).toMatchObject({ call_id: "b", arguments: "{}" });
});
