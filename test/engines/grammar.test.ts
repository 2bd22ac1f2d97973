import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, test } from "vitest";
import type { ChatRequest, Tool } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { GrammarBuilder } from "../../src/engines/grammar/json-schema.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const ajv = new Ajv2020({ strict: false });

// Bounded, so that a model of random weights comes to an end.
const word = { type: "string", maxLength: 6 };
const schemas: Record<string, JsonObject> = {
  "required and optional properties": {
    type: "object",
    properties: { a: word, b: { type: "integer" }, c: { type: "boolean" }, d: { type: "null" } },
    required: ["b", "d"],
    additionalProperties: false,
  },
  "only optional properties": {
    type: "object",
    properties: { a: { type: "boolean" }, b: { type: "boolean" } },
    additionalProperties: false,
  },
  "enum and const": {
    type: "object",
    properties: { kind: { const: 'a "b"\n' }, size: { enum: ["small", 7, null, { deep: [true] }] } },
    required: ["kind", "size"],
  },
  "lists of bounded length": { type: "array", items: { enum: ["x", "y"] }, minItems: 2, maxItems: 4 },
  "a tuple": { type: "array", prefixItems: [{ type: "boolean" }, { enum: [1, 2] }], items: false },
  "string lengths": { type: "string", minLength: 3, maxLength: 5 },
  "anyOf and type unions": {
    type: "object",
    properties: {
      v: {
        anyOf: [
          { type: "boolean" },
          { type: "object", properties: { n: { type: ["null", "boolean"] } }, required: ["n"] },
        ],
      },
    },
    required: ["v"],
  },
  "references that recur": {
    $defs: {
      node: {
        type: "object",
        properties: { on: { type: "boolean" }, next: { anyOf: [{ type: "null" }, { $ref: "#/$defs/node" }] } },
        required: ["on", "next"],
      },
    },
    $ref: "#/$defs/node",
  },
  "allOf of objects": {
    allOf: [
      { type: "object", properties: { a: { type: "boolean" } }, required: ["a"] },
      { properties: { b: { enum: ["q"] } }, required: ["b"] },
    ],
  },
  "further properties of a type": {
    type: "object",
    properties: { id: { enum: [1] } },
    required: ["id"],
    additionalProperties: { type: "boolean" },
  },
};

describe("a model of random weights held to a JSON schema", () => {
  let engine: ReturnType<typeof startEngine>;
  beforeAll(() => {
    engine = startEngine({
      model: writeModel("free.gguf", randomDecoder({ architecture: "qwen2" })),
      contextLength: 1024,
    });
  });
  const ask = async (more: Partial<ChatRequest>) =>
    readAnswer(engine.chat(chatRequest("free", "Go", { temperature: 0.9, ...more }), never));

  for (const [name, schema] of Object.entries(schemas)) {
    test(`gives valid JSON: ${name}`, async () => {
      const validate = ajv.compile(schema);
      let ended = 0;
      for (let seed = 0; seed < 4; seed++) {
        const answer = await ask({
          seed,
          maxTokens: 600,
          responseFormat: { type: "json-schema", name: "answer", schema, strict: true },
        });
        // A recursive schema need not come to an end; what is cut off can only be a beginning of something valid.
        if (answer.reason === "length") continue;
        ended += 1;
        const value: unknown = JSON.parse(answer.text);
        expect(validate(value), `${answer.text}: ${JSON.stringify(validate.errors)}`).toBe(true);
      }
      expect(ended).toBeGreaterThan(0);
    });
  }

  test("gives a JSON object for json_object", async () => {
    const answer = await ask({ seed: 3, maxTokens: 700, responseFormat: { type: "json" } });
    if (answer.reason === "stop") expect(typeof JSON.parse(answer.text)).toBe("object");
    else expect(answer.text.trimStart().startsWith("{")).toBe(true);
  });

  test("calls the tool that it must call, with valid arguments", async () => {
    const parameters = { type: "object", properties: { city: { enum: ["Paris", "Lyon"] } }, required: ["city"] };
    const tools: Tool[] = [
      { name: "get_weather", parameters },
      { name: "get_time", parameters },
    ];
    const answer = await ask({ seed: 1, tools, toolChoice: { name: "get_time" }, parallelToolCalls: false });
    expect(answer.calls.map((call) => call.name)).toEqual(["get_time"]);
    expect(["Paris", "Lyon"]).toContain((JSON.parse(answer.calls[0]?.arguments ?? "{}") as JsonObject)["city"]);
    expect([answer.text, answer.reason]).toEqual(["", "tool-calls"]);
    const required = await ask({ seed: 2, tools, toolChoice: "required", parallelToolCalls: false });
    expect(required.calls).toHaveLength(1);
    await expect(ask({ tools, toolChoice: { name: "fly" } })).rejects.toMatchObject({
      code: "invalid_value",
      param: "tool_choice",
    });
  });
});

describe("what a grammar cannot express", () => {
  const build = (schema: JsonObject, strict: boolean): GrammarBuilder => {
    const builder = new GrammarBuilder({ strict, param: "response_format" });
    builder.text(builder.schema(schema, "answer"));
    return builder;
  };

  test("is refused where the schema is strict, and named with its place where it is not", () => {
    const schema = { type: "object", properties: { n: { type: "string", pattern: "^(?=a)b$" } } };
    expect(() => build(schema, true)).toThrow(
      expect.objectContaining({
        code: "unsupported_parameter",
        message: expect.stringMatching(/pattern .*look-around.* at \/properties\/n/),
      }),
    );
    expect([...build(schema, false).loosened].join()).toMatch(/pattern .* at \/properties\/n/);
  });

  test("is refused either way where no value is valid, or none has an end", () => {
    expect(() => build({ allOf: [{ type: "string" }, { type: "object" }] }, false)).toThrow(/no value satisfies/);
    expect(() => build({ type: "object", properties: { a: { $ref: "#/$defs/none" } } }, false)).toThrow(
      /#\/\$defs\/none/,
    );
    expect(() => build({ $ref: "#" }, false)).toThrow(/begins with itself/);
    const infinite = { type: "object", properties: { next: { $ref: "#" } }, required: ["next"] };
    expect(() => build(infinite, false)).toThrow(/never comes to an end/);
    const endless = { $defs: { a: { allOf: [{ $ref: "#/$defs/a" }, { title: "a" }] } }, $ref: "#/$defs/a" };
    expect(() => build(endless, false)).toThrow(/nested deeper/);
    expect(() => build({ $ref: "https://example.com/schema.json" }, false)).toThrow(/another document/);
  });
});
