import { expect, test } from "vitest";
import type { Generation } from "../../src/engines/llama/generation/generation.ts";
import { Slot, chooseSlot } from "../../src/engines/llama/scheduling/slots.ts";

const count = (from: number, length: number): number[] => Array.from({ length }, (_, index) => from + index);

function slot(sequence: number, tokens: number[], arrival: number, session: string | null = null): Slot {
  const made = new Slot(sequence);
  return Object.assign(made, { tokens, length: tokens.length, arrival, session });
}

const asking = (tokens: number[], session: string | null = null): Generation =>
  ({ tokens, job: { session } }) as unknown as Generation;

/** A choice among slots that can all be cut anywhere, and no others beside them. */
function choose(free: Slot[], generation: Generation, others: Slot[] = []): Slot {
  return chooseSlot(generation, {
    free,
    longest: Math.max(...[...free, ...others].map((one) => one.sharedWith(generation.tokens))),
    now: 10,
    usable: (_, shared) => shared,
  });
}

test("a request goes on in the slot of its own conversation", () => {
  const [title, task] = [slot(0, count(0, 300), 5), slot(1, [...count(0, 20), ...count(900, 5000)], 2)];
  expect(choose([title, task], asking([...count(0, 20), ...count(900, 5200)]))).toBe(task);
});

test("an opening that every conversation has does not cost another conversation its cache", () => {
  const [title, unused] = [slot(0, count(0, 300), 5), slot(1, [], 0)];
  const opening = [...count(0, 40), ...count(9000, 5000)];
  expect(choose([title, unused], asking(opening))).toBe(unused);
});

test("a long system prompt in common is copied to an unused slot, not taken from the other conversation", () => {
  const [other, unused] = [slot(0, [...count(0, 2000), ...count(5000, 900)], 5), slot(1, [], 0)];
  expect(choose([other, unused], asking([...count(0, 2000), ...count(9000, 10)]))).toBe(unused);
});

test("a conversation that says its last turn anew takes its own slot, not the only other one's", () => {
  const [own, other] = [slot(0, [...count(0, 3000), ...count(5000, 400)], 9), slot(1, count(20_000, 6000), 8)];
  expect(choose([own, other], asking([...count(0, 3000), ...count(9000, 500)]))).toBe(own);
});

test("a conversation long silent gives way before one that has just spoken", () => {
  const [silent, recent] = [slot(0, count(0, 4000), -100), slot(1, count(10_000, 900), 10)];
  expect(choose([silent, recent], asking(count(20_000, 500)))).toBe(silent);
});

test("without a common beginning the session's slot is taken, else the one unused for longest", () => {
  const slots = [slot(0, count(0, 50), 9, "a"), slot(1, count(100, 50), 3, "b"), slot(2, count(200, 50), 7)];
  expect(choose(slots, asking(count(5000, 100), "a")).sequence).toBe(0);
  expect(choose(slots, asking(count(5000, 100), "c")).sequence).toBe(1);
});
