import { describe, expect, test } from "vitest";
import { spliceFields } from "../../src/wire/splice.ts";

function splice(text: string, changes: Record<string, string | number | boolean | null | object>): string {
  return Buffer.from(spliceFields(Buffer.from(text).toString("latin1"), changes as never), "latin1").toString();
}

describe("spliceFields", () => {
  test("sets the top-level model and leaves every other byte as it was", () => {
    expect(
      splice('{ "messages" : [ {"model":"not me","content":"é\\"}"} ] , "model" :  "a" , "x":1.0e3 }', { model: "b" }),
    ).toBe('{ "messages" : [ {"model":"not me","content":"é\\"}"} ] , "model" :  "b" , "x":1.0e3 }');
  });

  test("sets every occurrence of a repeated key, so that no reader sees another model than we routed by", () => {
    expect(JSON.parse(splice('{"model":"a","mod\\u0065l":"evil","n":1}', { model: "b" }))).toEqual({
      model: "b",
      n: 1,
    });
    expect(splice('{"model":"a","mod\\u0065l":"evil"}', { model: "b" })).not.toContain("evil");
  });

  test("adds a field that is missing, also to an empty object", () => {
    expect(splice('{"a":{"b":[]}}', { model: "b", stream: true })).toBe('{"a":{"b":[]},"model":"b","stream":true}');
    expect(splice("{ }", { model: "b" })).toBe('{ "model":"b"}');
  });

  test("replaces values of every type", () => {
    for (const value of ["1", "-1.5e+3", "true", "null", '"x\\\\"', '{"a":{"b":"}"}}', '[[1,"]"],{}]']) {
      expect(JSON.parse(splice(`{"a":0,"b":${value},"c":[0]}`, { b: "new" }))).toEqual({ a: 0, b: "new", c: [0] });
      expect(JSON.parse(splice(`{"b":${value}\n}`, { b: { deep: [1] } }))).toEqual({ b: { deep: [1] } });
    }
  });

  test("agrees with parse and stringify on generated objects", () => {
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
    const texts = ["", "é", '"', "\\", '\\\\"', "{", "}", "[", "]", ",", ":", "日本", "\u0000", "model"];
    const make = (depth: number): unknown => {
      const kind = random(depth > 3 ? 4 : 6);
      if (kind === 0) return texts[random(texts.length)];
      if (kind === 1) return random(1000) / 7 - 20;
      if (kind === 2) return random(2) === 0;
      if (kind === 3) return null;
      if (kind === 4) return Array.from({ length: random(4) }, () => make(depth + 1));
      return Object.fromEntries(
        Array.from({ length: random(4) }, () => [texts[random(texts.length)], make(depth + 1)]),
      );
    };
    for (let round = 0; round < 2000; round++) {
      const object = { ...(make(4) === null ? {} : { first: make(0) }), model: make(0), last: make(0) };
      const spaced = random(2) === 0 ? JSON.stringify(object) : JSON.stringify(object, null, 1);
      expect(JSON.parse(splice(spaced, { model: "m" }))).toEqual({ ...object, model: "m" });
    }
  });
});
