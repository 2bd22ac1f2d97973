import type { SamplerHandle } from "../native/declarations.ts";
import type { NativeModel } from "../native/native-model.ts";
import type { Sampling } from "../settings.ts";

/** Lists of breakers that one model keeps ready. */
const capacity = 8;

/**
 * DRY samplers of one model. llama.cpp searches the whole vocabulary for each sequence breaker (25 ms for the usual four
 * among 152,000 tokens), in which no stream goes on: so one of each kind is kept, and requests get copies (0.03 ms).
 */
export class DrySamplers {
  readonly #model: NativeModel;
  readonly #originals = new Map<string, SamplerHandle>();

  constructor(model: NativeModel) {
    this.#model = model;
  }

  /** A sampler that the caller frees; null where the values switch DRY off. */
  create(dry: Sampling["dry"]): SamplerHandle | null {
    if (dry.multiplier <= 0 || dry.lastN <= 0) return null;
    const { functions } = this.#model.library;
    const key = JSON.stringify(dry);
    const original = this.#originals.get(key) ?? this.#build(dry);
    // Set anew: the map's order is that of the last use.
    this.#originals.delete(key);
    this.#originals.set(key, original);
    const [oldest] = this.#originals;
    if (this.#originals.size > capacity && oldest !== undefined) {
      this.#originals.delete(oldest[0]);
      functions.llama_sampler_free(oldest[1]);
    }
    return functions.llama_sampler_clone(original);
  }

  free(): void {
    for (const original of this.#originals.values()) this.#model.library.functions.llama_sampler_free(original);
    this.#originals.clear();
  }

  #build({ multiplier, base, allowedLength, lastN, breakers }: Sampling["dry"]): SamplerHandle {
    const { library, vocabulary } = this.#model;
    const { handle } = vocabulary;
    const count = breakers.length;
    return library.functions.llama_sampler_init_dry(handle, multiplier, base, allowedLength, lastN, breakers, count);
  }
}
