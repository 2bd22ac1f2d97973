import { describe, expect, test } from "vitest";
import type { Tool } from "../../src/core/chat.ts";
import { chatmlTemplate, scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const weather: Tool = {
  name: "get_weather",
  description: "The weather of a city",
  parameters: {
    type: "object",
    properties: {
      city: { type: "string", enum: ["Paris", "Lyon"] },
      days: { type: "integer", minimum: 1, maximum: 9 },
    },
    required: ["city"],
    additionalProperties: false,
  },
};

/** ChatML that prints the tools, and names the texts by which a family is known. */
function templateOf(...marks: readonly string[]): string {
  const tools = "{%- if tools %}{{- '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{%- endif %}";
  return `{#- ${marks.join(" ")} -#}${tools}${chatmlTemplate}`;
}

interface Spoken {
  readonly family: string;
  readonly marks: readonly string[];
  /** Control tokens of the vocabulary; a scripted model says each of them once at most. */
  readonly specials?: readonly string[];
  readonly says: string;
  readonly text?: string;
  readonly reasoning?: string;
}

const spoken: Spoken[] = [
  {
    family: "hermes",
    marks: ["<tool_call>"],
    specials: ["<think>", "</think>", "<tool_call>", "</tool_call>"],
    says: '<think>\nhm hm\n</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>',
    reasoning: "hm hm",
    text: "I look.",
  },
  {
    family: "qwen-coder",
    marks: ["<tool_call>", "<function=", "<parameter="],
    specials: ["<tool_call>", "</tool_call>"],
    says: "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    text: "I look.",
  },
  {
    family: "harmony",
    marks: ["<|channel|>", "<|message|>", "analysis"],
    specials: ["<|channel|>", "<|message|>", "<|constrain|>", "<|start|>"],
    says: ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris", "days": 3}',
  },
  {
    family: "mistral",
    marks: ["[TOOL_CALLS]", "[ARGS]"],
    specials: ["[TOOL_CALLS]", "[ARGS]"],
    says: '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris", "days": 3}',
  },
  {
    family: "deepseek-v3.1",
    marks: ["<｜tool▁call▁begin｜>"],
    specials: [
      "</think>",
      "<｜tool▁calls▁begin｜>",
      "<｜tool▁call▁begin｜>",
      "<｜tool▁sep｜>",
      "<｜tool▁call▁end｜>",
      "<｜tool▁calls▁end｜>",
    ],
    says: 'So be it.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris", "days": 3}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    text: "So be it.",
  },
  {
    family: "glm",
    marks: ["<arg_key>"],
    specials: ["<tool_call>", "</tool_call>"],
    says: "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
  },
  {
    family: "kimi-k2",
    marks: ["<|tool_call_begin|>"],
    specials: [
      "<|tool_calls_section_begin|>",
      "<|tool_call_begin|>",
      "<|tool_call_argument_begin|>",
      "<|tool_call_end|>",
      "<|tool_calls_section_end|>",
    ],
    says: '<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Paris", "days": 3}<|tool_call_end|><|tool_calls_section_end|>',
  },
  {
    family: "llama3",
    marks: ["<|start_header_id|>"],
    says: '{"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}',
  },
];

/** A text as tokens: control tokens, and pieces of a few letters of which none comes twice. */
function toPieces(text: string, specials: readonly string[]): string[] {
  const pieces: string[] = [];
  let at = 0;
  while (at < text.length) {
    const special = specials.find((token) => text.startsWith(token, at));
    const next = Math.min(
      ...specials.map((token) => text.indexOf(token, at)).filter((found) => found >= 0),
      text.length,
    );
    let end = Math.min(at + 4, next);
    while (end < next && (pieces.includes(text.slice(at, end)) || next - end < 4)) end += 1;
    pieces.push(special ?? text.slice(at, end));
    at = special === undefined ? end : at + special.length;
  }
  return pieces;
}

describe("a call in the words of its family", () => {
  test.each(spoken)("$family", async ({ family, marks, specials = [], says, text = "", reasoning = "" }) => {
    const model = scriptedModel({
      template: templateOf(...marks),
      scripts: [{ after: "\n", say: toPieces(says, specials) }],
      specials,
    });
    const engine = startEngine({ model: writeModel(`${family}.gguf`, model) });
    const answer = await readAnswer(engine.chat(chatRequest(family, "Weather?", { tools: [weather] }), never));
    expect({ ...answer, calls: answer.calls.map((call) => [call.name, JSON.parse(call.arguments)]) }).toMatchObject({
      text,
      reasoning,
      calls: [["get_weather", { city: "Paris", days: 3 }]],
      reason: "tool-calls",
    });
    // Told as they come, not at the end.
    const fragments = answer.events.filter((event) => event.type === "tool-call" && event.id === undefined);
    expect(fragments.length).toBeGreaterThan(3);
  });
});

describe("a call that is demanded of a model that knows nothing", () => {
  const families = spoken.filter(({ family }) => ["qwen-coder", "harmony", "glm", "llama3"].includes(family));
  test.each(families)("$family: fits the tool", async ({ family, marks }) => {
    const model = randomDecoder({ architecture: "qwen2", template: templateOf(...marks) });
    const engine = startEngine({ model: writeModel(`random-${family}.gguf`, model) });
    for (const seed of [1, 2, 3]) {
      const request = chatRequest(`random-${family}`, "Hi", {
        tools: [weather, { name: "now", parameters: { type: "object", properties: {}, additionalProperties: false } }],
        toolChoice: "required",
        parallelToolCalls: false,
        temperature: 1.5,
        seed,
      });
      const answer = await readAnswer(engine.chat(request, never));
      expect([answer.text, answer.reason, answer.calls.length]).toEqual(["", "tool-calls", 1]);
      const [call] = answer.calls;
      const given = JSON.parse(call?.arguments ?? "") as { city?: string; days?: number };
      if (call?.name === "now") expect(given).toEqual({});
      else expect(["Paris", "Lyon"]).toContain(given.city);
    }
  });
});
