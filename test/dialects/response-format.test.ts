import { expect, test } from "vitest";
import type { ResponseFormat } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { decodeCompletion } from "../../src/dialects/openai-completions.ts";
import { decodeResponseFormat, encodeResponseFormat } from "../../src/dialects/openai-chat/response-format.ts";

const schema = { type: "object", properties: { a: { type: "string" } } };
const held: ResponseFormat = { type: "json-schema", name: "response", schema };
const grammar: ResponseFormat = { type: "grammar", grammar: 'root ::= "x"' };

test.each<[JsonObject, ResponseFormat]>([
  [{}, { type: "text" }],
  [{ response_format: { type: "json_object" } }, { type: "json" }],
  [{ json_schema: schema }, held],
  [{ grammar: 'root ::= "x"' }, grammar],
  [{ response_format: { type: "grammar", grammar: 'root ::= "x"' } }, grammar],
  [{ response_format: { type: "text" }, grammar: 'root ::= "x"' }, grammar],
  [{ guided_json: schema }, held],
  [{ guided_json: JSON.stringify(schema) }, held],
  [{ guided_grammar: 'root ::= "x"' }, grammar],
  [{ guided_regex: "\\d+" }, { type: "regex", pattern: "\\d+" }],
  [{ guided_choice: ["a", "b"] }, { type: "choice", choices: ["a", "b"] }],
  [{ structured_outputs: { json: schema } }, held],
  [{ structured_outputs: { regex: "a|b" } }, { type: "regex", pattern: "a|b" }],
  [{ structured_outputs: { choice: ["a"] } }, { type: "choice", choices: ["a"] }],
  [{ structured_outputs: { json_object: true } }, { type: "json" }],
  [{ grammar: "", guided_regex: null, structured_outputs: null }, { type: "text" }],
])("%j is read as the servers it comes from mean it", (body, format) => {
  expect(decodeResponseFormat(body)).toEqual(format);
});

test("what was read is written so that it is read the same", () => {
  const formats: ResponseFormat[] = [
    { type: "text" },
    { type: "json" },
    { ...held, strict: true },
    { type: "regex", pattern: "a+" },
    { type: "choice", choices: ["a", "b"] },
  ];
  for (const format of formats) expect(decodeResponseFormat(encodeResponseFormat(format))).toEqual(format);
  // In the words of llama-server and of vLLM at once: each reads its own.
  expect(encodeResponseFormat(grammar)).toMatchObject({ grammar: 'root ::= "x"', structured_outputs: {} });
});

test.each<[JsonObject, string]>([
  [{ grammar: "a", guided_regex: "b" }, "response_format"],
  [{ response_format: { type: "json_object" }, json_schema: schema }, "response_format"],
  [{ guided_choice: ["a", 1] }, "guided_choice"],
  [{ guided_json: "{" }, "guided_json"],
  [{ response_format: { type: "xml" } }, "response_format.type"],
])("%j is refused", (body, param) => {
  expect(() => decodeResponseFormat(body)).toThrow(expect.objectContaining({ status: 400, param }));
});

test("a text completion takes the same fields", () => {
  const { requests } = decodeCompletion({ prompt: "a", grammar: 'root ::= "x"' }, "m");
  expect(requests[0]?.responseFormat).toEqual(grammar);
  expect(decodeCompletion({ prompt: "a" }, "m").requests[0]).not.toHaveProperty("responseFormat");
});
