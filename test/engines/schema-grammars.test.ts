import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { formatPattern } from "../../src/engines/grammar/formats.ts";
import { GrammarBuilder } from "../../src/engines/grammar/json-schema.ts";
import { GrammarMatcher, GrammarSampler, randomNumbers } from "../support/gbnf.ts";

interface NamedSchema {
  readonly name: string;
  readonly schema: JsonObject;
}
const corpus = JSON.parse(
  readFileSync(new URL("../fixtures/tool-schemas.json", import.meta.url), "utf8"),
) as NamedSchema[];
// multipleOf is decided in decimals here, and by division of doubles there.
const ajv = new Ajv2020({ strict: false, multipleOfPrecision: 6, validateFormats: false });

function toGrammar(
  schema: Json,
  order: "declared" | "any" = "declared",
  strict = false,
): { text: string; loosened: string[] } {
  const builder = new GrammarBuilder({ strict, param: "tools", order });
  const text = builder.text(builder.schema(schema, "value"));
  return { text, loosened: [...builder.loosened] };
}

/** Draft 4, draft 7 and OpenAPI forms as the draft that ajv reads. */
function modern(schema: JsonObject): JsonObject {
  const change = (value: Json | undefined): Json | undefined => {
    if (Array.isArray(value)) return value.map((item) => change(item) as Json);
    if (typeof value !== "object" || value === null) return value;
    const { exclusiveMinimum, minimum, items, additionalItems, dependencies, ...rest } = value;
    const out: JsonObject = Object.fromEntries(Object.entries(rest).map(([key, inner]) => [key, change(inner)]));
    if (exclusiveMinimum === true) Object.assign(out, { exclusiveMinimum: minimum });
    else Object.assign(out, { exclusiveMinimum, minimum });
    if (Array.isArray(items)) Object.assign(out, { prefixItems: change(items), items: additionalItems });
    else if (items !== undefined) out["items"] = change(items);
    if (dependencies !== undefined) out["dependentRequired"] = dependencies;
    return JSON.parse(JSON.stringify(out)) as JsonObject;
  };
  return change(schema) as JsonObject;
}

test("the corpus is what it says", () => {
  expect(corpus.length).toBeGreaterThanOrEqual(300);
  expect(new Set(corpus.map(({ name }) => name)).size).toBe(corpus.length);
});

describe("every text that the grammar of a real tool's schema produces is valid", () => {
  for (const order of ["declared", "any"] as const) {
    test(`with properties in ${order} order`, () => {
      const random = randomNumbers(order === "any" ? 7 : 11);
      const loosened: string[] = [];
      for (const { name, schema } of corpus) {
        const grammar = toGrammar(schema, order);
        const validate = ajv.compile(modern(schema));
        const sampler = new GrammarSampler(grammar.text);
        if (grammar.loosened.length > 0) loosened.push(name);
        for (let round = 0; round < 8; round++) {
          const text = sampler.sample(random, round % 2 === 0 ? 14 : 6);
          const value: unknown = JSON.parse(text);
          const valid = validate(value) || grammar.loosened.length > 0;
          expect(valid, `${name}: ${text} ${ajv.errorsText(validate.errors)}`).toBe(true);
        }
      }
      expect(loosened).toEqual(expectedLoosened);
    });
  }
});

/** What no grammar can hold a model to; all else of the corpus is exact. */
const expectedLoosened = [
  "shopify-create_order",
  "agent-spawn",
  "finance-quote",
  "crm-create_contact",
  "feature-unique-free",
  "feature-pattern-lookahead",
  "feature-format-unknown",
];

test("what was produced once is accepted when it is written by another program", () => {
  const random = randomNumbers(3);
  for (const { name, schema } of corpus) {
    const { text } = toGrammar(schema);
    const [sampler, matcher] = [new GrammarSampler(text), new GrammarMatcher(text)];
    const sample = sampler.sample(random, 8);
    // Long texts say nothing more and take long.
    if (sample.length < 300) expect(matcher.accepts(sample), `${name}: ${sample}`).toBe(true);
  }
});

describe("a grammar accepts what is valid and nothing else", () => {
  const agree = (schema: JsonObject, values: readonly Json[]): void => {
    const validate = ajv.compile(schema);
    const text = grammarOf(schema);
    // No value at all is valid: refused.
    if (text === null) expect(values.filter((value) => validate(value))).toEqual([]);
    if (text === null) return;
    const matcher = new GrammarMatcher(text);
    for (const value of values) {
      const text = JSON.stringify(value);
      expect(matcher.accepts(text), `${JSON.stringify(schema)} and ${text}`).toBe(validate(value));
    }
  };
  const grammarOf = (schema: JsonObject): string | null => {
    try {
      return toGrammar(schema, "any").text;
    } catch (error) {
      if (String(error).includes("no value satisfies")) return null;
      throw error;
    }
  };
  const numbers = Array.from({ length: 260 }, (_, index) => index - 130);

  test("for integers between bounds", () => {
    for (const minimum of [-120, -99, -10, -1, 0, 1, 9, 10, 57, 99, 100]) {
      for (const width of [0, 1, 8, 9, 10, 18, 28, 33, 88, 90])
        agree({ type: "integer", minimum, maximum: minimum + width }, numbers);
    }
    agree({ type: "integer", minimum: 9007199254740000 }, [9007199254739999, 9007199254740000, 9007199254740991]);
    agree({ type: "integer", exclusiveMinimum: -3, exclusiveMaximum: 3 }, numbers);
  });

  test("for multiples", () => {
    for (const multipleOf of [2, 3, 5, 7, 10, 12, 25, 100]) {
      agree(
        { type: "integer", multipleOf },
        numbers.filter((value) => value !== 0),
      );
      agree({ type: "integer", multipleOf, minimum: -1000, maximum: 90_000 }, [...numbers, 89_999, 90_000, 84_000]);
    }
  });

  test("for decimals between bounds", () => {
    const decimals = Array.from({ length: 700 }, (_, index) => Math.round(index - 350) / 100);
    for (const [minimum, maximum] of [
      [0, 1],
      [-1.25, 2.5],
      [0.05, 0.06],
      [-3, -0.5],
      [1.99, 2.01],
      [0.999, 1],
    ] as const) {
      agree({ type: "number", minimum, maximum }, decimals);
      agree({ type: "number", exclusiveMinimum: minimum, exclusiveMaximum: maximum }, decimals);
    }
    agree({ type: "number", multipleOf: 0.25, minimum: 0, maximum: 500 }, []);
  });

  test("for lengths, in characters, an escape being one", () => {
    for (const [minLength, maxLength] of [
      [0, 3],
      [2, 2],
      [5, 70],
      [63, 65],
      [64, 128],
      [100, 300],
    ] as const) {
      const matcher = new GrammarMatcher(toGrammar({ type: "string", minLength, maxLength }).text);
      for (const length of [0, 1, 2, 3, 4, 5, 62, 63, 64, 65, 66, 70, 71, 100, 127, 128, 129, 192, 299, 300, 301]) {
        const fits = length >= minLength && length <= maxLength;
        for (const unit of ["a", "\n", '"', "😀"]) {
          expect(matcher.accepts(JSON.stringify(unit.repeat(length))), `${length} of ${minLength}..${maxLength}`).toBe(
            fits,
          );
        }
      }
    }
    const pair = new GrammarMatcher(toGrammar({ type: "string", minLength: 2 }).text);
    expect([pair.accepts('"\\ud83d\\ude00"'), pair.accepts('"\\ud83d\\ude00a"'), pair.accepts('"\\ud83d1"')]).toEqual([
      false,
      true,
      false,
    ]);
  });

  const patterns = [
    "^a+$",
    "b",
    "^(foo|ba[rz])\\d{2,4}$",
    "^[^\\s@]+@[^\\s@]+$",
    "^\\w+(-\\w+)*$",
    "^(a|b?)c{0,2}$",
    "(^x|y$)",
    "^[\\u4e00-\\u9fff]+$",
    "^\\/[a-z.\\-]*$",
    "^(?<year>\\d{4})-(?:0[1-9]|1[0-2])$",
    '^["\\\\]+$',
    "^.$",
    "^\\p{Lu}\\p{Ll}*$",
    "",
  ];
  const words = [
    "",
    "a",
    "aa",
    "aab",
    "b",
    "foo12",
    "bar1",
    "baz12345",
    "x@y",
    "x@@y",
    "a b@c",
    "ab-cd",
    "-",
    "ab-",
    "c",
    "bcc",
    "accc",
    "xq",
    "qy",
    "yx",
    "中文",
    "中a",
    "/a.b-c",
    "//",
    "2024-12",
    "2024-13",
    '"',
    '\\"',
    "\n",
    "\u2028",
    "Éa",
    "ÉA",
    "é",
  ];
  test("for patterns", () => {
    for (const pattern of patterns) {
      agree({ type: "string", pattern }, words);
      agree({ type: "string", pattern, minLength: 2, maxLength: 5 }, words);
    }
  });

  test("for objects, in any order where there are few properties", () => {
    const schema = {
      type: "object",
      properties: { a: { type: "boolean" }, b: { type: "null" }, c: { const: 1 } },
      required: ["b"],
      additionalProperties: false,
    };
    agree(schema, [{}, { b: null }, { c: 1, b: null, a: true }, { a: true }, { b: null, a: 1 }, { b: null, d: 1 }]);
    agree({ ...schema, additionalProperties: { type: "integer" } }, [
      { b: null, zz: 3 },
      { b: null, aa: 3, bb: 4 },
      { b: null, zz: "x" },
    ]);
    const named = {
      ...schema,
      properties: { "x-a": { const: 1 } },
      required: [],
      patternProperties: { "^x-": { type: "integer" } },
    };
    const twice = new GrammarMatcher(toGrammar(named).text);
    expect([twice.accepts('{"x-a":1}'), twice.accepts('{"x-a":1,"x-a":5}')]).toEqual([true, false]);
    agree({ ...schema, minProperties: 2, maxProperties: 2 }, [
      { b: null },
      { b: null, a: true },
      { a: true, b: null, c: 1 },
    ]);
  });

  test("for lists", () => {
    const list = (length: number): number[] => Array.from({ length }, () => 1);
    for (const [minItems, maxItems] of [
      [0, 0],
      [0, 2],
      [2, 2],
      [60, 130],
    ] as const) {
      agree(
        { type: "array", items: { enum: [1] }, minItems, maxItems },
        [0, 1, 2, 3, 59, 60, 64, 129, 130, 131].map(list),
      );
    }
    const unique = { type: "array", items: { enum: ["x", "y", "z"] }, uniqueItems: true };
    agree(unique, [[], ["z", "x"], ["x", "x"], ["x", "y", "z"], ["q"]]);
  });
});

test("formats take real values and refuse what only looks like one", () => {
  const samples: Record<string, [good: string[], bad: string[]]> = {
    date: [
      ["2024-02-29", "2000-02-29", "1999-12-31"],
      ["2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31"],
    ],
    time: [
      ["23:59:59Z", "00:00:00.123+01:30"],
      ["24:00:00Z", "12:60:00Z", "12:00:00"],
    ],
    "date-time": [["2024-05-06T07:08:09Z"], ["2024-05-06 07:08:09Z", "2024-05-06"]],
    uuid: [["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000"]],
    ipv4: [
      ["0.0.0.0", "255.255.255.255"],
      ["256.1.1.1", "1.2.3", "01.2.3.4"],
    ],
    ipv6: [
      ["::", "::1", "1::", "2001:db8::8:800:200c:417a", "1:2:3:4:5:6:7:8"],
      ["1:2:3:4:5:6:7", ":::", "1::2::3", "12345::"],
    ],
    email: [["a.b+c@example.org"], ["a@b", "@b.c", "a b@c.de"]],
    hostname: [
      ["example", "a-b.c"],
      ["-a", "a..b", "a_b"],
    ],
    uri: [
      ["https://example.org/a?b=c#d", "mailto:a@b.c"],
      ["example.org", "http://", "https://a b"],
    ],
    duration: [
      ["P1Y2M3DT4H5M6S", "PT5M", "P3W"],
      ["P", "PT", "1D", "P1S"],
    ],
  };
  for (const [format, [good, bad]] of Object.entries(samples)) {
    const matcher = new GrammarMatcher(toGrammar({ type: "string", format }).text);
    for (const text of good) expect(matcher.accepts(JSON.stringify(text)), `${format} ${text}`).toBe(true);
    for (const text of bad) expect(matcher.accepts(JSON.stringify(text)), `${format} ${text}`).toBe(false);
    expect(formatPattern(format)).not.toBeNull();
  }
});

describe("hostile schemas are refused, or made small, at once", () => {
  const refused: Record<string, () => Json> = {
    "nested without end": () => {
      let schema: JsonObject = { type: "boolean" };
      for (let depth = 0; depth < 120; depth++) schema = { type: "object", properties: { a: schema }, required: ["a"] };
      return schema;
    },
    "alternatives that multiply": () => ({
      allOf: Array.from({ length: 8 }, (_, at) => ({
        anyOf: Array.from({ length: 8 }, (_, way) => ({
          type: "object",
          properties: { [`p${at}${way}`]: { const: way } },
          required: [`p${at}${way}`],
        })),
      })),
    }),
    "a reference to itself": () => ({
      $ref: "#/$defs/a",
      $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } },
    }),
    "an object that holds itself": () => ({ type: "object", properties: { a: { $ref: "#" } }, required: ["a"] }),
    "alternatives of alternatives that share their ends": () => ({
      $ref: "#/$defs/d0",
      $defs: Object.fromEntries(
        Array.from({ length: 60 }, (_, depth) => [
          `d${depth}`,
          depth === 59
            ? { const: 1 }
            : {
                anyOf: [
                  { $ref: `#/$defs/d${depth + 1}` },
                  { allOf: [{ $ref: `#/$defs/d${depth + 1}` }, { title: "x", minimum: 0 }] },
                ],
              },
        ]),
      ),
    }),
    "an enum of a million": () => ({ enum: Array.from({ length: 1_000_000 }, (_, value) => value) }),
  };
  for (const [name, schema] of Object.entries(refused)) {
    test(name, () => {
      expect(() => toGrammar(schema(), "declared", true)).toThrow(
        expect.objectContaining({ status: 400, param: "tools" }),
      );
    });
  }

  test("bounds of millions take few rules", () => {
    const { text } = toGrammar({
      type: "object",
      properties: {
        s: { type: "string", maxLength: 9_000_000 },
        l: { type: "array", items: { type: "null" }, maxItems: 900_000 },
      },
      required: ["s", "l"],
    });
    expect(text.length).toBeLessThan(5000);
  });

  test("a pattern on which a backtracking engine hangs", () => {
    const { text } = toGrammar({
      type: "object",
      patternProperties: { "^(a+)+$": { type: "null" } },
      properties: { [`${"a".repeat(60)}!`]: {} },
      additionalProperties: false,
    });
    expect(new GrammarMatcher(text).accepts('{"aaa": null}')).toBe(true);
  });
});
