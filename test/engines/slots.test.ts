import { expect, test } from "vitest";
import type { Generation } from "../../src/engines/llama/generation.ts";
import { chooseSlot, Slot } from "../../src/engines/llama/slots.ts";

const count = (from: number, length: number): number[] => Array.from({ length }, (_, index) => from + index);

function slot(sequence: number, tokens: number[], arrival: number, session: string | null = null): Slot {
  const made = new Slot(sequence);
  return Object.assign(made, { tokens, arrival, session });
}

const asking = (tokens: number[], session: string | null = null): Generation =>
  ({ tokens, job: { session } }) as unknown as Generation;

test("a request goes on in the slot of its own conversation", () => {
  const [title, task] = [slot(0, count(0, 300), 5), slot(1, [...count(0, 20), ...count(900, 5000)], 2)];
  expect(chooseSlot([title, task], asking([...count(0, 20), ...count(900, 5200)]))).toBe(task);
});

test("an opening that every conversation has does not cost another conversation its cache", () => {
  const [title, unused] = [slot(0, count(0, 300), 5), slot(1, [], 0)];
  const opening = [...count(0, 40), ...count(9000, 5000)];
  expect(chooseSlot([title, unused], asking(opening))).toBe(unused);
});

test("without a common beginning the session's slot is taken, else the one unused for longest", () => {
  const slots = [slot(0, count(0, 50), 9, "a"), slot(1, count(100, 50), 3, "b"), slot(2, count(200, 50), 7)];
  expect(chooseSlot(slots, asking(count(5000, 100), "a")).sequence).toBe(0);
  expect(chooseSlot(slots, asking(count(5000, 100), "c")).sequence).toBe(1);
});
