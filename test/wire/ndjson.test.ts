import { expect, test } from "vitest";
import { parseNdjson } from "../../src/wire/ndjson.ts";
import { arriving, drain, inPieces, seeded } from "../support/bytes.ts";

test("any split of the bytes gives the same values", async () => {
  const text = '{"message":{"content":"Grüße 🦙"}}\r\n\n{"done":false}\n  \n{"done":true}';
  const values = [{ message: { content: "Grüße 🦙" } }, { done: false }, { done: true }];
  for (let seed = 0; seed < 100; seed++) {
    expect((await drain(parseNdjson(inPieces(text, seeded(seed), 1 + (seed % 9))))).items).toEqual(values);
  }
});

test.each([
  ["cut short", '{"a":1}\n{"a":'],
  ["not JSON", '{"a":1}\n<html>\n{"a":2}\n'],
])("a line that is %s fails after the values before it, and says nothing of its content", async (_, text) => {
  const { items, error } = await drain(parseNdjson(arriving(text)));
  expect(items).toEqual([{ a: 1 }]);
  expect(error).toMatchObject({ code: "upstream_error" });
  expect(String(error)).not.toMatch(/html|"a"/);
});

test("a line without an end is bounded", async () => {
  const { error } = await drain(parseNdjson(arriving('{"a":"', "x".repeat(500), "x".repeat(500), '"}'), 100));
  expect(error).toMatchObject({ code: "upstream_error" });
});
