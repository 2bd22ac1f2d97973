import { describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import { Gate } from "../../src/providers/gate.ts";
import { inlineRefs, toOllamaParameters } from "../../src/providers/json-schema.ts";
import { patternTest } from "../../src/core/name-pattern.ts";
import { StopFilter } from "../../src/engines/llama/generation/stop.ts";
import { stopAt } from "../../src/providers/stop-strings.ts";
import { TagScanner } from "../../src/providers/tag-scanner.ts";

import { waitFor } from "../../src/providers/wait.ts";
import { gate } from "../support/fake-server.ts";

describe("tool parameters for Ollama", () => {
  test("keep what its type knows, and tell the rest to the model", () => {
    const schema = {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      properties: {
        mode: { const: "fast" },
        lines: { type: "integer", minimum: 1, maximum: 9007199254740991, default: 10, description: "How many." },
        target: { oneOf: [{ type: "string", format: "uri" }, { $ref: "#/$defs/point" }] },
        both: {
          allOf: [
            { type: "object", properties: { a: { type: "string" } }, required: ["a"] },
            { properties: { b: { type: "number" } } },
          ],
        },
      },
      required: ["mode"],
      additionalProperties: false,
      $defs: { point: { type: "object", properties: { x: { type: "number" } }, required: ["x"] } },
    };
    expect(toOllamaParameters(schema)).toEqual({
      type: "object",
      properties: {
        mode: { enum: ["fast"] },
        lines: { type: "integer", description: "How many. (default: 10, minimum: 1)" },
        target: {
          anyOf: [
            { type: "string", description: '(format: "uri")' },
            { type: "object", properties: { x: { type: "number" } }, required: ["x"] },
          ],
        },
        both: { type: "object", properties: { a: { type: "string" }, b: { type: "number" } }, required: ["a"] },
      },
      required: ["mode"],
    });
  });

  test("of a schema that contains itself come to an end", () => {
    const schema = {
      type: "object",
      properties: { child: { $ref: "#" }, list: { $ref: "#/$defs/list" } },
      $defs: { list: { items: { $ref: "#/$defs/list" } } },
    };
    expect(inlineRefs(schema)).toEqual({
      type: "object",
      properties: { child: { type: "object", properties: { child: {}, list: { items: {} } } }, list: { items: {} } },
    });
  });

  test("of a schema made to explode stay bounded", () => {
    const $defs = Object.fromEntries(
      Array.from({ length: 30 }, (_, at) => [
        `d${at}`,
        { anyOf: [{ $ref: `#/$defs/d${at + 1}` }, { $ref: `#/$defs/d${at + 1}` }] },
      ]),
    );
    const size = JSON.stringify(inlineRefs({ properties: { a: { $ref: "#/$defs/d0" } }, $defs })).length;
    expect(size).toBeLessThan(200_000);
  });

  test("with a name of the prototype or a remote reference are any value", () => {
    expect(
      inlineRefs({ properties: { a: { $ref: "#/__proto__/x" }, b: { $ref: "https://example.com/s.json" } } }),
    ).toEqual({ properties: { a: {}, b: {} } });
  });
});

describe("stop strings", () => {
  test.each([
    ["ab", "c", "END"],
    ["a EN", "D b", "a "],
    ["E", "N", "D"],
  ])("are found however the text is cut: %j", (...pieces) => {
    const scanner = new StopFilter(["END"]);
    let said = "";
    for (const piece of pieces) {
      const { text, stop } = scanner.push(piece);
      said += text;
      if (stop !== null) break;
    }
    const whole = pieces.join("");
    expect(said + scanner.end()).toBe(whole.includes("END") ? whole.slice(0, whole.indexOf("END")) : whole);
  });

  test("the earliest of several ends the text", () => {
    expect(new StopFilter(["two", "one"]).push("say one two")).toEqual({ text: "say ", stop: "one" });
  });

  test("end the source, which aborts the server", async () => {
    let left = false;
    async function* source(): AsyncGenerator<ChatEvent> {
      try {
        yield { type: "text", text: "a STOP b" };
        yield { type: "text", text: "never" };
      } finally {
        left = true;
      }
    }
    const events: ChatEvent[] = [];
    for await (const event of stopAt(source(), ["STOP"], () => ({ promptTokens: 1, completionTokens: 1 })))
      events.push(event);
    expect(events.map((event) => event.type)).toEqual(["text", "finish"]);
    expect(left).toBe(true);
  });
});

test("tags are found however the text is cut", () => {
  const text = "a<b><think>x</thin </think>y<think>";
  for (let size = 1; size <= text.length; size++) {
    const scanner = new TagScanner("<think>", "</think>");
    let [inside, outside] = ["", ""];
    const take = (pieces: ReturnType<TagScanner["push"]>): void =>
      pieces.forEach((piece) => (piece.inside ? (inside += piece.text) : (outside += piece.text)));
    for (let at = 0; at < text.length; at += size) take(scanner.push(text.slice(at, at + size)));
    take(scanner.end());
    expect([inside, outside]).toEqual(["x</thin ", "a<b>y"]);
  }
});

test("patterns of model names: a star is any text, all else is itself", () => {
  const matches = patternTest(["qwen*", "*/embed-?.v1"]);
  expect(["qwen3:8b", "org/embed-?.v1", "org/embed-xav1", "my-qwen"].map(matches)).toEqual([true, true, false, false]);
});

test("who leaves stops waiting for what others still wait for", async () => {
  const leaves = new AbortController();
  const { opened, open } = gate();
  const work = opened.then(() => "done");
  const both = [waitFor(work, leaves.signal), waitFor(work, new AbortController().signal)];
  leaves.abort();
  await expect(both[0]).rejects.toMatchObject({ code: "client_closed_request" });
  open();
  expect(await both[1]).toBe("done");
});

test("a gate lets the waiting in by their order, and forgets who left", async () => {
  const entry = new Gate(1);
  const never = new AbortController();
  const leaves = new AbortController();
  const order: string[] = [];
  const first = await entry.enter(never.signal);
  const second = entry.enter(leaves.signal);
  const third = entry.enter(never.signal).then((leave) => {
    order.push("third");
    leave();
  });
  const fourth = entry.enter(never.signal).then(() => order.push("fourth"));
  leaves.abort();
  await expect(second).rejects.toMatchObject({ code: "client_closed_request" });
  first();
  first();
  await Promise.all([third, fourth]);
  expect(order).toEqual(["third", "fourth"]);
  expect(entry.full).toBe(true);
});
