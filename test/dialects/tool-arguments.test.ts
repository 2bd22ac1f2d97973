import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { mendJson, soundArguments } from "../../src/dialects/tool-arguments.ts";
import { toolNamed } from "../../src/dialects/tool-repair.ts";
import { findMisfit } from "../../src/dialects/tool-schema.ts";

const schema: JsonObject = {
  type: "object",
  properties: {
    path: { type: "string" },
    line: { type: "integer" },
    ratio: { type: "number" },
    all: { type: "boolean" },
    tags: { type: "array", items: { type: "string" } },
    lines: { type: "array", items: { type: "integer" } },
    mode: { type: "string", enum: ["read", "write", "Read all", "read ALL"] },
    edit: { $ref: "#/$defs/edit" },
    either: { anyOf: [{ type: "integer" }, { type: "boolean" }] },
    unclear: { anyOf: [{ type: "integer" }, { type: "array", items: { type: "integer" } }] },
    gone: { type: ["string", "null"] },
  },
  required: ["path"],
  $defs: { edit: { type: "object", properties: { from: { type: "integer" } }, required: ["from"] } },
};

const sound = (text: string, given: JsonObject = schema): string | { problem: string } => {
  const result = soundArguments(text, { schema: given, whole: true });
  return "text" in result ? result.text : result;
};

describe("a slip with one reading is put right, and its neighbour that takes a guess is not:", () => {
  test.each<[slip: string, written: string, mended: string, uncertain: string]>([
    ["commas before a close", '{"path":"a","tags":["x",],}', '{"path":"a","tags":["x"]}', '{"path":"a",,"tags":[]}'],
    ["an object that is not closed", '{"path":"a","edit":{"from":1', '{"path":"a","edit":{"from":1}}', '{"path":"a'],
    ["a list that is not closed", '{"path":"a","tags":["x"', '{"path":"a","tags":["x"]}', '{"path":"a","tags":['],
    ["a close too many", '{"path":"a"}}', '{"path":"a"}', '{"path":"a"} {"path":"b"}'],
    ["a line break in a text", '{"path":"a\nb"}', '{"path":"a\\nb"}', '{"path":"a"b"}'],
    ["Python's literals", '{"path":"a","all":True}', '{"path":"a","all":true}', '{"path":"a","all":Yes}'],
    ["a fence", '```json\n{"path":"a"}\n```', '{"path":"a"}', 'Here: {"path":"a"}'],
    ["JSON in a text", '"{\\"path\\":\\"a\\"}"', '{"path":"a"}', '"path=a"'],
    ["a number as a text", '{"path":"a","line":"12"}', '{"path":"a","line":12}', '{"path":"a","line":"12th"}'],
    ["a fraction as a text", '{"path":"a","ratio":"-0.5"}', '{"path":"a","ratio":-0.5}', '{"path":"a","line":"0.5"}'],
    ["a boolean as a text", '{"path":"a","all":"True"}', '{"path":"a","all":true}', '{"path":"a","all":"yes"}'],
    ["a list as a text", '{"path":"a","lines":"[1,2]"}', '{"path":"a","lines":[1,2]}', '{"path":"a","lines":"1,2"}'],
    [
      "an object as a text",
      '{"path":"a","edit":"{\\"from\\":1}"}',
      '{"path":"a","edit":{"from":1}}',
      '{"path":"a","edit":"from 1"}',
    ],
    [
      "one thing for a list of them",
      '{"path":"a","tags":"x"}',
      '{"path":"a","tags":["x"]}',
      '{"path":"a","tags":"x, y"}',
    ],
    [
      "one text for a list of numbers",
      '{"path":"a","lines":"3"}',
      '{"path":"a","lines":[3]}',
      '{"path":"a","lines":null,"line":[]}',
    ],
    ["null for what may be left out", '{"path":"a","line":null}', '{"path":"a"}', '{"path":null}'],
    [
      "an enum's value in another case",
      '{"path":"a","mode":"WRITE"}',
      '{"path":"a","mode":"write"}',
      '{"path":"a","mode":"READ ALL"}',
    ],
    ["one reading of two forms", '{"path":"a","either":"7"}', '{"path":"a","either":7}', '{"path":"a","unclear":"7"}'],
  ])("%s", (_, written, mended, uncertain) => {
    expect(sound(written)).toBe(mended);
    expect(sound(uncertain)).toEqual({ problem: expect.any(String) });
  });
});

describe("the object around a tool's only parameter", () => {
  const one = (part: JsonObject): JsonObject => ({ type: "object", properties: { input: part }, required: ["input"] });

  test("is put there where it is missing", () => {
    expect(sound('"ls -l"', one({ type: "string" }))).toBe('{"input":"ls -l"}');
    expect(sound('{"a":1}', one({ type: "object", properties: { a: { type: "integer" } } }))).toBe('{"input":{"a":1}}');
  });

  test("is put around a text that is no JSON at all, where a text is all that the tool takes", () => {
    const patch = '*** Begin Patch\n+ a "b"\n*** End Patch';
    expect(sound(patch, one({ type: "string" }))).toBe(JSON.stringify({ input: patch }));
    expect(sound(patch, one({ type: "integer" }))).toHaveProperty("problem");
    expect(sound('{"input":"*** Begin', one({ type: "string" }))).toHaveProperty("problem");
    expect(sound(patch)).toHaveProperty("problem");
    expect(soundArguments(patch, { schema: one({ type: "string" }), whole: false })).toHaveProperty("problem");
  });

  test("is not, where the value is no such parameter, or the tool has two", () => {
    expect(sound("[1]", one({ type: "string" }))).toHaveProperty("problem");
    expect(sound('"a"', schema)).toHaveProperty("problem");
    expect(sound("[1]", one({}))).toHaveProperty("problem");
  });
});

test("what the model did not end itself is not closed for it", () => {
  expect(soundArguments('{"path":"a"', { schema, whole: false })).toHaveProperty("problem");
  expect(soundArguments('{"path":"a","line":"1"}', { schema, whole: false })).toEqual({
    text: '{"path":"a","line":1}',
  });
});

test("no arguments are an empty object, where that is one", () => {
  expect(sound("", { type: "object", properties: {} })).toBe("{}");
  expect(sound("")).toEqual({ problem: "`path` is missing" });
});

test("figures that a double cannot hold are not written anew", () => {
  const text = '{"path":"a","line":"1","ratio":12345678901234567890}';
  expect(sound(text)).toHaveProperty("problem");
  expect(sound(text.replace('"1"', "1"))).toBe(text.replace('"1"', "1"));
});

test("the problem names the place and what is wanted there", () => {
  expect(sound('{"path":"a","edit":{"from":"x"}}')).toEqual({
    problem: "`edit.from` must be an integer, not a string",
  });
  expect(sound('{"path":"a","lines":[1,"x"]}')).toEqual({ problem: "`lines[1]` must be an integer, not a string" });
});

describe("a schema that is broken or hostile keeps nobody from a call:", () => {
  let deep: JsonObject = {};
  for (let depth = 0; depth < 5000; depth++) deep = { allOf: [deep] };
  const wide: JsonObject = { $defs: {}, $ref: "#/$defs/d0" };
  for (let level = 0; level < 25; level++) {
    const next = { $ref: `#/$defs/d${level + 1}` };
    (wide.$defs as JsonObject)[`d${level}`] = { anyOf: [next, next, next] };
  }
  (wide.$defs as JsonObject)["d25"] = { type: "integer" };
  test.each<[string, JsonObject]>([
    ["a reference to elsewhere", { $ref: "https://example.org/schema.json" }],
    ["a reference to itself", { $ref: "#" }],
    ["a reference to nothing", { properties: { path: { $ref: "#/$defs/%zz" } } }],
    ["types that nobody knows", { type: "thing", properties: { path: { type: ["text", 1] } } }],
    ["keywords of the wrong kind", { type: "object", properties: [], required: "path", enum: {}, minimum: "x" }],
    ["nested ten thousand times", deep],
    ["as many branches as there are atoms", wide],
    ["a pattern that never ends", { properties: { path: { type: "string", pattern: "^(a+)+$" } } }],
  ])("%s", (_, hostile) => {
    const text = `{"path":"${"a".repeat(64)}!"}`;
    expect(sound(text, hostile)).toBe(text);
  });

  test("nor do arguments of a million brackets", () => {
    expect(sound("[".repeat(1_000_000))).toHaveProperty("problem");
    expect(sound('{"a":"'.repeat(200_000))).toHaveProperty("problem");
    expect(mendJson(`${'{"a":1'.repeat(200_000)},`)).toBeUndefined();
  });
});

/** Numbers that are the same in every run. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function anySchema(random: (below: number) => number, depth: number): JsonObject {
  const kinds = [
    "string",
    "integer",
    "number",
    "boolean",
    "null",
    ...(depth > 0 ? ["array", "object", "anyOf", "allOf", "ref"] : []),
  ];
  const kind = kinds[random(kinds.length)];
  if (kind === "anyOf" || kind === "allOf")
    return { [kind]: [anySchema(random, depth - 1), anySchema(random, depth - 1)] };
  if (kind === "ref") return { $ref: "#/$defs/shared" };
  if (kind === "array")
    return { type: "array", items: anySchema(random, depth - 1), ...(random(3) === 0 ? { minItems: 1 } : {}) };
  if (kind === "object") {
    const names = ["a", "b", "c"].slice(0, 1 + random(3));
    return {
      type: "object",
      properties: Object.fromEntries(names.map((name) => [name, anySchema(random, depth - 1)])),
      required: names.filter(() => random(2) === 0),
      ...(random(3) === 0 ? { additionalProperties: anySchema(random, depth - 1) } : {}),
    };
  }
  if (kind === "string" && random(3) === 0) return { type: "string", enum: ["x", "y"] };
  if (kind === "integer" && random(3) === 0) return { type: "integer", minimum: 0, exclusiveMaximum: 3 };
  return { type: kind ?? "string" };
}

function anyValue(random: (below: number) => number, depth: number): Json {
  switch (random(depth > 0 ? 8 : 6)) {
    case 0:
      return ["x", "y", "1", "true", ""][random(5)] ?? "";
    case 1:
      return random(5) - 1;
    case 2:
      return random(4) / 2;
    case 3:
      return random(2) === 0;
    case 4:
      return null;
    case 5:
      return "x";
    case 6:
      return Array.from({ length: random(3) }, () => anyValue(random, depth - 1));
    default:
      return Object.fromEntries(["a", "b", "d"].slice(0, random(4)).map((name) => [name, anyValue(random, depth - 1)]));
  }
}

describe("over many schemas and values", () => {
  const ajv = new Ajv2020({ strict: false });
  const cases = Array.from({ length: 600 }, (_, seed) => {
    const random = randomOf(seed + 1);
    const properties = { a: anySchema(random, 2), b: anySchema(random, 2), d: anySchema(random, 1) };
    const made = { type: "object", properties, required: ["a"], $defs: { shared: anySchema(random, 0) } };
    const values = Array.from({ length: 12 }, () => ({ a: anyValue(random, 2), b: anyValue(random, 2) }));
    return { made, values, valid: ajv.compile(made) };
  });

  test("what fits is what fits for ajv", () => {
    for (const { made, values, valid } of cases)
      for (const value of values)
        expect(findMisfit(value, made) === undefined, JSON.stringify({ made, value })).toBe(valid(value));
  });

  test("arguments that fit stay as they are, byte for byte; mended ones fit, and mending them again changes nothing", () => {
    let mended = 0;
    for (const { made, values, valid } of cases) {
      for (const value of values) {
        const text = ` ${JSON.stringify(value, null, 1)}`;
        const result = sound(text, made);
        if (valid(value)) expect(result).toBe(text);
        if (typeof result !== "string" || result === text) continue;
        mended++;
        expect(valid(JSON.parse(result)), JSON.stringify({ made, value, result })).toBe(true);
        expect(sound(result, made)).toBe(result);
      }
    }
    expect(mended).toBeGreaterThan(100);
  });
});

describe("a tool's name", () => {
  const tools = ["read", "Write", "LIST", "list", "functions.x"].map((name) => ({ name, parameters: {} }));

  test.each([
    ["read", "read"],
    ["functions.read", "read"],
    ["default_api:read", "read"],
    ["tool.write", "Write"],
    ["READ", "read"],
    ["read<|channel|>json", "read"],
    ["functions.x", "functions.x"],
    ["list", "list"],
  ])("%s means %s", (written, meant) => {
    expect(toolNamed(written, tools)?.name).toBe(meant);
  });

  test.each(["List", "readme", "mcp.read", "", "remove"])("%s means none of them", (written) => {
    expect(toolNamed(written, tools)).toBeUndefined();
  });
});
