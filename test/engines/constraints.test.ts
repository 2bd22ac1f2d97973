import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, test } from "vitest";
import type { ChatRequest, CompletionRequest, Tool } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { chatmlTemplate, scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { type Answer, readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const corpus = JSON.parse(readFileSync(new URL("../fixtures/tool-schemas.json", import.meta.url), "utf8")) as {
  name: string;
  schema: JsonObject;
}[];
const ajv = new Ajv2020({ strict: false, multipleOfPrecision: 6, validateFormats: false, logger: false });
const template = `{#- tools, <tool_call> -#}${chatmlTemplate}`;

let engine: ReturnType<typeof startEngine>;
beforeAll(() => {
  const model = randomDecoder({ architecture: "qwen2", layers: 1, width: 64, vocabulary: 512, template });
  engine = startEngine({ model: writeModel("free.gguf", model), contextLength: 4096 });
});
const ask = async (more: Partial<ChatRequest>): Promise<Answer> =>
  readAnswer(engine.chat(chatRequest("free", "Go", { temperature: 1, seed: 1, maxTokens: 200, ...more }), never));

/** Whether the reason is an end, after which a text must be whole. */
const ended = (answer: Answer): boolean => answer.reason !== "length";

test("a model of random weights keeps to the schema of every tool of the corpus, or the schema is refused", async () => {
  const refused: string[] = [];
  let whole = 0;
  const check = async ({ name, schema }: (typeof corpus)[number]): Promise<void> => {
    try {
      const responseFormat = { type: "json-schema", name: "answer", schema, strict: true } as const;
      const answer = await ask({ responseFormat, maxTokens: 90 });
      expect(Buffer.from(answer.text).toString("utf8")).not.toContain("\ufffd");
      if (!ended(answer)) return;
      whole += 1;
      // Forms of older drafts, which ajv reads otherwise, are the other test's.
      const validate = name.includes("draft") || name.includes("old") ? () => true : ajv.compile(schema);
      expect(validate(JSON.parse(answer.text)), `${name}: ${answer.text}`).toBe(true);
    } catch (error) {
      if ((error as { code?: string }).code !== "unsupported_parameter") throw error;
      refused.push(name);
    }
  };
  const line = [...corpus];
  const work = async (): Promise<void> => {
    for (let next = line.pop(); next !== undefined; next = line.pop()) await check(next);
  };
  await Promise.all(Array.from({ length: 8 }, work));
  expect(refused.toSorted()).toEqual([
    "agent-spawn",
    "crm-create_contact",
    "feature-format-unknown",
    "feature-pattern-lookahead",
    "feature-unique-free",
    "finance-quote",
    "shopify-create_order",
  ]);
  expect(whole).toBeGreaterThan(100);
}, 120_000);

describe("tools", () => {
  const city = { type: "string", enum: ["Paris", "Lyon"] };
  const weather: Tool = {
    name: "get_weather",
    parameters: { type: "object", properties: { city }, required: ["city"] },
  };
  const clock: Tool = {
    name: "get_time",
    parameters: {
      type: "object",
      properties: { zone: { type: "integer", minimum: 0, maximum: 9 } },
      required: ["zone"],
    },
  };
  const valid = (call: { name: string; arguments: string }): boolean =>
    ajv.compile((call.name === "get_time" ? clock : weather).parameters)(JSON.parse(call.arguments));

  test("a call that must come is valid from the first token on", async () => {
    for (let seed = 0; seed < 4; seed++) {
      const answer = await ask({ seed, tools: [weather, clock], toolChoice: "required", parallelToolCalls: false });
      expect([answer.calls.map(valid), answer.text, answer.reason]).toEqual([[true], "", "tool-calls"]);
    }
  });

  test("a format and tools together give the one or the other", async () => {
    const responseFormat = { type: "json-schema", name: "a", schema: { enum: ["yes", "no"] as string[] } } as const;
    const seen = new Set<string>();
    for (let seed = 0; seed < 12; seed++) {
      const answer = await ask({ seed, tools: [clock], responseFormat, parallelToolCalls: false });
      if (answer.calls.length > 0) expect(answer.calls.map(valid)).toEqual([true]);
      else if (ended(answer)) expect(["yes", "no"]).toContain(JSON.parse(answer.text));
      seen.add(answer.calls.length > 0 ? "call" : "text");
    }
    expect(seen.size).toBeGreaterThan(0);
  });
});

describe("a model that is free to call", () => {
  const pick: Tool = {
    name: "pick",
    parameters: {
      type: "object",
      properties: { n: { enum: [1, 2, 3] } },
      required: ["n"],
      additionalProperties: false,
    },
  };
  /** Plays a model that says this, as far as it is let. */
  const play = (name: string, say: string | string[], more: Partial<ChatRequest> = {}): Promise<Answer> => {
    const content = scriptedModel({ template, scripts: [{ after: "\n", say }] });
    const scripted = startEngine({ model: writeModel(`${name}.gguf`, content) });
    return readAnswer(scripted.chat(chatRequest(name, "Pick", { tools: [pick], maxTokens: 600, ...more }), never));
  };
  const numbers = (answer: Answer): unknown[] =>
    answer.calls.map((call) => (JSON.parse(call.arguments) as JsonObject)["n"]);

  test("says what it likes before a call, and in it only what the schema allows", async () => {
    const answer = await play(
      "wrong",
      'I pick {7}.\n<tool_call>\n{"name": "pick", "arguments": {"n": 7, "m": 1}}\n</tool_call>',
      {
        parallelToolCalls: false,
      },
    );
    expect(answer.text).toBe("I pick {7}.");
    expect(answer.calls.map(({ name }) => name)).toEqual(["pick"]);
    expect([1, 2, 3]).toContain(numbers(answer)[0]);
    expect(answer.reason).toBe("tool-calls");
  });

  test("is held to it also where the call begins in the middle of a token", async () => {
    const said = ["Well: <tool", '_call>\n{"name": "pi', 'ck", "arguments": {"n": 9}}\n</tool_call>'];
    const answer = await play("pieces", said, { parallelToolCalls: false });
    expect(answer.text).toBe("Well:");
    expect([1, 2, 3]).toContain(numbers(answer)[0]);
  });

  test("may call again, and say more, unless calls may not be parallel", async () => {
    // Each piece is a token, and leads to the next one: none may come twice.
    const call = '<tool_call>\n{"name": "pick", "arguments": {"n": ';
    const first = [`${call}1`, "}}\n</tool_call>"];
    const said = [...first, `\n${call}2}`, "}\n</tool_call>", "\nand ", `${call}3}}`, "\n</tool_call>", " done"];
    expect(numbers(await play("many", said))).toEqual([1, 2, 3]);
    const one = await play("one", said, { parallelToolCalls: false });
    expect([numbers(one), one.reason]).toEqual([[1], "tool-calls"]);
  });

  test("is not held to anything by a tag within its reasoning", async () => {
    const thought = '<think>\nshould I <tool_call> {"n": 7}?\n</think>\nNo.';
    const answer = await play("thinker", thought);
    expect(answer.reasoning).toContain('<tool_call> {"n": 7}?');
    expect([answer.text, answer.calls]).toEqual(["No.", []]);
  });

  test("stays free where it writes like a call what can be none", async () => {
    const said = "The tag <tool_call>s are neat.";
    expect((await play("prose", said)).text).toBe(said);
  });
});

describe("formats of other servers", () => {
  test("a grammar of GBNF rules the answer", async () => {
    const grammar = 'root ::= "<" [a-c]{2,4} ">" "é中"';
    const answer = await ask({ responseFormat: { type: "grammar", grammar } });
    expect(answer.text).toMatch(/^<[a-c]{2,4}>é中$/);
  });

  test("a grammar that cannot be read, has no end or begins with itself is refused with its line", async () => {
    const refused = async (grammar: string): Promise<string> =>
      ask({ responseFormat: { type: "grammar", grammar } }).then(
        () => "",
        (error: { code: string; message: string }) => `${error.code} ${error.message}`,
      );
    expect(await refused('root ::= "a"\nb ::= [')).toMatch(/^invalid_value .*line 2/);
    expect(await refused("root ::= a")).toMatch(/names a, which is not there/);
    expect(await refused('root ::= root "a" | "b"')).toMatch(/begins with itself/);
    expect(await refused('root ::= "a" root')).toMatch(/never comes to an end/);
    expect(await refused('root ::= ("a"{1000}){1000}')).toMatch(/too/);
    expect(await refused(`root ::= ${"(".repeat(5000)}"a"${")".repeat(5000)}`)).toMatch(/parentheses/);
    const doubling = Array.from({ length: 60 }, (_, at) => `r${at} ::= r${at + 1} "a" | r${at + 1} "b"`).join("\n");
    expect(await refused(`root ::= r0\n${doubling}\nr60 ::= "c"`)).toMatch(/too many ways/);
  });

  test("a choice and a regular expression rule the whole answer", async () => {
    const choices = ["yes", 'no "really"', "it\nis"];
    expect(choices).toContain((await ask({ responseFormat: { type: "choice", choices } })).text);
    const answer = await ask({ responseFormat: { type: "regex", pattern: "v\\d{1,2}(\\.\\d)?|none" } });
    expect(answer.text).toMatch(/^(v\d{1,2}(\.\d)?|none)$/);
  });

  test("a text completion is held to its format too", async () => {
    const request: CompletionRequest = {
      model: "free",
      prompt: "Once",
      stop: [],
      seed: 2,
      temperature: 1,
      maxTokens: 60,
      responseFormat: { type: "json-schema", name: "a", schema: { type: "integer", minimum: 17, maximum: 23 } },
      extra: {},
    };
    const value = Number((await readAnswer(engine.complete(request, never))).text);
    expect(value >= 17 && value <= 23).toBe(true);
  });

  test("free text under a grammar is UTF-8 to its last byte", async () => {
    // Bytes of longer characters only, which random weights put together at will.
    const logitBias = Object.fromEntries(Array.from({ length: 128 }, (_, index) => [String(128 + index), 50]));
    // … and <|im_end|>, so that an end comes wherever one may.
    logitBias["511"] = 53;
    const responseFormat = { type: "grammar", grammar: "root ::= [^a-z]{20,60}" } as const;
    for (let seed = 0; seed < 6; seed++) {
      const answer = await ask({ seed, maxTokens: 250, responseFormat, logitBias });
      const said = ended(answer) ? answer.text : answer.text.replace(/\ufffd$/, "");
      expect(said).not.toContain("\ufffd");
      expect([...said].length).toBeGreaterThanOrEqual(20);
    }
  });
});
