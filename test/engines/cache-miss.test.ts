import { expect, test } from "vitest";
import type { Message } from "../../src/core/chat.ts";
import { messageAt } from "../../src/engines/llama/prefix/cache-miss.ts";

const said = (role: "system" | "user", text: string): Message => ({ role, content: [{ type: "text", text }] });
const messages: Message[] = [
  said("system", "Be brief.\n"),
  said("user", "Hi"),
  {
    role: "assistant",
    content: [],
    toolCalls: [{ id: "1", name: "get_weather", arguments: '{"city":"Paris"}' }],
  },
  { role: "tool", toolCallId: "1", content: [{ type: "text", text: "sunny" }] },
  said("user", "Hi"),
];
const prompt = [
  "<|im_start|>system\nBe brief.\n# Tools\n{...}<|im_end|>\n",
  "<|im_start|>user\nHi<|im_end|>\n",
  '<|im_start|>assistant\n<tool_call>{"name": "get_weather"}</tool_call><|im_end|>\n',
  "<|im_start|>tool\nsunny<|im_end|>\n",
  "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
].join("");
const at = (text: string, from = 0): number | undefined => messageAt(prompt, messages, prompt.indexOf(text, from));

test("a character of the prompt is found in its message", () => {
  expect(at("brief")).toBe(0);
  expect(at("Hi")).toBe(1);
  expect(at("get_weather")).toBe(2);
  expect(at("sunny")).toBe(3);
  expect(at("Hi", prompt.indexOf("sunny"))).toBe(4);
});

test("what is in no message has none: tools, and what the template writes at the end", () => {
  expect(at("{...}")).toBeUndefined();
  expect(messageAt(prompt, messages, prompt.length - 2)).toBeUndefined();
  expect(messageAt([1, 2, 3], messages, 1)).toBeUndefined();
});

test("a prompt in pieces is one text", () => {
  const pieces = [prompt.slice(0, 40), prompt.slice(40)];
  expect(messageAt({ pieces }, messages, prompt.indexOf("sunny"))).toBe(3);
});
