import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Message, ToolCall } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { mendHistory, mendMessages } from "../../src/dialects/history.ts";
import { decodeMessages, encodeMessages } from "../../src/dialects/openai-chat/messages.ts";
import { chatRequest } from "../support/chat.ts";

const user = (text: string): Message => ({ role: "user", content: [{ type: "text", text }] });
const system = (text: string): Message => ({ role: "system", content: [{ type: "text", text }] });
const call = (id: string, written = "{}", name = "read"): ToolCall => ({ id, name, arguments: written });
const asks = (...toolCalls: ToolCall[]): Message => ({ role: "assistant", content: [], toolCalls });
const says = (text: string): Message => ({
  role: "assistant",
  content: text === "" ? [] : [{ type: "text", text }],
  toolCalls: [],
});
const result = (toolCallId: string, text: string): Message => ({
  role: "tool",
  toolCallId,
  content: [{ type: "text", text }],
});

/** The history in a line: who speaks, which call. */
function outline(messages: readonly Message[]): string {
  return messages
    .map((message) => {
      const text = message.content.map((part) => (part.type === "text" ? part.text : "")).join("");
      if (message.role === "tool") return `result ${message.toolCallId}=${text}`;
      if (message.role !== "assistant") return `${message.role}=${text}`;
      const calls = message.toolCalls.map(({ id, name, arguments: written }) => `${name}(${id})${written}`);
      return ["assistant", ...calls, ...(text === "" ? [] : [text])].join(" ");
    })
    .join(" | ");
}

const none = "No result: the call was interrupted.";
const orphan = "Result of a tool, whose call is no longer part of this conversation:\n";

describe("what clients leave behind is put right:", () => {
  test.each<[slip: string, messages: Message[], mended: string]>([
    [
      "arguments that were closed too late",
      [asks(call("a", '{"x":1,}')), result("a", "1")],
      'assistant read(a){"x":1} | result a=1',
    ],
    [
      "arguments that nobody can read",
      [asks(call("a", '{"path":"/x.')), result("a", "1")],
      `assistant read(a)${JSON.stringify({ _invalid: '{"path":"/x.' })} | result a=1`,
    ],
    [
      "arguments that are no object",
      [
        asks(call("a", "[1]"), call("b", '"{\\"x\\":1}"'), call("c", "")),
        result("a", "1"),
        result("b", "2"),
        result("c", "3"),
      ],
      'assistant read(a){"_invalid":"[1]"} read(b){"x":1} read(c){} | result a=1 | result b=2 | result c=3',
    ],
    [
      "a call that was interrupted",
      [asks(call("a")), user("go on")],
      `assistant read(a){} | result a=${none} | user=go on`,
    ],
    ["a call at the end", [user("hi"), asks(call("a"))], `user=hi | assistant read(a){} | result a=${none}`],
    [
      "one of two calls interrupted",
      [asks(call("a"), call("b")), result("b", "2"), user("go on")],
      `assistant read(a){} read(b){} | result b=2 | result a=${none} | user=go on`,
    ],
    [
      "a result whose call was trimmed away",
      [system("be"), result("x", "1"), user("go on")],
      `system=be | user=${orphan}1 | user=go on`,
    ],
    [
      "a result before its call",
      [user("hi"), result("a", "1"), asks(call("a")), user("go on")],
      "user=hi | assistant read(a){} | result a=1 | user=go on",
    ],
    [
      "a result behind somebody's words",
      [asks(call("a"), call("b")), result("a", "1"), user("wait"), result("b", "2")],
      "assistant read(a){} read(b){} | result a=1 | result b=2 | user=wait",
    ],
    [
      "ids that were lost",
      [asks(call("", "{}", "read"), call("", "{}", "write")), result("", "1"), result("", "2")],
      "assistant read(call_0_0){} write(call_0_1){} | result call_0_0=1 | result call_0_1=2",
    ],
    [
      "one id for two calls at once",
      [asks(call("a"), call("a")), result("a", "1"), result("a", "2")],
      "assistant read(a){} read(a_2){} | result a=1 | result a_2=2",
    ],
    [
      "one id in every turn",
      [asks(call("a")), result("a", "1"), asks(call("a")), result("a", "2"), asks(call("a")), result("a", "3")],
      "assistant read(a){} | result a=1 | assistant read(a_2){} | result a_2=2 | assistant read(a_3){} | result a_3=3",
    ],
    [
      "an id that does not match the only call",
      [asks(call("a")), result("b", "1")],
      "assistant read(a){} | result a=1",
    ],
    ["a call without a name", [asks(call("a", "{}", "")), result("a", "1")], "assistant unknown(a){} | result a=1"],
    [
      "two results for one call",
      [asks(call("a")), result("a", "1"), result("a", "1"), result("a", "2")],
      "assistant read(a){} | result a=12",
    ],
    [
      "a turn that was written twice",
      [asks(call("a")), asks(call("a")), result("a", "1")],
      "assistant read(a){} | result a=1",
    ],
    ["an empty turn at the end", [user("hi"), says("")], "user=hi"],
    ["an empty turn beside another", [user("hi"), says(""), says("ho"), user("x")], "user=hi | assistant ho | user=x"],
  ])("%s", (_, messages, mended) => {
    const once = mendMessages(messages);
    expect(outline(once)).toBe(mended);
    expect(mendMessages(once)).toBe(once);
  });
});

test("an orphan is not given to a call that may have had another result", () => {
  const messages = [asks(call("a"), call("b")), result("x", "1"), user("go on")];
  expect(outline(mendMessages(messages))).toContain(`user=${orphan}1`);
  const later = [asks(call("a")), user("stop"), result("x", "1")];
  expect(outline(mendMessages(later))).toBe(`assistant read(a){} | result a=${none} | user=stop | user=${orphan}1`);
});

describe("a sound history stays the same object:", () => {
  test.each<[string, Message[]]>([
    ["without tools", [system("be"), user("hi"), says("ho"), user("x")]],
    ["an empty answer between two questions, which keeps the turns", [user("hi"), says(""), user("x")]],
    ["results in another order than their calls", [asks(call("a"), call("b")), result("b", "2"), result("a", "1")]],
    ["the user says one thing twice", [user("go on"), user("go on"), asks(call("a")), result("a", "1")]],
    ["arguments written in their own way", [asks(call("a", ' { "x" : 1e3 } ')), result("a", "1")]],
  ])("%s", (_, messages) => {
    const request = chatRequest({ messages });
    expect(mendHistory(request)).toBe(request);
  });

  test("that opencode sent after a model's broken call", () => {
    const path = new URL("fixtures/openai-chat/opencode-broken-call.json", import.meta.url);
    const body = JSON.parse(readFileSync(path, "utf8")) as JsonObject;
    const messages = decodeMessages(body);
    expect(messages.some(({ role }) => role === "tool")).toBe(true);
    expect(mendMessages(messages)).toBe(messages);
    expect(encodeMessages(messages)).toEqual(body.messages);
  });
});

test("a mended history is the same in each turn, so that a cache of its beginning holds", () => {
  const grown: Message[] = [];
  let before = "";
  for (let turn = 0; turn < 5; turn++) {
    grown.push(user(`${turn}`), asks(call("call_0", '{"x":'), call("")), result("call_0", "1"), result("", "2"));
    const now = JSON.stringify(mendMessages([...grown])).slice(0, -1);
    expect(now.startsWith(before)).toBe(true);
    before = now;
  }
});

describe("a hostile history costs no more than its length:", () => {
  const many = 50_000;
  test.each<[string, Message[]]>([
    ["one id for all", Array.from({ length: many }, (_, at) => (at % 2 === 0 ? asks(call("a")) : result("a", "1")))],
    [
      "one message of calls",
      [asks(...Array.from({ length: many }, () => call("a"))), ...Array.from({ length: many }, () => result("b", "1"))],
    ],
    [
      "calls first, results later",
      [
        ...Array.from({ length: many }, (_, at) => asks(call("a", `{"x":${at}}`))),
        ...Array.from({ length: many }, () => result("a", "1")),
      ],
    ],
  ])("%s", (_, messages) => {
    // A quadratic walk of these does not end within a test's time.
    expect(mendMessages(messages).length).toBeGreaterThan(many / 2);
  });
});
