import type { CacheMiss } from "../../../core/chat.ts";
import { Checkpoints } from "./checkpoints.ts";
import type { Generation } from "../generation/generation.ts";
import type { NativeContext } from "../native/native-context.ts";
import type { StoredPrefix } from "./prefix-file.ts";
import { type PrefixStore, leastStored } from "./prefix-store.ts";
import { type Slot, commonPrefix, worthwhile } from "../scheduling/slots.ts";

/** Who has the longest beginning of a prompt, and how much of it can be had from there. */
interface Source {
  readonly slot: Slot;
  readonly kept: number;
}

/** A request that waits until another one's prompt, which begins alike, is computed as far as they agree. */
interface Following {
  readonly leader: Slot;
  readonly generation: Generation;
  /** Tokens that both begin with. */
  readonly boundary: number;
}

/** What is known when a request has its place. */
export interface Seating {
  /** Why its prompt was not found whole; undefined when it was. */
  readonly miss: CacheMiss | undefined;
}

/** Fewer tokens in common than these, and a prompt counts as new. */
const alike = 16;

/** Where checkpoints are taken: this far apart, and so far before a prompt's end, where its next turn may differ. */
const checkpointSpacing = 1024;
const checkpointOffset = 5;

/** Copying a sequence whole is so many times as fast as its tokens by themselves, as a state (`ffi.md`: 50 MB in 50 ms). */
const sparseness = 8;

/** A state larger than this is not taken while others generate: 40 ms for 50 MB. */
const quickBytes = 128 << 20;

/**
 * Finds for every prompt the tokens that need not be computed: in the request's own slot, in another one or on disk,
 * from where they are copied, or in the making, which is waited for. So a beginning that many requests share is
 * computed once.
 */
export class PrefixCache {
  readonly #context: NativeContext;
  readonly #slots: readonly Slot[];
  readonly #checkpoints: Checkpoints;
  readonly #store: PrefixStore | null;
  /** Called when a file has been read, for a request that may be seated now. */
  readonly #wake: () => void;
  readonly #following = new Map<Slot, Following>();
  /** What the disk has for a request; null while it is being looked for. */
  readonly #finds = new Map<Generation, { readonly found: StoredPrefix | null } | null>();

  constructor(
    context: NativeContext,
    slots: readonly Slot[],
    { store, wake }: { store: PrefixStore | null; wake: () => void },
  ) {
    this.#context = context;
    this.#slots = slots;
    this.#checkpoints = new Checkpoints(context);
    this.#store = store;
    this.#wake = wake;
  }

  /** The longest beginning of the tokens that a slot holds and can give. */
  longest(tokens: readonly number[]): number {
    return this.#slots.reduce((most, slot) => Math.max(most, this.usable(slot, slot.sharedWith(tokens))), 0);
  }

  /** How many of the first `shared` tokens a slot can go on from. */
  usable(slot: Slot, shared: number): number {
    if (shared === slot.length || this.#context.canTruncate(slot.sequence, shared)) return shared;
    return this.#checkpoints.before(slot, shared)?.length ?? 0;
  }

  /**
   * Puts the beginning of the prompt into the slot of a request; null while it is better to wait for another request
   * that computes it. At least the prompt's last token is left to compute, for its logits.
   */
  seat(slot: Slot, generation: Generation): Seating | null {
    const followed = this.#following.get(slot);
    if (followed !== undefined && goesOn(followed)) return null;
    this.#following.delete(slot);
    const source = this.#source(slot, generation);
    const leader = this.#leader(slot, { generation, kept: source.kept });
    if (leader !== null) {
      this.#following.set(slot, leader);
      return null;
    }
    if (this.#searches(generation, source.kept)) return null;
    const miss = this.#miss(slot, generation);
    const kept = this.#restore(slot, generation, source.kept) ?? this.#fetch(slot, this.#source(slot, generation));
    this.#finds.delete(generation);
    slot.seat(kept);
    generation.cachedTokens = kept;
    return { miss };
  }

  /** Cuts a slot's cache to this length or, where its memory cannot go back so far only, to a shorter one. */
  cut(slot: Slot, length: number): void {
    const { sequence } = slot;
    const piece = this.#context.canTruncate(sequence, length) ? undefined : this.#checkpoints.before(slot, length);
    const target = piece?.length ?? length;
    const restored = piece === undefined || this.#context.writeState(sequence, piece.state, "uncuttable");
    slot.length = restored && this.#context.truncate(sequence, target) ? target : 0;
    slot.stored = Math.min(slot.stored, slot.length);
    this.#checkpoints.cut(slot, slot.length);
  }

  /** A slot has come to a point of its prompt. */
  passed(slot: Slot): void {
    if (slot.length === this.#nextCheckpoint(slot, slot.length - 1) && !this.#context.canTruncate(slot.sequence, 1))
      this.#checkpoints.take(slot);
  }

  /**
   * Saves one cache that the disk does not have yet; false when there is none. `idle`: of a slot without a request, and
   * only when it has grown by a good part, for a long conversation's cache is large.
   */
  save(which: "idle" | "all"): boolean {
    const worth = (slot: Slot): boolean =>
      unsaved(slot) >= leastStored &&
      (which === "all" || (slot.generation === null && unsaved(slot) >= slot.length / 4));
    const slots = this.#slots.filter(worth).sort((a, b) => unsaved(b) - unsaved(a));
    return slots.some((slot) => this.#save(slot));
  }

  /** A request has left its slot before it was seated. */
  leave(slot: Slot): void {
    this.#following.delete(slot);
    if (slot.generation !== null) this.#finds.delete(slot.generation);
  }

  /** Length up to which the slot's prompt may be computed in one go: there others are waiting, or a checkpoint is taken. */
  boundary(slot: Slot): number {
    let nearest = this.#nextCheckpoint(slot, slot.length);
    if (this.#following.size === 0) return nearest;
    for (const { leader, generation, boundary } of this.#following.values()) {
      const ahead = leader === slot && generation === slot.generation && boundary > slot.length;
      if (ahead) nearest = Math.min(nearest, boundary);
    }
    return nearest;
  }

  #miss(slot: Slot, generation: Generation): CacheMiss | undefined {
    const { session } = generation.job;
    const own = this.#slots.find((other) => session !== null && other !== slot && other.session === session);
    let nearest = own ?? slot;
    let shared = nearest.sharedWith(generation.tokens);
    for (const other of own === undefined || slot.session === session ? this.#slots : []) {
      const common = other.sharedWith(generation.tokens);
      if (common > shared) [nearest, shared] = [other, common];
    }
    const limit = generation.reusable;
    if (shared < Math.min(alike, limit)) return { reason: "new", position: shared };
    if (this.usable(nearest, Math.min(shared, limit)) + worthwhile < Math.min(shared, limit)) {
      return { reason: "cannot-rewind", position: shared };
    }
    const [cached, found] = [nearest.tokens[shared], generation.tokens[shared]];
    if (shared >= limit || shared === nearest.length || cached === undefined || found === undefined) return undefined;
    const { vocabulary } = this.#context.model;
    return { reason: "changed", position: shared, cached: vocabulary.textOf(cached), found: vocabulary.textOf(found) };
  }

  #source(slot: Slot, generation: Generation): Source {
    const limit = generation.reusable;
    const keptOf = (other: Slot): number =>
      this.usable(other, commonPrefix(other.tokens, generation.tokens, Math.min(other.length, limit)));
    let best: Source = { slot, kept: keptOf(slot) };
    // A copy must be worth its while, beside what the slot has itself.
    let least = best.kept + worthwhile;
    for (const other of this.#slots) {
      if (other === slot) continue;
      const kept = keptOf(other);
      if (kept < least) continue;
      best = { slot: other, kept };
      least = kept + 1;
    }
    return best;
  }

  /** The request that is about to compute most of what this prompt begins with and nobody has yet. */
  #leader(slot: Slot, { generation, kept }: { generation: Generation; kept: number }): Following | null {
    let best: Following | null = null;
    for (const other of this.#slots) {
      const leading = other.generation;
      if (other === slot || leading === null) continue;
      // Those that wait themselves are followed only by later ones: nobody waits in a circle.
      if (other.seated ? !other.reads : other.arrival > slot.arrival) continue;
      const most = Math.min(leading.promptLength, generation.reusable);
      const boundary = commonPrefix(leading.tokens, generation.tokens, most);
      const computed = other.seated ? other.length : 0;
      if (boundary <= computed || boundary < kept + worthwhile || boundary <= (best?.boundary ?? 0)) continue;
      best = { leader: other, generation: leading, boundary };
    }
    return best;
  }

  #fetch(slot: Slot, { slot: source, kept }: Source): number {
    this.#evict(slot, source === slot ? kept : 0);
    if (source !== slot) {
      const reachable = kept === source.length || this.#context.canTruncate(source.sequence, kept);
      // llama.cpp copies the room for all tokens of a sequence, however few there are.
      const sparse = source.length * sparseness < this.#context.sequenceLength;
      if (reachable && !sparse) this.#context.copy(source.sequence, slot.sequence);
      else {
        const state = this.#context.readState(source.sequence);
        if (state === null || !this.#context.writeState(slot.sequence, state)) return this.#clear(slot);
      }
      slot.hold(source.tokens, source.length, source.stored);
      this.#checkpoints.put(slot, this.#checkpoints.of(source));
    }
    if (kept !== slot.length) this.cut(slot, kept);
    return slot.length;
  }

  #clear(slot: Slot): number {
    this.#context.forget(slot.sequence);
    slot.hold([], 0);
    this.#checkpoints.cut(slot, 0);
    return 0;
  }

  /** Whether the disk is being asked for more of the prompt than the slots have. */
  #searches(generation: Generation, kept: number): boolean {
    const store = this.#store;
    const known = this.#finds.get(generation);
    if (known !== undefined || store === null) return known === null;
    const limit = generation.reusable;
    if (limit - kept < leastStored) return false;
    this.#finds.set(generation, null);
    void store.find(generation.tokens, { least: kept + leastStored / 2, limit }).then((found) => {
      // The request may have left meanwhile.
      if (this.#finds.has(generation)) this.#finds.set(generation, { found });
      this.#wake();
    });
    return true;
  }

  /** Puts what the disk had into the slot; null when it is no more than the slots have. */
  #restore(slot: Slot, generation: Generation, kept: number): number | null {
    const found = this.#finds.get(generation)?.found ?? null;
    if (found === null) return null;
    const { tokens, whole, checkpoints } = found;
    const shared = commonPrefix(tokens, generation.tokens, generation.reusable);
    if (shared < kept + worthwhile) return null;
    this.#evict(slot, 0);
    if (!this.#context.writeState(slot.sequence, whole.state)) {
      this.#clear(slot);
      return null;
    }
    slot.hold(tokens, tokens.length, tokens.length);
    this.#checkpoints.put(slot, checkpoints);
    if (shared !== slot.length) this.cut(slot, shared);
    return slot.length;
  }

  /** The first point after `length` at which the slot's memory is worth a checkpoint. */
  #nextCheckpoint({ generation }: Slot, length: number): number {
    if (generation === null || this.#context.rewindsFreely) return Infinity;
    const last = generation.promptLength - checkpointOffset;
    const next = (Math.floor(length / checkpointSpacing) + 1) * checkpointSpacing;
    return length < last ? Math.min(next, last) : Infinity;
  }

  /** Saves what is about to be overwritten beyond `kept`, if it is worth it. */
  #evict(slot: Slot, kept: number): void {
    if (slot.length - Math.max(kept, slot.stored) < leastStored) return;
    const streams = this.#slots.some((other) => other.pending > 0);
    if (!streams || this.#context.stateBytes(slot.sequence) <= quickBytes) this.#save(slot);
  }

  #save(slot: Slot): boolean {
    if (this.#store === null || unsaved(slot) < leastStored) return false;
    const state = this.#context.readState(slot.sequence);
    if (state === null || this.#context.lengthOf(slot.sequence) !== slot.length) return false;
    const { length } = slot;
    const checkpoints = this.#checkpoints.of(slot);
    this.#store.write({ tokens: slot.tokens.slice(0, length), whole: { length, state }, checkpoints });
    slot.stored = length;
    return true;
  }
}

function unsaved({ length, stored }: Slot): number {
  return length - stored;
}

function goesOn({ leader, generation, boundary }: Following): boolean {
  return leader.generation === generation && (!leader.seated || leader.length < boundary);
}
