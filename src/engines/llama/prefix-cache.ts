import type { CacheMiss } from "../../core/chat.ts";
import type { Generation } from "./generation.ts";
import type { NativeContext } from "./native-context.ts";
import { type Slot, commonPrefix, worthwhile } from "./slots.ts";

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

/**
 * Finds for every prompt the tokens that need not be computed: in the request's own slot, in another one, from where
 * they are copied, or in the making, which is waited for. So a beginning that many requests share is computed once.
 */
export class PrefixCache {
  readonly #context: NativeContext;
  readonly #slots: readonly Slot[];
  readonly #following = new Map<Slot, Following>();

  constructor(context: NativeContext, slots: readonly Slot[]) {
    this.#context = context;
    this.#slots = slots;
  }

  /** The longest beginning of the tokens that a slot holds and can give. */
  longest(tokens: readonly number[]): number {
    return this.#slots.reduce((most, slot) => Math.max(most, this.usable(slot, slot.sharedWith(tokens))), 0);
  }

  /** How many of the first `shared` tokens a slot can go on from. */
  usable(slot: Slot, shared: number): number {
    return shared === slot.length || this.#context.canTruncate(slot.sequence, shared) ? shared : 0;
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
    const miss = this.#miss(slot, generation);
    slot.seat(this.#fetch(slot, source));
    generation.cachedTokens = slot.length;
    return { miss };
  }

  /** A request has left its slot before it was seated. */
  leave(slot: Slot): void {
    this.#following.delete(slot);
  }

  /** Length up to which the slot's prompt may be computed in one go: there others are waiting to take it over. */
  boundary(slot: Slot): number {
    let nearest = Infinity;
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
    const limit = generation.promptLength - 1;
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
    const limit = generation.promptLength - 1;
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
      const most = Math.min(leading.promptLength, generation.promptLength - 1);
      const boundary = commonPrefix(leading.tokens, generation.tokens, most);
      const computed = other.seated ? other.length : 0;
      if (boundary <= computed || boundary < kept + worthwhile || boundary <= (best?.boundary ?? 0)) continue;
      best = { leader: other, generation: leading, boundary };
    }
    return best;
  }

  #fetch(slot: Slot, { slot: source, kept }: Source): number {
    if (source !== slot) {
      this.#context.copy(source.sequence, slot.sequence);
      slot.hold(source.tokens, source.length);
    }
    if (kept === slot.length || this.#context.truncate(slot.sequence, kept)) return kept;
    return 0;
  }
}

function goesOn({ leader, generation, boundary }: Following): boolean {
  return leader.generation === generation && (!leader.seated || leader.length < boundary);
}
