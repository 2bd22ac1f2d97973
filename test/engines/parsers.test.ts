import { describe, expect, test } from "vitest";
import type { Tool } from "../../src/core/chat.ts";
import { detectFamily } from "../../src/engines/parsers/families.ts";
import type { OutputParser, ParsedEvent } from "../../src/engines/parsers/parser.ts";
import { StopFilter } from "../../src/engines/llama/stop.ts";

const tools: Tool[] = [{ name: "write", parameters: { type: "object" } }];
const templates = { hermes: "tools <tool_call>", mistral: "tools [TOOL_CALLS]", llama3: "<|start_header_id|> tools" };

interface Read {
  text: string;
  reasoning: string;
  calls: string[];
}

function collect(events: ParsedEvent[]): Read {
  const read: Read = { text: "", reasoning: "", calls: [] };
  for (const event of events) {
    if (event.type === "tool-call")
      read.calls[event.index] = (read.calls[event.index] ?? event.name ?? "") + event.arguments;
    else read[event.type] += event.text;
  }
  return read;
}

/** Feeds an output in pieces of every size and demands the same result of all. */
function readAnyhow(output: string, create: () => OutputParser): Read {
  const whole = create();
  const expected = collect([...whole.push(output), ...whole.end()]);
  for (let size = 1; size < Math.min(output.length, 40); size++) {
    const parser = create();
    const events: ParsedEvent[] = [];
    for (let at = 0; at < output.length; at += size) events.push(...parser.push(output.slice(at, at + size)));
    expect(collect([...events, ...parser.end()]), `in pieces of ${size}`).toEqual(expected);
  }
  return expected;
}

describe("output parsers, however the output is cut", () => {
  const cases: [family: keyof typeof templates, output: string, expected: Partial<Read>][] = [
    ["hermes", "just text < with <tool tags>", { text: "just text < with <tool tags>", calls: [] }],
    [
      "hermes",
      'Hm.\n\n<tool_call>{"name":"write","arguments":{"a":1}}</tool_call>',
      { text: "Hm.", calls: ['write{"a":1}'] },
    ],
    [
      "hermes",
      '<tool_call>{"name":"write","arguments":{"a":"</tool_call>"}}</tool_call> end',
      { text: " end", calls: ['write{"a":"</tool_call>"}'] },
    ],
    ["hermes", '<tool_call>{"name":"write","arguments":{}}', { text: "", calls: ["write{}"] }],
    ["hermes", '<tool_call>{"name":"write","arguments":"{\\"a\\":2}"}</tool_call>', { calls: ['write{"a":2}'] }],
    [
      "hermes",
      '<tool_call>{"name": oops</tool_call><tool_call>{"name":"write"}</tool_call>',
      { text: '<tool_call>{"name": oops</tool_call>', calls: ["write{}"] },
    ],
    ["hermes", "<tool_call>never ends", { text: "<tool_call>never ends", calls: [] }],
    [
      "mistral",
      '[TOOL_CALLS][{"name":"write","arguments":{"a":1}},{"name":"write","arguments":{"b":2}}]',
      { text: "", calls: ['write{"a":1}', 'write{"b":2}'] },
    ],
    [
      "mistral",
      'Ok. [TOOL_CALLS]write[ARGS]{"a":1}[TOOL_CALLS]write[CALL_ID]x1[ARGS]{"b":2}',
      { text: "Ok.", calls: ['write{"a":1}', 'write{"b":2}'] },
    ],
    ["mistral", "[TOOL_CALLS] broken", { text: "[TOOL_CALLS] broken", calls: [] }],
    ["llama3", '{"name": "write", "parameters": {"a": 1}}', { text: "", calls: ['write{"a": 1}'] }],
    [
      "llama3",
      '<|python_tag|>{"type":"function","name":"write","parameters":{}}; {"name":"write","parameters":{"b":2}}',
      { calls: ["write{}", 'write{"b":2}'] },
    ],
    ["llama3", '{"answer": 42}', { text: '{"answer": 42}', calls: [] }],
    [
      "llama3",
      '{"name": "no such tool", "parameters": {}}',
      { text: '{"name": "no such tool", "parameters": {}}', calls: [] },
    ],
    ["llama3", "Plain words.", { text: "Plain words.", calls: [] }],
  ];
  for (const [family, output, expected] of cases) {
    test(`${family}: ${output}`, () => {
      const create = (): OutputParser => {
        let next = 0;
        return detectFamily(templates[family]).createParser({ tools, newId: () => `call_${++next}`, opened: false });
      };
      expect(readAnyhow(output, create)).toMatchObject(expected);
    });
  }

  const reasoning = (opened: boolean) => (): OutputParser =>
    detectFamily(null).createParser({ tools: [], newId: () => "", opened });

  test("reasoning is what stands between the tags at the beginning", () => {
    expect(readAnyhow("<think>\nso < far\n</think>\n\nAnswer <think>", reasoning(false))).toEqual({
      text: "Answer <think>",
      reasoning: "so < far",
      calls: [],
    });
    expect(readAnyhow("so far</think>Answer", reasoning(true))).toEqual({
      text: "Answer",
      reasoning: "so far",
      calls: [],
    });
    expect(readAnyhow("<thin ice", reasoning(false))).toEqual({ text: "<thin ice", reasoning: "", calls: [] });
    expect(readAnyhow("<think>never done", reasoning(false))).toEqual({ text: "", reasoning: "never done", calls: [] });
    expect(readAnyhow("<think>\n\n</think>\n\nHi", reasoning(false))).toEqual({ text: "Hi", reasoning: "", calls: [] });
  });
});

describe("stop strings", () => {
  test("are found wherever the text is cut, the first of several first", () => {
    const text = "one two three four";
    for (let size = 1; size <= text.length; size++) {
      const filter = new StopFilter(["four", "three", ""]);
      let said = "";
      let stop: string | null = null;
      for (let at = 0; at < text.length && stop === null; at += size) {
        const step = filter.push(text.slice(at, at + size));
        said += step.text;
        ({ stop } = step);
      }
      expect([said, stop]).toEqual(["one two ", "three"]);
    }
  });

  test("that never come leave the text whole", () => {
    const filter = new StopFilter(["abcd"]);
    expect(filter.push("xab").text + filter.push("cabc").text + filter.end()).toBe("xabcabc");
  });
});
