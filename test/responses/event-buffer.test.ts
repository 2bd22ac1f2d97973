import { describe, expect, it } from "vitest";
import type { ByteSink } from "../../src/core/bytes.ts";
import { type Budget, EventBuffer } from "../../src/responses/event-buffer.ts";

const megabyte = "x".repeat(1024 * 1024);
const delta = (text: string): { type: string; delta: string } => ({ type: "response.output_text.delta", delta: text });

/** Takes what it is given, and wants more only when `room` says so. */
function reader(room: () => boolean): ByteSink & { text: string; ended: boolean; problem: Error | undefined } {
  return {
    text: "",
    ended: false,
    problem: undefined,
    write(chunk) {
      this.text += Buffer.from(chunk as Uint8Array).toString();
      return room();
    },
    end(problem) {
      this.ended = true;
      this.problem = problem;
    },
    fail(error) {
      this.problem = error;
    },
  };
}

const numbersIn = (text: string): number[] =>
  Array.from(text.matchAll(/"sequence_number":(\d+)/g), ([, number]) => Number(number));

describe("the events of a response that is being made", () => {
  it("are read by several, each at its own pace", () => {
    const buffer = new EventBuffer({ left: 1e9 });
    for (const text of ["a", "b"]) buffer.push(delta(text));
    const fast = reader(() => true);
    const slow = reader(() => false);
    const slowly = buffer.read();
    buffer.read(0).start(fast);
    slowly.start(slow);
    buffer.push(delta("c"));
    buffer.end();
    expect([numbersIn(fast.text), fast.ended]).toEqual([[1, 2], true]);
    expect(numbersIn(slow.text)).toEqual([0]);
    for (let turn = 0; turn < 3; turn++) slowly.resume();
    expect([numbersIn(slow.text), slow.ended, slow.problem]).toEqual([[0, 1, 2], true, undefined]);
  });

  it("have a bound, beyond which the oldest are given up and who wants them is told", () => {
    const buffer = new EventBuffer({ left: 1e9 });
    const stalled = reader(() => false);
    const stalling = buffer.read();
    buffer.push(delta("first"));
    stalling.start(stalled);
    for (let at = 0; at < 20; at++) buffer.push(delta(megabyte));
    expect(() => buffer.read(0)).toThrow("given up");
    expect(buffer.text()).toBeUndefined();
    stalling.resume();
    expect(stalled.ended).toBe(true);
    expect(stalled.text).toContain('"code":"invalid_value"');
    const late = reader(() => true);
    buffer.read(18).start(late);
    expect(numbersIn(late.text)).toEqual([19, 20]);
  });

  it("of all responses together have a bound too, and give their room back", () => {
    const budget: Budget = { left: 4 * 1024 * 1024 };
    const [one, other] = [new EventBuffer(budget), new EventBuffer(budget)];
    for (let at = 0; at < 3; at++) one.push(delta(megabyte));
    for (let at = 0; at < 5; at++) other.push(delta(megabyte));
    expect(budget.left).toBeGreaterThan(-2 * 1024 * 1024);
    expect(one.text()).toContain("xxx");
    expect(other.text()).toBeUndefined();
    one.end();
    other.end();
    expect(budget.left).toBe(4 * 1024 * 1024);
  });
});
