import type { NativeContext } from "../native/native-context.ts";
import type { StatePiece } from "./prefix-file.ts";
import type { Slot } from "../scheduling/slots.ts";

const mostPerSlot = 8;
const mostBytes = 256 << 20;

/**
 * Points on a slot's way to which a memory can return that cannot be cut: llama.cpp's own copy of what is lost by going
 * on, the window of a sliding attention or the state of a recurrent layer.
 */
export class Checkpoints {
  readonly #context: NativeContext;
  readonly #pieces = new Map<Slot, StatePiece[]>();
  #bytes = 0;

  constructor(context: NativeContext) {
    this.#context = context;
  }

  of(slot: Slot): readonly StatePiece[] {
    return this.#pieces.get(slot) ?? [];
  }

  /** The last one that is no further than `length` tokens on the way. */
  before(slot: Slot, length: number): StatePiece | undefined {
    return this.of(slot).findLast((piece) => piece.length <= length);
  }

  /** Keeps the slot's present state. */
  take(slot: Slot): void {
    if (this.of(slot).some((piece) => piece.length === slot.length)) return;
    const state = this.#context.readState(slot.sequence, "uncuttable");
    if (state === null || state.length > mostBytes) return;
    this.put(slot, [...this.of(slot), { length: slot.length, state }]);
  }

  /** Forgets those beyond a length. */
  cut(slot: Slot, length: number): void {
    if (this.#pieces.has(slot))
      this.put(
        slot,
        this.of(slot).filter((piece) => piece.length <= length),
      );
  }

  /** Replaces the slot's checkpoints by these, in order of length, as far as there is room for them. */
  put(slot: Slot, pieces: readonly StatePiece[]): void {
    const kept = [...pieces];
    const others = this.#bytes - bytesOf(this.of(slot));
    while (kept.length > mostPerSlot || (kept.length > 0 && others + bytesOf(kept) > mostBytes)) {
      kept.splice(closest(kept), 1);
    }
    this.#bytes = others + bytesOf(kept);
    this.#pieces.set(slot, kept);
  }
}

function bytesOf(pieces: readonly StatePiece[]): number {
  return pieces.reduce((sum, { state }) => sum + state.length, 0);
}

/** The one that is missed least: the one nearest to its follower, never the last. */
function closest(pieces: readonly StatePiece[]): number {
  let index = 0;
  let least = Infinity;
  for (let at = 0; at + 1 < pieces.length; at++) {
    const gap = (pieces[at + 1]?.length ?? 0) - (pieces[at]?.length ?? 0);
    if (gap < least) [index, least] = [at, gap];
  }
  return index;
}
