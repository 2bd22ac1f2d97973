import type { JsonObject } from "../../core/json.ts";

/** A name that goes into lists and messages has an end, and no control characters. */
const longestId = 512;

/** The models that one connection's runtime lists, as `GET /v1/models` shows them there. */
export class ModelCards {
  readonly list: readonly JsonObject[];
  /** Every name by which the runtime takes a listed model: its id, and `provider:id`. */
  readonly #names = new Set<string>();

  constructor(cards: readonly JsonObject[]) {
    this.list = cards.filter(({ id }) => typeof id === "string" && id.length <= longestId && !/\p{Cc}/u.test(id));
    for (const { id, provider } of this.list) {
      this.#names.add(id as string);
      if (typeof provider === "string" && provider !== "") this.#names.add(`${provider}:${id as string}`);
    }
  }

  /** Whether the runtime takes the name, by its own list. */
  has(name: string): boolean {
    return this.#names.has(name);
  }
}
