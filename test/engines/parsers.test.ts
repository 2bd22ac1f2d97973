import { describe, expect, test } from "vitest";
import type { Tool } from "../../src/core/chat.ts";
import { StopFilter } from "../../src/engines/llama/generation/stop.ts";
import { allFamilies, detectFamily, findFamily, opensReasoning } from "../../src/engines/parsers/families.ts";
import type { Family } from "../../src/engines/parsers/family.ts";
import { seededRandom } from "../support/grammar-sampler.ts";
import { collect, openParser, type Read, readPieces } from "../support/outputs.ts";

const tools: Tool[] = [
  {
    name: "write",
    parameters: { type: "object", properties: { path: { type: "string" }, lines: { type: "integer" } } },
  },
  { name: "now", parameters: { type: "object", properties: {} } },
];

function familyOf(name: string): Family {
  const family = findFamily(name);
  if (family === undefined) throw new Error(`no family ${name}`);
  return family;
}

/** Reads an output whole, in pieces of many sizes and in single characters, and demands the same of all. */
function readAnyhow(family: string, output: string, opened = false): Read {
  const parser = () => openParser(familyOf(family), tools, opened);
  const whole = readPieces(parser(), [output]);
  for (const size of [1, 2, 3, 5, 7, 11, 17, 29]) {
    const pieces = Array.from({ length: Math.ceil(output.length / size) }, (_, index) =>
      output.slice(index * size, (index + 1) * size),
    );
    expect(readPieces(parser(), pieces), `in pieces of ${size}`).toEqual(whole);
  }
  return whole;
}

/** Calls as short texts. */
function brief(read: Read): string[] {
  return read.calls.map((call) => `${call.name} ${call.arguments}`);
}

describe("calls, however the output is cut", () => {
  const cases: [family: string, output: string, text: string, calls: string[]][] = [
    ["hermes", "just text < with <tool tags>", "just text < with <tool tags>", []],
    ["hermes", 'Hm.\n\n<tool_call>{"name":"write","arguments":{"a":1}}</tool_call>', "Hm.", ['write {"a":1}']],
    // Tags inside strings are the strings'.
    [
      "hermes",
      '<tool_call>{"name":"write","arguments":{"a":"</tool_call>{\\"}"}}</tool_call> end',
      " end",
      ['write {"a":"</tool_call>{\\"}"}'],
    ],
    ["hermes", '<tool_call>{"name":"write","arguments":{}}', "", ["write {}"]],
    ["hermes", '<tool_call>{"name":"write","arguments":"{\\"a\\":2}"}</tool_call>', "", ['write {"a":2}']],
    ["hermes", '<tool_call>{"name":"now","arguments":""}</tool_call>', "", ["now {}"]],
    ["hermes", '<tool_call>{"name":"now","arguments":null}</tool_call>', "", ["now {}"]],
    ["hermes", '<tool_call>{"name":"write","parameters":{"a":1}}</tool_call>', "", ['write {"a":1}']],
    ["hermes", '<tool_call>{"arguments":{"a":1},"name":"write"}</tool_call>', "", ['write {"a":1}']],
    [
      "hermes",
      '<tool_call>{"type":"function","function":{"name":"write","arguments":{"a":1}},"id":"x"}</tool_call>',
      "",
      ['write {"a":1}'],
    ],
    ["hermes", '<tool_call>\n```json\n{"name":"write","arguments":{}}\n```\n</tool_call>', "", ["write {}"]],
    ["hermes", '<tool_call>[{"name":"now"},{"name":"write"}]</tool_call>', "", ["now {}", "write {}"]],
    [
      "hermes",
      '<tool_call>{"name":"now"}</tool_call>\n\n<tool_call>{"name":"now"}</tool_call>\n',
      "",
      ["now {}", "now {}"],
    ],
    // A tool that nobody offered is a call all the same: the client tells the model that it is none.
    ["hermes", '<tool_call>{"name":"fly","arguments":{}}</tool_call>', "", ["fly {}"]],
    [
      "hermes",
      '<tool_call>{"name": oops</tool_call><tool_call>{"name":"write"}</tool_call>',
      '<tool_call>{"name": oops</tool_call>',
      ["write {}"],
    ],
    ["hermes", "<tool_call>never ends", "<tool_call>never ends", []],
    [
      "hermes",
      '<tool_call>{"name":"write","arguments":[1]}</tool_call>',
      '<tool_call>{"name":"write","arguments":[1]}</tool_call>',
      [],
    ],
    // What was told of a call stands; the rest is text.
    ["hermes", '<tool_call>{"name":"write","arguments":{"a": }}</tool_call>', "}}</tool_call>", ['write {"a": ']],
    // What small models get wrong in JSON is put right.
    [
      "hermes",
      '<tool_call>{"name":"write","arguments":{"a":"one\ntwo\t\\d \\\'","b":True,"c":[1,],}}</tool_call>',
      "",
      ['write {"a":"one\\ntwo\\t\\\\d \'","b":true,"c":[1]}'],
    ],
    ["generic", '```json\n{"name": "write", "arguments": {"a": 1}}\n```', "", ['write {"a": 1}']],
    ["generic", '{"name": "now", "arguments": {}}', "", ["now {}"]],
    ["generic", 'So:\n```json\n{"name": "Ann", "age": 3}\n```', 'So:\n```json\n{"name": "Ann", "age": 3}\n```', []],
    ["generic", "```\ncode\n```", "```\ncode\n```", []],
    [
      "mistral-list",
      '[TOOL_CALLS][{"name":"write","arguments":{"a":1}},{"name":"write","arguments":{"b":2}, "id":"x"}]',
      "",
      ['write {"a":1}', 'write {"b":2}'],
    ],
    [
      "mistral",
      'Ok. [TOOL_CALLS]write[ARGS]{"a":1}[TOOL_CALLS]write[CALL_ID]x1[ARGS]{"b":2}',
      "Ok.",
      ['write {"a":1}', 'write {"b":2}'],
    ],
    ["mistral", "[TOOL_CALLS] broken", "[TOOL_CALLS] broken", []],
    ["llama3", '{"name": "write", "parameters": {"a": 1}}', "", ['write {"a": 1}']],
    [
      "llama3",
      '<|python_tag|>{"type":"function","name":"write","parameters":{}}; {"name":"write","parameters":{"b":2}}',
      "",
      ["write {}", 'write {"b":2}'],
    ],
    ["llama3", '<|python_tag|>write.call(path="a\\"b", lines=3)', "", ['write {"path": "a\\"b", "lines": 3}']],
    ["llama3", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []],
    ["llama3", '<function=write>{"a": 1}</function>', "", ['write {"a": 1}']],
    ["llama3", '{"answer": 42}', '{"answer": 42}', []],
    ["llama3", '{"name": "fly", "parameters": {}}', '{"name": "fly", "parameters": {}}', []],
    ["llama3", "Plain words.", "Plain words.", []],
    [
      "qwen-coder",
      "<tool_call>\n<function=write>\n<parameter=path>\n\n a </parameter> b\n\n</parameter>\n<parameter=lines>\n12\n</parameter>\n</function>\n</tool_call>",
      "",
      ['write {"path": "\\n a </parameter> b\\n", "lines": 12}'],
    ],
    // Left out: the section, and closing tags.
    ["qwen-coder", "<function=write>\n<parameter=path>\nx\n</parameter>\n</tool_call>", "", ['write {"path": "x"}']],
    ["qwen-coder", "<tool_call>\n<function=now>\n</function>\n</tool_call>", "", ["now {}"]],
    ["qwen-coder", "Write <function=name> first.", "Write <function=name> first.", []],
    // Types come from the schema; where it is silent, JSON is JSON.
    [
      "qwen-coder",
      "<tool_call><function=write><parameter=path>12</parameter><parameter=lines>many</parameter><parameter=more>[1, 2]</parameter></function></tool_call>",
      "",
      ['write {"path": "12", "lines": "many", "more": [1, 2]}'],
    ],
    ["glm", "<tool_call>now\n</tool_call>", "", ["now {}"]],
    [
      "minicpm",
      '<function name="write"><param name="path"><![CDATA[a </param> & "b"]]></param></function>',
      "",
      ['write {"path": "a </param> & \\"b\\""}'],
    ],
    [
      "function-gemma",
      '<start_function_call>call:write{path:<escape>a "b"<escape>,lines:2}<end_function_call>',
      "",
      ['write {"path":"a \\"b\\"","lines":2}'],
    ],
    ["phi-4", '<|tool_call|>[{"name":"now","arguments":{}}]<|/tool_call|>', "", ["now {}"]],
    [
      "deepseek-r1",
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>",
      "",
      ["now {}"],
    ],
    ["kimi-k2", "<|tool_call_begin|>functions.now:0<|tool_call_argument_begin|><|tool_call_end|>", "", ["now {}"]],
    [
      "lfm2",
      "<|tool_call_start|>[write(path='it\\'s', lines=None), now()]<|tool_call_end|>ok",
      "ok",
      ['write {"path": "it\'s", "lines": null}', "now {}"],
    ],
    // A message before a call is for the user; code in a body is no call.
    [
      "harmony",
      '<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.write <|constrain|>json<|message|>{"a":1}<|call|>',
      "I look.",
      ['write {"a":1}'],
    ],
    ["harmony", " to=functions.now<|channel|>commentary json<|message|>{}", "", ["now {}"]],
    ["harmony", "<|channel|>final<|message|>Done: <|x|>.<|return|>", "Done: <|x|>.", []],
    ["harmony", "<|channel|>commentary to=functions.now<|message|>not JSON", "not JSON", []],
    ["harmony", "No frame at all.", "No frame at all.", []],
  ];
  test.each(cases)("%s: %s", (family, output, text, calls) => {
    const read = readAnyhow(family, output);
    expect([read.text, brief(read)]).toEqual([text, calls]);
  });

  test("where no tools were offered are text", () => {
    const output = '<tool_call>{"name":"write","arguments":{}}</tool_call>';
    expect(readPieces(openParser(familyOf("hermes"), []), output).text).toBe(output);
  });
});

describe("a call is told as it comes", () => {
  test("first its id and name, then the fragments of its arguments", () => {
    const parser = openParser(familyOf("hermes"), tools);
    const pieces = ['<tool_call>{"name": "wri', 'te", "argu', 'ments": {"path": "a', "b", '"}', "}</tool", "_call>"];
    expect(pieces.map((piece) => parser.push(piece))).toEqual([
      [],
      [],
      [
        { type: "tool-call", index: 0, id: "call_1", name: "write", arguments: "" },
        { type: "tool-call", index: 0, arguments: '{"path": "a' },
      ],
      [{ type: "tool-call", index: 0, arguments: "b" }],
      [{ type: "tool-call", index: 0, arguments: '"}' }],
      [],
      [],
    ]);
    expect(parser.end()).toEqual([]);
  });

  test("a text without quotes becomes a JSON string while it is written", () => {
    const parser = openParser(familyOf("qwen-coder"), tools);
    parser.push("<tool_call>\n<function=write>\n<parameter=path>\n");
    expect(
      collect([{ type: "tool-call", index: 0, id: "", name: "", arguments: "" }, ...parser.push('say "hi"\nto')]),
    ).toMatchObject({
      calls: [{ arguments: 'say \\"hi\\"\\nto' }],
    });
  });

  test("text before a call is said at once, but for what may be its beginning", () => {
    const parser = openParser(familyOf("hermes"), tools);
    expect(parser.push("one <tool")).toEqual([{ type: "text", text: "one" }]);
    expect(parser.push("box>")).toEqual([{ type: "text", text: " <toolbox>" }]);
  });

  const line = "line of \\\\ code\\n".repeat(12_500);
  const long: [family: string, output: string][] = [
    ["qwen-coder", `<tool_call>\n<function=write>\n<parameter=path>\n${line}\n</parameter>\n</function>\n</tool_call>`],
    ["glm", `<tool_call>write\n<arg_key>other</arg_key>\n<arg_value>${line}</arg_value>\n</tool_call>`],
    ["hermes", `<tool_call>{"name":"write","arguments":{"path":"${line}"}}</tool_call>`],
    ["hermes", `<tool_call>{"arguments":{"path":"${line}"},"name":"write"}</tool_call>`],
    ["harmony", `<|channel|>commentary to=functions.write<|message|>{"path":"${line}"}`],
    ["lfm2", `<|tool_call_start|>[write(path="${line}")]`],
    ["gemma-4", `<|tool_call>call:write{path:<|"|>${line}<|"|>}<tool_call|>`],
    ["generic", " ".repeat(line.length)],
  ];
  // Read anew for each piece these would take minutes, not a tenth of a second.
  test.each(long)("%s: 200,000 characters in single ones, %.30s", (family, output) => {
    const read = readPieces(openParser(familyOf(family), tools), output);
    expect(read.text.length + (read.calls[0]?.arguments.length ?? 0)).toBeGreaterThanOrEqual(line.length);
  });
});

describe("reasoning", () => {
  const cases: [family: string, output: string, opened: boolean, reasoning: string, text: string][] = [
    ["generic", "<think>\nso < far\n</think>\n\nAnswer <think>", false, "so < far", "Answer <think>"],
    ["generic", "so far</think>Answer", true, "so far", "Answer"],
    ["generic", "<think>so far</think>Answer", true, "so far", "Answer"],
    ["generic", "<thin ice", false, "", "<thin ice"],
    ["generic", "<think>never done", false, "never done", ""],
    ["generic", "<think>\n\n</think>\n\nHi", false, "", "Hi"],
    ["generic", "\n</think>\n\nHi", false, "", "Hi"],
    ["generic", "a\n\nb  </think>", true, "a\n\nb", ""],
    ["generic", "<think>a</th></think>b", false, "a</th>", "b"],
    // A call that is only thought of is none.
    [
      "hermes",
      '<think><tool_call>{"name":"now"}</tool_call></think>Hi',
      false,
      '<tool_call>{"name":"now"}</tool_call>',
      "Hi",
    ],
    ["mistral-reasoning", "[THINK]hm[/THINK]Hi", false, "hm", "Hi"],
    ["seed", "<seed:think>hm</seed:think>Hi", false, "hm", "Hi"],
    ["command-r7b", "hm<|END_THINKING|><|START_RESPONSE|>Hi<|END_RESPONSE|>", true, "hm", "Hi"],
    ["apriel-1.6", "one two [BEGIN FINAL RESPONSE]\nHi", true, "one two", "Hi"],
    ["gemma-4", "<|channel>thought\nhm<channel|>Hi", false, "hm", "Hi"],
    ["kimi-k3", "hm<|close|>think<|sep|><|open|>response<|sep|>Hi<|close|>response<|sep|>", true, "hm", "Hi"],
    ["solar", "<|think|>hm<|end|><|begin|>assistant<|content|>Hi<|end|>", false, "hm", "Hi"],
    ["muse", " to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>Hi", false, "hm", "Hi"],
    [
      "harmony",
      "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi",
      false,
      "hm",
      "Hi",
    ],
    ["harmony", '<|channel|>analysis<|message|>to=functions.now {"name":1}', false, 'to=functions.now {"name":1}', ""],
  ];
  test.each(cases)("%s: %s", (family, output, opened, reasoning, text) => {
    expect(readAnyhow(family, output, opened)).toEqual({ reasoning, text, calls: [] });
  });

  test("a call may follow it", () => {
    const read = readAnyhow("hermes", 'hm\n</think>\n\n<tool_call>\n{"name": "now"}\n</tool_call>', true);
    expect([read.reasoning, read.text, brief(read)]).toEqual(["hm", "", ["now {}"]]);
  });

  test("is opened by prompts that end with its tag", () => {
    expect(opensReasoning(familyOf("generic"), "<|im_start|>assistant\n<think>\n")).toBe(true);
    expect(opensReasoning(familyOf("generic"), "<think>\n\n</think>\n\n")).toBe(false);
    expect(opensReasoning(familyOf("seed"), "<seed:think>")).toBe(true);
  });
});

describe("random outputs", () => {
  /** Words, the texts of the family's own syntax and bits of JSON, in any order. */
  function makeOutput(family: Family, random: () => number): { text: string; words: string[] } {
    const syntax = [...family.preserved, ...family.triggers].filter(
      (text) => !/CALL_ID|tool_call:name|<\|channel|<\|start\|>|to=/.test(text),
    );
    const bits = [
      ...syntax,
      ...syntax,
      "<",
      "{",
      "}",
      '"',
      "\n",
      "[",
      "```json\n",
      '{"name": "write", "arguments": {',
      '{"path": "',
      "}}",
      "now",
      "(",
      "\\",
      "<function=write>",
    ];
    const words: string[] = [];
    let text = "";
    for (let count = 0; count < 30; count++) {
      if (random() < 0.5) {
        words.push(`w${count}w`);
        text += ` w${count}w `;
      } else text += bits[Math.floor(random() * bits.length)] ?? "";
    }
    return { text, words };
  }

  test.each(allFamilies().map((family) => [family.name, family] as const))(
    "%s: no word is lost or said twice",
    (_, family) => {
      const random = seededRandom(3);
      for (let round = 0; round < 100; round++) {
        const { text, words } = makeOutput(family, random);
        const opened = random() < 0.3;
        const read = readPieces(openParser(family, tools, opened), [text]);
        expect(readPieces(openParser(family, tools, opened), text), text).toEqual(read);
        const said = [read.reasoning, read.text, ...brief(read)].join(" ");
        const found = said.match(/w\d+w/g) ?? [];
        expect(found.toSorted(), `${text}\n→ ${said}`).toEqual(words.toSorted());
      }
    },
  );

  test("nested without end are no calls", () => {
    const deep = `<tool_call>{"name":"write","arguments":${'{"a":'.repeat(5000)}`;
    const read = readPieces(openParser(familyOf("hermes"), tools), [deep]);
    expect(read.calls).toHaveLength(1);
    expect(read.text.length + (read.calls[0]?.arguments.length ?? 0)).toBeGreaterThan(24_900);
    const openings = '<tool_call>{"a":"'.repeat(5000);
    expect(readPieces(openParser(familyOf("hermes"), tools), [openings]).text).toBe(openings);
  });
});

describe("the family of a template", () => {
  test("is the generic one where the template is not told of tools, so that our own prompt tells of them", () => {
    expect(detectFamily(null).name).toBe("generic");
    expect(detectFamily("{{ messages }}").name).toBe("generic");
    expect(detectFamily("{{ messages }} <tool_call>").name).toBe("generic");
    expect(detectFamily("{{ tools }} <tool_call>").name).toBe("hermes");
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
