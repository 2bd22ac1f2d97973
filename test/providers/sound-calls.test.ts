import { describe, expect, test } from "vitest";
import { isObject, type Json, type JsonObject } from "../../src/core/json.ts";
import type { ProviderKind } from "../../src/providers/settings.ts";
import { startFakeLmDeploy } from "../support/fake-lmdeploy.ts";
import { startFakeMnn } from "../support/fake-mnn.ts";
import { startFakeOllama } from "../support/fake-ollama.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type FakeServer, type Script, type Step } from "../support/fake-server.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";
import { chunksOf, closedAfterEach, jsonOf, post, providerOf, readChat } from "./calls.ts";

/** A server that asks for tools in its own way. */
interface Kind {
  readonly kind: ProviderKind;
  readonly model: string;
  readonly path: string;
  start(reply: Script): Promise<FakeServer>;
  /** How its model writes a call. */
  call(name: string, args: JsonObject): Step[];
}

const openaiCall = (name: string, args: JsonObject): Step[] => [
  { call: { name, arguments: args } },
  { finish: "tool_calls" },
];

const kinds: readonly Kind[] = [
  {
    kind: "openai",
    model: "gemma-3-4b",
    path: "/v1/chat/completions",
    start: (reply) => startFakeOpenAi({ reply }),
    call: openaiCall,
  },
  {
    kind: "vllm",
    model: "Qwen/Qwen3-8B",
    path: "/v1/chat/completions",
    start: (reply) => startFakeVllm({ reply }),
    call: openaiCall,
  },
  {
    kind: "lmdeploy",
    model: "internlm/internlm3-8b",
    path: "/v1/chat/completions",
    start: (reply) => startFakeLmDeploy({ reply }),
    call: openaiCall,
  },
  {
    kind: "ollama",
    model: "qwen3:8b",
    path: "/api/chat",
    start: (reply) => startFakeOllama({ reply }),
    call: (name, args) => [{ call: { name, arguments: args } }, { finish: "stop" }],
  },
  {
    kind: "mnn",
    model: "default",
    path: "/v1/chat/completions",
    start: (reply) => startFakeMnn({ reply }),
    call: (name, args) => [
      { text: `<tool_call>\n${JSON.stringify({ name, arguments: args })}\n</tool_call>` },
      { finish: "stop" },
    ],
  },
];

const read = {
  type: "function",
  function: {
    name: "read",
    parameters: {
      type: "object",
      properties: { path: { type: "string" }, line: { type: "integer" } },
      required: ["path"],
    },
  },
};
const write = { type: "function", function: { name: "write", parameters: { type: "object", properties: {} } } };

const open = closedAfterEach();

async function over(kind: Kind, reply: Script) {
  const server = await kind.start(reply);
  const provider = providerOf(kind.kind, [server.url]);
  open.push(
    () => provider.close(),
    () => server.close(),
  );
  const ask = (body: JsonObject = {}, path = "/v1/chat/completions") =>
    post(provider, path, {
      model: kind.model,
      messages: [{ role: "user", content: "Hi" }],
      tools: [read, write],
      stream: true,
      ...body,
    });
  return { server, ask, asked: () => server.to(kind.path).map(({ body }) => body) };
}

function turns(...scripts: Step[][]): Script {
  return (_body, turn) => scripts[Math.min(turn, scripts.length - 1)] ?? [];
}

describe.each(kinds)("over $kind", (kind) => {
  test("a number written as a text becomes one, in a stream and in a whole reply", async () => {
    const { ask, asked } = await over(kind, kind.call("read", { path: "a.txt", line: "12" }));
    const said = await readChat(await ask());
    expect(said.calls).toMatchObject([{ name: "read", arguments: '{"path":"a.txt","line":12}' }]);
    expect([said.finish, said.error, said.done]).toEqual(["tool_calls", undefined, true]);
    expect(callsOf(await jsonOf(await ask({ stream: false })))).toMatchObject([
      { function: { name: "read", arguments: '{"path":"a.txt","line":12}' } },
    ]);
    expect(asked()).toHaveLength(2);
  });

  test("a call that cannot be repaired is told to the model, which is asked once more", async () => {
    const { ask, asked } = await over(
      kind,
      turns(kind.call("read", { line: 1 }), kind.call("read", { path: "a.txt" })),
    );
    const said = await readChat(await ask());
    expect(said.calls).toMatchObject([{ name: "read", arguments: '{"path":"a.txt"}' }]);
    expect(JSON.stringify(asked()[1]?.messages)).toContain("`path` is missing");
    expect(asked()).toHaveLength(2);
    expect(said.usage?.prompt_tokens).toBeGreaterThan(0);
  });

  test("a model that is wrong twice is not asked a third time: the client gets what it said", async () => {
    const { ask, asked } = await over(kind, kind.call("read", { line: 1 }));
    expect((await readChat(await ask())).calls).toMatchObject([{ name: "read", arguments: '{"line":1}' }]);
    expect(asked()).toHaveLength(2);
  });

  test("nothing is asked again after words have gone out", async () => {
    const { ask, asked } = await over(kind, [{ text: "Let me look. " }, ...kind.call("read", { line: 1 })]);
    const said = await readChat(await ask());
    expect(said.text).toContain("Let me look.");
    expect(said.calls).toMatchObject([{ name: "read", arguments: '{"line":1}' }]);
    expect(asked()).toHaveLength(1);
  });

  test.each<[path: string, body: JsonObject]>([
    ["/v1/responses", { input: "Hi", messages: undefined, tools: [{ type: "function", ...read.function }] }],
    ["/v1/messages", { max_tokens: 99, tools: [{ name: "read", input_schema: read.function.parameters }] }],
    ["/api/chat", {}],
  ])("a stream of %s holds the call of the second answer, and none of the first", async (path, body) => {
    const script = turns(kind.call("read", { line: "4711" }), kind.call("read", { path: "a.txt", line: "8" }));
    const { ask, asked } = await over(kind, script);
    let said = "";
    for await (const chunk of chunksOf(await ask(body, path))) said += chunk;
    expect(said.replaceAll("\\", "")).toContain('{"path":"a.txt","line":8}');
    expect(said).not.toContain("4711");
    expect(said).not.toMatch(/"error":\{|event: error/);
    expect(asked()).toHaveLength(2);
  });

  test("one call goes on where only one may", async () => {
    const calls = [...kind.call("read", { path: "a" }).slice(0, 1), ...kind.call("read", { path: "b" })];
    const { ask } = await over(kind, calls);
    const said = await readChat(await ask({ parallel_tool_calls: false }));
    expect(said.calls).toMatchObject([{ name: "read", arguments: '{"path":"a"}' }]);
    expect(callsOf(await jsonOf(await ask({ stream: false, parallel_tool_calls: false })))).toHaveLength(1);
    expect((await readChat(await ask())).calls).toHaveLength(2);
  });

  test("a call that nobody asked for is nobody's fault: it goes on as it is", async () => {
    const { ask, asked } = await over(kind, kind.call("nothing", { line: "1" }));
    for (const stream of [true, false]) {
      const reply = await ask({ tool_choice: "none", stream });
      expect(stream ? (await readChat(reply)).finish : reply.status).toBeTruthy();
    }
    expect(asked()).toHaveLength(2);
  });

  test("a history that no server takes is mended before it is sent", async () => {
    const { ask, asked } = await over(kind, [{ text: "ok" }, { finish: "stop" }]);
    const call = (id: string, text: string) => ({ id, type: "function", function: { name: "read", arguments: text } });
    await readChat(
      await ask({
        messages: [
          { role: "user", content: "Hi" },
          { role: "assistant", content: "", tool_calls: [call("a", '{"path": "x'), call("b", '{"path":"y"}')] },
          { role: "tool", tool_call_id: "b", content: "of b" },
          { role: "user", content: "go on" },
          { role: "tool", tool_call_id: "gone", content: "of nobody" },
        ],
      }),
    );
    const sent = JSON.stringify(asked()[0]?.messages);
    for (const part of ["_invalid", "of b", "No result", "of nobody", "go on"]) expect(sent).toContain(part);
    expect(sent.indexOf("No result")).toBeLessThan(sent.indexOf("go on"));
  });
});

/** A model that says "no thanks" to tools, and writes a call only where its answer is held to a form, or vLLM forces it. */
const reluctant =
  ({ kind, call }: Kind): Script =>
  (body) => {
    if (kind === "vllm" && body.tool_choice !== "auto" && body.tool_choice !== undefined)
      return call(forcedTool(body), { path: "a" });
    const told = JSON.stringify(body.messages);
    if (!told.includes("You must now call")) return [{ text: "no thanks" }, { finish: "stop" }];
    // What is held to a form writes a function that the form names; the first that was told of, where there is none.
    const [, only = ""] = /\\"name\\":\\"(\w+)\\"/.exec(told) ?? [];
    return [{ text: JSON.stringify({ name: only, arguments: { path: "a" } }) }, { finish: "stop" }];
  };

/** The tool that vLLM makes a model call: it knows "required" and a function's name. */
function forcedTool({ tool_choice: choice, tools }: JsonObject): string {
  if (isObject(choice) && isObject(choice.function)) return String(choice.function.name);
  const [tool] = Array.isArray(tools) ? tools : [];
  return choice === "required" && isObject(tool) && isObject(tool.function) ? String(tool.function.name) : "refused";
}

describe.each(kinds)("a choice holds over $kind, whose model would rather talk:", (kind) => {
  const flat = [read, write].map(({ function: described }) => ({ type: "function", ...described }));
  const anthropic = [read, write].map(({ function: { name, parameters } }) => ({ name, input_schema: parameters }));
  const input = [{ type: "message", role: "user", content: [{ type: "input_text", text: "Hi" }] }];

  test.each<[form: string, path: string, body: JsonObject, tool: string]>([
    ["chat, required", "/v1/chat/completions", { tool_choice: "required" }, "read"],
    ["chat, any", "/v1/chat/completions", { tool_choice: "any" }, "read"],
    [
      "chat, named",
      "/v1/chat/completions",
      { tool_choice: { type: "function", function: { name: "write" } } },
      "write",
    ],
    [
      "chat, allowed",
      "/v1/chat/completions",
      {
        tool_choice: {
          type: "allowed_tools",
          allowed_tools: { mode: "required", tools: [{ type: "function", function: { name: "write" } }] },
        },
      },
      "write",
    ],
    ["Responses, required", "/v1/responses", { input, tools: flat, tool_choice: "required" }, "read"],
    [
      "Responses, named",
      "/v1/responses",
      { input, tools: flat, tool_choice: { type: "function", name: "write" } },
      "write",
    ],
    [
      "Responses, allowed",
      "/v1/responses",
      {
        input,
        tools: flat,
        tool_choice: { type: "allowed_tools", mode: "required", tools: [{ type: "function", name: "write" }] },
      },
      "write",
    ],
    ["Messages, any", "/v1/messages", { max_tokens: 99, tools: anthropic, tool_choice: { type: "any" } }, "read"],
    [
      "Messages, named",
      "/v1/messages",
      { max_tokens: 99, tools: anthropic, tool_choice: { type: "tool", name: "write" } },
      "write",
    ],
  ])("%s", async (_, path, body, tool) => {
    const { ask } = await over(kind, reluctant(kind));
    const json = JSON.stringify(await jsonOf(await ask({ stream: false, ...body }, path)));
    expect(json).toContain(`"name":"${tool}"`);
    expect(json).toMatch(/"path\\?":\\?"a/);
    expect(json).not.toContain("no thanks");
  });

  test("none takes the tools away", async () => {
    const { ask, asked } = await over(kind, reluctant(kind));
    await jsonOf(await ask({ stream: false, tool_choice: "none" }));
    expect(asked()[0]?.tools).toBeUndefined();
    expect(JSON.stringify(asked()[0]?.messages)).not.toContain("read");
  });
});

function callsOf(json: JsonObject): Json[] {
  const [choice] = Array.isArray(json.choices) ? json.choices : [];
  const message = isObject(choice) && isObject(choice.message) ? choice.message : {};
  return Array.isArray(message.tool_calls) ? message.tool_calls : [];
}
