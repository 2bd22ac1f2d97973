import type { CacheMiss, Timings } from "../../../core/chat.ts";
import type { Generation } from "../generation/generation.ts";
import type { Output } from "../messages.ts";
import type { Vocabulary } from "../native/native-model.ts";

/** When what happened to a request: moments are `performance.now()`. */
export class Course {
  readonly #vocabulary: Vocabulary;
  readonly #queued: number;
  readonly #started = performance.now();
  #firstToken: number | null = null;
  /** Why its prompt was not found whole in the cache. */
  miss: CacheMiss | undefined;

  /** It begins now, after it has waited since `queued`. */
  constructor(vocabulary: Vocabulary, queued: number) {
    this.#vocabulary = vocabulary;
    this.#queued = queued;
  }

  /** A token is about to be chosen; only the first counts. */
  reached(): void {
    this.#firstToken ??= performance.now();
  }

  /** The finish of the request, which is now, with its times. */
  tell(finish: Output & { type: "finish" }, generation: Generation): Output {
    const vocabulary = this.#vocabulary;
    const now = performance.now();
    const first = this.#firstToken ?? now;
    const timings: Timings = {
      queuedMs: this.#started - this.#queued,
      promptMs: first - this.#started,
      completionMs: now - first,
      ...(this.miss === undefined ? {} : { cacheMiss: this.miss }),
    };
    if (this.miss === undefined) return { ...finish, timings };
    const before = generation.tokens.slice(0, this.miss.position);
    // The prompt's text lacks the begin token, which the model's tokenizer adds.
    const written = vocabulary.addsBos && before[0] === vocabulary.bos ? before.slice(1) : before;
    return { ...finish, timings, missOffset: vocabulary.detokenize(written).length };
  }
}
