import { describe, expect, it } from "vitest";
import { ModelRenamer } from "../../src/wire/model-renamer.ts";

function rename(pieces: readonly Buffer[], from: string, to: string): string {
  const renamer = new ModelRenamer(from, to);
  return Buffer.concat([...pieces.map((piece) => renamer.push(piece)), renamer.end()]).toString();
}

describe("a model's name written back into a reply", () => {
  const body =
    'data: {"id":"1","model":"demo","choices":[]}\n\ndata: {"model": "demo","x":"\\"model\\":\\"demo\\""}\n\ndata: {"model":"demo2","models":"demo"}';
  const want =
    'data: {"id":"1","model":"home/demo","choices":[]}\n\ndata: {"model": "home/demo","x":"\\"model\\":\\"demo\\""}\n\ndata: {"model":"demo2","models":"demo"}';

  it("is the same wherever the bytes are split in two or in three", () => {
    const bytes = Buffer.from(body);
    for (let at = 0; at <= bytes.length; at++) {
      expect(rename([bytes.subarray(0, at), bytes.subarray(at)], "demo", "home/demo"), `split at ${at}`).toBe(want);
      for (let next = at; next <= bytes.length; next += 7) {
        const pieces = [bytes.subarray(0, at), bytes.subarray(at, next), bytes.subarray(next)];
        expect(rename(pieces, "demo", "home/demo"), `split at ${at} and ${next}`).toBe(want);
      }
    }
    const single = Array.from(bytes, (byte) => Buffer.from([byte]));
    expect(rename(single, "demo", "home/demo")).toBe(want);
  });

  it("holds nothing back at the end of an event", () => {
    const renamer = new ModelRenamer("demo", "home/demo");
    const event = Buffer.from('data: {"choices":[{"delta":{"content":"model"}}]}\n\n');
    expect(renamer.push(event)).toBe(event);
    const open = renamer.push(Buffer.from('data: {"mod'));
    expect(open.toString()).toBe("data: {");
    expect(renamer.push(Buffer.from("e")).length).toBe(0);
    expect(renamer.push(Buffer.from('s"}\n\n')).toString()).toBe('"modes"}\n\n');
  });

  it("finds names with quotes and letters beyond ASCII, in both ways in which servers write them", () => {
    const from = 'mödel"😀';
    for (const written of [JSON.stringify(from), '"m\\u00f6del\\"\\ud83d\\ude00"']) {
      const bytes = Buffer.from(`{"model":${written}}`);
      for (let at = 0; at <= bytes.length; at++) {
        const text = rename([bytes.subarray(0, at), bytes.subarray(at)], from, "a/x");
        expect(text, `split at ${at}`).toBe('{"model":"a/x"}');
      }
    }
  });

  it("gives out what was held back when the reply ends in the middle of it", () => {
    expect(rename([Buffer.from('{"model":"de')], "demo", "x")).toBe('{"model":"de');
  });
});
