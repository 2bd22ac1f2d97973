import type { Slot } from "./slots.ts";

/**
 * llama.cpp's CPU attention takes a slower path for fewer than 64 rows of a sequence (`GGML_FA_TILE_Q`; measured for
 * each row: 1.8 times as slow with heads of 64 at 4,000 tokens, 10 times with heads of 32 at 3,000). One more, for the
 * first row may be computed with the streams.
 */
export const smallestChunk = 65;

export interface Room {
  /** Tokens of prompts that the step may compute. */
  readonly rows: number;
  /** How many of them may have their logits read. */
  readonly logits: number;
  /** Number of the step: where the room is too small to be shared, prompts take turns. */
  readonly step: number;
  /** Length up to which a slot's prompt may be computed in one go. */
  readonly boundary: (slot: Slot) => number;
}

/**
 * How many tokens of each prompt are computed next. The oldest has at least half of the room, so that none starves; the
 * one with the least to go has the other half, so that a short prompt does not wait for a long one's end.
 */
export function portionPrompts(readers: readonly Slot[], room: Room): Map<Slot, number> {
  let { rows, logits } = room;
  const portions = new Map<Slot, number>();
  const give = (slot: Slot, most: number): void => {
    const given = portions.get(slot) ?? 0;
    const wanted = Math.min(slot.pending, room.boundary(slot) - slot.length) - given;
    const scored = slot.generation?.readsPromptLogits === true;
    const count = Math.max(0, Math.min(wanted, most, rows, scored ? logits : Infinity));
    rows -= count;
    if (scored) logits -= count;
    portions.set(slot, given + count);
  };
  const byAge = readers.length === 1 ? readers : [...readers].sort((a, b) => a.arrival - b.arrival);
  const shortest = readers.reduce((least, slot) => (slot.pending < least.pending ? slot : least));
  const divisible = rows >= 2 * smallestChunk;
  if (shortest !== byAge[0] && (divisible || room.step % 2 === 0)) {
    give(shortest, divisible ? Math.floor(rows / 2) : rows);
  }
  for (const slot of byAge) give(slot, rows);
  return portions;
}
