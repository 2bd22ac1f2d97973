import { describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { JsonObject } from "../../src/core/json.ts";
import type { ChoiceEvent } from "../../src/dialects/dialect.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";
import { drain } from "../support/bytes.ts";
import { asChoice, dataOf, finish, reasoning, replyHead, text } from "../support/chat.ts";
import { expectValid, expectValidOpen } from "../support/openai-spec.ts";
import { outputOf, responseOf, streamOf } from "../support/responses.ts";

const turn: ChatEvent[] = [
  reasoning("Let me "),
  reasoning("look."),
  text("I look."),
  { type: "tool-call", index: 0, id: "call_a", name: "ls", arguments: '{"x"' },
  { type: "tool-call", index: 0, arguments: ":1}" },
  finish(),
];
const ls = { type: "function", name: "ls", parameters: { type: "object" } };

describe("the Open Responses specification", () => {
  test.each<[string, JsonObject, ChatEvent[]]>([
    ["a summary of thinking, text and a call", { tools: [ls], reasoning: { summary: "auto" } }, turn],
    ["an answer that was cut", { max_output_tokens: 3 }, [text("Hel"), finish("length")]],
    ["log probabilities", { top_logprobs: 1, text: { format: { type: "json_object" }, verbosity: "low" } }, logprobs()],
    ["a failure", { tools: [ls], tool_choice: "required", truncation: "auto" }, [text("Hel")]],
  ])("allows every event of %s", async (_name, body, events) => {
    const sent = await streamOf(body, events).catch(() => []);
    for (const event of sent) expectValidOpen("StreamingEvent", event);
    const last = sent.at(-1)?.response;
    if (last !== undefined) expectValidOpen("ResponseResource", last);
    expect(sent.length).toBeGreaterThan(2);
  });

  test("has every field even where a call gave none", async () => {
    expectValidOpen("ResponseResource", await responseOf({}, [text("Hi"), finish()]));
  });
});

function logprobs(): ChatEvent[] {
  return [{ type: "logprobs", tokens: [{ token: "{", logprob: -0.5, bytes: null, top: [] }] }, text("{"), finish()];
}

describe("thinking", () => {
  test("is given as a summary to whoever asks for one, and only as that", async () => {
    const sent = await streamOf({ reasoning: { summary: "auto" } }, turn);
    for (const event of sent) expectValid("ResponseStreamEvent", event);
    expect(sent.slice(2, 9).map(({ type }) => type)).toEqual([
      "response.output_item.added",
      "response.reasoning_summary_part.added",
      "response.reasoning_summary_text.delta",
      "response.reasoning_summary_text.delta",
      "response.reasoning_summary_text.done",
      "response.reasoning_summary_part.done",
      "response.output_item.done",
    ]);
    expect(outputOf(sent)[0]).toMatchObject({
      type: "reasoning",
      summary: [{ type: "summary_text", text: "Let me look." }],
    });
    expect(JSON.stringify(sent)).not.toContain("reasoning_text");
  });

  test("comes back whole from a client that was given it in encrypted_content and keeps nothing else", async () => {
    const { output } = (await responseOf({ include: ["reasoning.encrypted_content"] }, turn)) as {
      output: JsonObject[];
    };
    const [thought, ...rest] = output;
    const kept = { type: "reasoning", summary: [], encrypted_content: thought?.encrypted_content ?? null };
    expect(JSON.stringify(kept)).not.toContain("look");
    const { messages } = openaiResponses.decodeRequest({ input: [kept, ...rest] }, "m", {});
    expect(messages).toMatchObject([{ role: "assistant", reasoning: "Let me look.", toolCalls: [{ name: "ls" }] }]);
  });

  test("too long to be sent at every turn is not put into encrypted_content", async () => {
    const long = [reasoning("x".repeat(300_000)), finish()];
    const { output } = (await responseOf({ include: ["reasoning.encrypted_content"] }, long)) as {
      output: JsonObject[];
    };
    expect(output[0]).not.toHaveProperty("encrypted_content");
  });

  test("that another server sealed is passed over", () => {
    const sealed = { type: "reasoning", summary: [], content: null, encrypted_content: "gAAAAABo" };
    const { messages } = openaiResponses.decodeRequest({ input: [sealed, { role: "user", content: "a" }] }, "m", {});
    expect(messages).toEqual([{ role: "user", content: [{ type: "text", text: "a" }] }]);
  });
});

test("Codex is given a summary, its custom tool and its namespace as it expects them", async () => {
  const body = {
    tools: [
      { type: "custom", name: "apply_patch" },
      { type: "namespace", name: "agents", description: "Helpers.", tools: [{ ...ls, name: "spawn" }] },
      { type: "web_search", external_web_access: true },
    ],
    reasoning: { summary: "auto" },
    include: ["reasoning.encrypted_content"],
    store: false,
    parallel_tool_calls: true,
    tool_choice: "auto",
  };
  const events: ChatEvent[] = [
    reasoning("Patch, "),
    reasoning("then ask."),
    { type: "tool-call", index: 0, id: "call_a", name: "apply_patch", arguments: '{"input":"*** Be' },
    { type: "tool-call", index: 0, arguments: 'gin\\n"}' },
    { type: "tool-call", index: 1, id: "call_b", name: "agents__spawn", arguments: "{}" },
    finish("tool-calls"),
  ];
  const sent = await streamOf(body, events);
  for (const event of sent) expectValid("ResponseStreamEvent", event);
  await expect(`${sent.map((event) => JSON.stringify(event)).join("\n")}\n`).toMatchFileSnapshot(
    "./fixtures/openai-responses/ours-codex.ndjson",
  );
});

describe("the response tells", () => {
  test("what the call asked for, hosted tools included", async () => {
    const search = { type: "web_search", search_context_size: "low" };
    const body = {
      instructions: "Be brief.",
      tools: [ls, search],
      tool_choice: { type: "function", name: "ls" },
      truncation: "auto",
      max_tool_calls: 3,
      prompt_cache_key: "thread",
      safety_identifier: "someone",
      user: "u",
      text: { format: { type: "text" }, verbosity: "high" },
      reasoning: { effort: "low", summary: "detailed" },
      metadata: { a: "b" },
    };
    const response = await responseOf(body, [text("Hi"), finish()]);
    expectValid("Response", response);
    const { tools, ...told } = body;
    expect(response).toMatchObject(told);
    expect(response.tools).toEqual([{ ...ls, description: null, strict: null }, search]);
    expect(tools).toHaveLength(2);
  });

  test("in a note which tools were left out, each once, and nothing where none was", async () => {
    const hosted = [
      { type: "web_search" },
      { type: "web_search" },
      { type: "mcp", server_label: "s", server_url: "u" },
    ];
    const { lair } = await responseOf({ tools: hosted, tool_choice: { type: "web_search" } }, [finish()]);
    expect((lair as { notes: string[] }).notes).toEqual([
      expect.stringContaining('the tool "web_search" was left out'),
      expect.stringContaining('the tool "mcp" was left out'),
      expect.stringContaining('the tool choice "web_search" was taken for auto'),
    ]);
    expect(await responseOf({ tools: [ls] }, [finish()])).not.toHaveProperty("lair");
  });

  test("no credentials for other servers", async () => {
    const mcp = { type: "mcp", server_label: "s", authorization: "planted-secret", headers: { a: "planted-secret" } };
    expect(JSON.stringify(await responseOf({ tools: [mcp] }, [finish()]))).not.toContain("planted-secret");
  });

  test("when it was completed, as far as its engine tells how long it took", async () => {
    const timings = { queuedMs: 1000, promptMs: 2000, completionMs: 4000 };
    const usage = { promptTokens: 1, completionTokens: 1 };
    const timed = await responseOf({}, [text("Hi"), { type: "finish", reason: "stop", usage, timings }]);
    expect(timed.completed_at).toBe(replyHead.created + 7);
    expect((await responseOf({}, [text("Hi"), finish()])).completed_at).toBeNull();
  });
});

test("a heartbeat is a numbered event that says everything the first one did", async () => {
  const request = openaiResponses.decodeRequest({ input: "hi" }, "m", {});
  const frames = openaiResponses.encodeStream(asChoice([text("a"), finish()]), request, {}, replyHead);
  const sent: string[] = [];
  for await (const frame of frames) sent.push(frame, ...(sent.length === 0 ? [frames.heartbeat()] : []));
  const events = dataOf(sent) as JsonObject[];
  expect(events.map(({ sequence_number: number }) => number)).toEqual(events.map((_, index) => index));
  expect(events[2]).toEqual({ ...events[1], sequence_number: 2 });
  expectValid("ResponseStreamEvent", events[2]);
});

test("a call that a failure cut off is not told as done: Codex would run it", async () => {
  const failing = async function* (): AsyncGenerator<ChoiceEvent> {
    yield { choice: 0, event: { type: "tool-call", index: 0, id: "c", name: "rm", arguments: '{"path":"/' } };
    throw new ApiError("engine_crashed", "gone");
  };
  const body = { tools: [{ ...ls, name: "rm" }] };
  const request = openaiResponses.decodeRequest({ input: "hi", ...body }, "m", {});
  const { items } = await drain(openaiResponses.encodeStream(failing(), request, body, replyHead));
  const events = dataOf(items) as JsonObject[];
  expect(events.map(({ type }) => type)).not.toContain("response.output_item.done");
  expect(events.at(-1)).toMatchObject({ response: { status: "failed", output: [{ status: "incomplete" }] } });
});

test("a text that a failure cut off is incomplete, and holds what was said", async () => {
  const sent = await streamOf({}, [text("Hel")]);
  expect(outputOf(sent)).toMatchObject([{ status: "incomplete", content: [{ text: "Hel" }] }]);
});

describe("however its text is cut into events, an answer is the same", () => {
  const words = 'Hé 👩‍💻 said: "1 < 2"\n\t\u0001 done';
  const call = JSON.stringify({ path: 'a"b', content: words });

  test.each([1, 2, 3, 7, 64])("in pieces of %i", async (size) => {
    const pieces = (whole: string): string[] => {
      const characters = [...whole];
      return Array.from({ length: Math.ceil(characters.length / size) }, (_, index) =>
        characters.slice(index * size, (index + 1) * size).join(""),
      );
    };
    const events = (cut: (whole: string) => string[]): ChatEvent[] => [
      ...cut(words).map(reasoning),
      ...cut(words).map(text),
      { type: "tool-call", index: 0, id: "c", name: "ls", arguments: "" },
      ...cut(call).map((fragment): ChatEvent => ({ type: "tool-call", index: 0, arguments: fragment })),
      finish(),
    ];
    const body = { tools: [ls], include: ["reasoning.encrypted_content"] };
    const whole = await responseOf(
      body,
      events((one) => [one]),
    );
    expect(await responseOf(body, events(pieces))).toEqual(whole);
    const sent = await streamOf(body, events(pieces));
    expect(sent.at(-1)?.response).toEqual(whole);
    const said = (type: string): string => sent.map((event) => (event.type === type ? event.delta : "")).join("");
    expect(said("response.output_text.delta")).toBe(words);
    expect(said("response.reasoning_text.delta")).toBe(words);
    expect(said("response.function_call_arguments.delta")).toBe(call);
  });
});

test("an answer that comes back as input is the same turn, and is given the same again", async () => {
  const { output } = (await responseOf({ tools: [ls] }, turn)) as { output: JsonObject[] };
  const decode = (input: JsonObject[]) => openaiResponses.decodeRequest({ input, tools: [ls] }, "m", {}).messages;
  const once = decode(output);
  expect(once).toEqual([
    {
      role: "assistant",
      reasoning: "Let me look.",
      content: [{ type: "text", text: "I look." }],
      toolCalls: [{ id: "call_a", name: "ls", arguments: '{"x":1}' }],
    },
  ]);
  const [message] = once;
  if (message?.role !== "assistant") throw new Error("no turn of the assistant");
  const again: ChatEvent[] = [
    reasoning(message.reasoning ?? ""),
    ...message.content.map((part) => text(part.type === "text" ? part.text : "")),
    ...message.toolCalls.map((call, index): ChatEvent => ({ type: "tool-call", index, ...call })),
    finish(),
  ];
  expect((await responseOf({ tools: [ls] }, again)).output).toEqual(output);
});
