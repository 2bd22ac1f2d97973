import { describe, expect, it } from "vitest";
import { ModelScanner } from "../../src/wire/model-scanner.ts";

interface Found {
  readonly state: string;
  readonly name: string;
}

/** What a scanner finds in a text that comes in these pieces. */
function scan(pieces: readonly (string | Buffer)[]): Found & { scanner: ModelScanner } {
  const scanner = new ModelScanner();
  for (const piece of pieces) scanner.push(Buffer.from(piece as string));
  return { state: scanner.state, name: scanner.state === "named" ? scanner.name : "", scanner };
}

/** What JSON.parse makes of the same. */
function parsed(text: string): Found {
  const json = JSON.parse(text) as unknown;
  const model =
    typeof json === "object" && json !== null && !Array.isArray(json)
      ? (json as Record<string, unknown>)["model"]
      : undefined;
  if (model === undefined || model === null) return { state: "absent", name: "" };
  return typeof model === "string" ? { state: "named", name: model } : { state: "other", name: "" };
}

const texts = [
  '{"model":"a/b"}',
  ' \r\n\t{ "model" : "a" , "x":1}',
  '{"messages":[{"role":"user","content":"{\\"model\\":\\"no\\"}","model":"nested"}],"model":"yes"}',
  '{"a":"\\\\","model":"after an escaped backslash"}',
  '{"a":"\\\\\\"model","b":["]","}",{"model":"no"}],"model":"x\\"y\\\\"}',
  '{"mod\\u0065l":"key escaped"}',
  '{"\\u006d\\u006f\\u0064\\u0065\\u006c":"every letter"}',
  '{"model":"first","model":"last"}',
  '{"model":"first","model":null}',
  '{"model":"first","model":7}',
  '{"model":"first","model":{"a":1},"z":"model"}',
  '{"model":true,"model":"string after all"}',
  '{"model":["a"],"x":"b"}',
  '{"x":"model","y":"z"}',
  '{"model ":"no"," model":"no","MODEL":"no","models":"no"}',
  '{"model":"\\u00e4ü😀\\n"}',
  '{"model":""}',
  "{}",
  "[]",
  '["model","x"]',
  '"model"',
  "null",
  "3",
  '{"n":[1,[2,[3,{"model":"no"}]]],"t":true,"f":false,"e":-1.5e3,"model":"deep"}',
];

describe("the scan for a body's model", () => {
  it.each(texts)("finds in %s what JSON.parse finds, wherever the bytes are split", (text) => {
    const bytes = Buffer.from(text);
    const want = parsed(text);
    for (let at = 0; at <= bytes.length; at++) {
      const { state, name } = scan([bytes.subarray(0, at), bytes.subarray(at)]);
      expect({ state, name }, `split at ${at}`).toEqual(want);
    }
    const { state, name } = scan(Array.from(bytes, (byte) => Buffer.from([byte])));
    expect({ state, name }).toEqual(want);
  });

  it("tells where the value stands, so that it can be replaced in the bytes", () => {
    const text = '{"x":"ü", "model" : "old" ,"y":1}';
    const { scanner } = scan([text.slice(0, 12), text.slice(12, 23), text.slice(23)]);
    const bytes = Buffer.from(text);
    expect(bytes.subarray(scanner.start, scanner.end).toString()).toBe('"old"');
  });

  it("agrees with JSON.parse on ten thousand random objects", () => {
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return Math.floor((seed / 2147483648) * below);
    };
    const strings = ['"model"', '"m\\u006fdel"', '"a\\\\"', '"\\""', '"}{]["', '"ü"', '","', '":"', '""', '"x"'];
    const value = (depth: number): string => {
      const kind = random(depth > 3 ? 5 : 8);
      if (kind < 4) return strings[random(strings.length)] as string;
      if (kind === 4) return ["1", "null", "true", "-2.5e7"][random(4)] as string;
      const items = Array.from({ length: random(4) }, () => value(depth + 1));
      return kind === 5 ? `[${items.join(" , ")}]` : object(depth);
    };
    const object = (depth: number): string =>
      `{${Array.from({ length: random(5) }, () => `${strings[random(strings.length)]} :${value(depth + 1)}`).join(",")}}`;
    for (let run = 0; run < 10_000; run++) {
      const text = object(0);
      const cut = random(text.length);
      const { state, name } = scan([text.slice(0, cut), text.slice(cut)]);
      expect({ state, name }, text).toEqual(parsed(text));
    }
  });

  it("keeps no more of a name without end than a bound", () => {
    const scanner = new ModelScanner();
    scanner.push(Buffer.from('{"model":"'));
    for (let piece = 0; piece < 100; piece++) scanner.push(Buffer.alloc(1000, 0x61));
    scanner.push(Buffer.from('"}'));
    expect(scanner.state).toBe("other");
    expect(scanner.name).toBe("");
  });

  it("survives what is no JSON", () => {
    for (const text of [
      "",
      "}",
      "{{{",
      '{"model"',
      '{"model":',
      '{"model":"x',
      "]]]]",
      "{,,,}",
      '{"model""a"}',
      "\u0000",
    ])
      expect(() => scan([text])).not.toThrow();
  });
});
