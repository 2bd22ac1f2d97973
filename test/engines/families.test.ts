import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Tool } from "../../src/core/chat.ts";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { GrammarBuilder } from "../../src/engines/grammar/json-schema.ts";
import { addMembers } from "../../src/engines/grammar/members.ts";
import { allFamilies, detectFamily, findFamily } from "../../src/engines/parsers/families.ts";
import type { Family } from "../../src/engines/parsers/family.ts";
import { grammarSampler, seededRandom } from "../support/grammar-sampler.ts";
import { openParser, type Read, readPieces } from "../support/outputs.ts";

/** What a model says by its own template for the calls below, each with the family that its template is of. */
interface Turn {
  readonly template: string;
  readonly family: string;
  /** The prompt had opened the reasoning. */
  readonly opened: boolean;
  readonly text: string;
  /** How many of `calls`: some templates know but one. */
  readonly calls: number;
}

const fixture = (name: string): Buffer => readFileSync(new URL(`fixtures/${name}`, import.meta.url));
const turns = JSON.parse(fixture("model-turns.json").toString()) as Turn[];
const templates = JSON.parse(gunzipSync(fixture("templates/templates.json.gz")).toString()) as Record<
  string,
  { source: string }
>;

const tools: Tool[] = [
  {
    name: "get_weather",
    parameters: {
      type: "object",
      properties: {
        city: { type: "string" },
        days: { type: "integer" },
        exact: { type: "boolean" },
        opts: { type: "object", properties: { a: { type: "array" } } },
      },
      required: ["city"],
    },
  },
  {
    name: "add_note",
    parameters: { type: "object", properties: { a: { type: "number" }, text: { type: "string" } } },
  },
];
const calls = [
  {
    name: "get_weather",
    arguments: { city: 'Pa"ris {"\\x"}\n[ü] 東京 <b>', days: 3, exact: true, opts: { a: [1, -2.5, "x"] } },
  },
  { name: "add_note", arguments: { a: 1.5, text: "3" } },
];

function familyOf(turn: Turn): Family {
  const family = findFamily(turn.family);
  if (family === undefined) throw new Error(`no family ${turn.family}`);
  return family;
}

function parsed(read: Read): unknown {
  return read.calls.map((call) => ({ name: call.name, arguments: JSON.parse(call.arguments) as unknown }));
}

describe("what a model writes by its own template", () => {
  test.each(turns)("$template: its calls are read, whole and character by character", (turn) => {
    const family = familyOf(turn);
    const whole = readPieces(openParser(family, tools, turn.opened), [turn.text]);
    expect(parsed(whole)).toEqual(calls.slice(0, turn.calls));
    expect(["", "Let me see."]).toContain(whole.text.trim());
    expect(readPieces(openParser(family, tools, turn.opened), turn.text)).toEqual(whole);
  });

  test.each([...new Map(turns.map((turn) => [turn.family, turn])).values()])(
    "$family: its calls are the same wherever the text is cut in two",
    (turn) => {
      const family = familyOf(turn);
      const whole = readPieces(openParser(family, tools, turn.opened), [turn.text]);
      for (let at = 1; at < turn.text.length; at++) {
        const pieces = [turn.text.slice(0, at), turn.text.slice(at)];
        expect(readPieces(openParser(family, tools, turn.opened), pieces), `cut at ${at}`).toEqual(whole);
      }
    },
  );

  test("every one of the templates has the family that reads it", () => {
    expect(Object.keys(templates)).toHaveLength(70);
    for (const turn of turns) {
      expect([turn.template, detectFamily(templates[turn.template]?.source ?? null).name]).toEqual([
        turn.template,
        turn.family,
      ]);
    }
  });
});

describe("an output that breaks off", () => {
  test.each(turns)("$template: what was told of its calls stands, and nothing is made up", (turn) => {
    const family = familyOf(turn);
    const whole = readPieces(openParser(family, tools, turn.opened), [turn.text]);
    for (let end = 0; end < turn.text.length; end += 3) {
      const read = readPieces(openParser(family, tools, turn.opened), [turn.text.slice(0, end)]);
      for (const [index, call] of read.calls.entries()) {
        const told = call.arguments;
        const all = whole.calls[index]?.arguments ?? "";
        const agreed = [...told].findIndex((_, at) => told[at] !== all[at]);
        expect(call.name).toBe(calls[index]?.name);
        if (index < read.calls.length - 1) expect(told).toBe(all);
        // Half a closing tag is taken for text, and a call that ends for want of a further parameter is closed.
        else expect(agreed < 0 ? 0 : told.length - agreed, `${told} of ${all}`).toBeLessThan(24);
      }
    }
  });
});

test("a text without quotes may be any that does not hold what ends it", () => {
  const tool: Tool = {
    name: "x",
    parameters: { type: "object", properties: { p: { type: "string" } }, required: ["p"] },
  };
  const builder = new GrammarBuilder({ strict: false, param: "tools" });
  const rule = addMembers(builder, tool, "x", { member: (_, value) => value.rule, textEnd: "aab", between: "" });
  const sample = grammarSampler(builder.text(rule), seededRandom(5));
  const seen = new Set(Array.from({ length: 20_000 }, sample));
  expect([...seen].filter((text) => text.includes("aab"))).toEqual([]);
  const short = ["", ..."ab"].flatMap((a) => ["", ..."ab"].flatMap((b) => ["", ..."ab"].map((c) => a + b + c)));
  for (const text of short) if (text !== "aab") expect(seen, text).toContain(text);
});

describe("a call that a grammar forces", () => {
  const deep: Tool = {
    name: "edit.file-2",
    parameters: {
      type: "object",
      properties: {
        path: { type: "string" },
        mode: { enum: ["read", "write"] },
        at: { type: ["integer", "null"] },
        edits: { type: "array", items: { $ref: "#/$defs/edit" } },
        note: { anyOf: [{ type: "string" }, { type: "object", properties: { x: { type: "number" } } }] },
      },
      required: ["path", "edits"],
      $defs: {
        edit: { type: "object", properties: { from: { type: "string" }, to: { type: "string" } }, required: ["to"] },
      },
    },
  };
  const bare: Tool = { name: "now", parameters: { type: "object", properties: {}, additionalProperties: false } };
  const all = [deep, bare];

  test.each(allFamilies().map((family) => [family.name, family] as const))(
    "%s: whatever the grammar lets a model write is read as calls of the tools with arguments that fit",
    (_, family) => {
      const seen = new Set<string>();
      for (const parallel of [false, true]) {
        const builder = new GrammarBuilder({ strict: false, param: "tools", order: parallel ? "any" : "declared" });
        const grammar = builder.text(family.addCalls(builder, all, { parallel }));
        const sample = grammarSampler(grammar, seededRandom(parallel ? 7 : 11));
        for (let round = 0; round < 40; round++) {
          const text = sample();
          const read = readPieces(openParser(family, all), [text]);
          expect(read.text, text).toBe("");
          if (!parallel) expect(read.calls, text).toHaveLength(1);
          expect(read.calls.length, text).toBeGreaterThan(0);
          for (const call of read.calls) expect(fits(call), `${text}\n→ ${call.arguments}`).toBe(true);
          for (const trigger of family.triggers)
            if (text.replace("<|start|>assistant", "").startsWith(trigger)) seen.add(trigger);
        }
      }
      expect(seen, "every trigger begins what the grammar writes").toEqual(new Set(family.triggers));
    },
  );

  function fits(call: Read["calls"][number]): boolean {
    const given = JSON.parse(call.arguments) as JsonObject;
    if (call.name === "now") return Object.keys(given).length === 0;
    const { path, mode, at, edits, note, ...others } = given;
    return (
      call.name === deep.name &&
      Object.keys(others).length === 0 &&
      typeof path === "string" &&
      (mode === undefined || mode === "read" || mode === "write") &&
      (at === undefined || at === null || Number.isInteger(at)) &&
      Array.isArray(edits) &&
      edits.every((edit) => isObject(edit) && typeof edit["to"] === "string") &&
      (note === undefined || typeof note === "string" || isObject(note))
    );
  }
});
