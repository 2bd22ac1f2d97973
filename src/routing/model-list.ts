import type { Clock } from "../core/clock.ts";
import type { JsonObject } from "../core/json.ts";
import type { Model } from "../core/model.ts";
import type { Provider } from "../core/provider.ts";

/** A name that goes into lists and messages has an end. */
const longestId = 512;

/** The models that an upstream listed last, kept while it is away. */
export class ModelList {
  readonly #provider: Provider;
  readonly #timeout: number;
  readonly #clock: Pick<Clock, "now">;
  #models: readonly Model[] = [];
  #names: ReadonlyMap<string, Model> = new Map();
  #asking: Promise<void> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #known = false;
  #failed = false;

  /** `timeout`: milliseconds that the upstream has to answer. */
  constructor(provider: Provider, timeout: number, clock: Pick<Clock, "now">) {
    this.#provider = provider;
    this.#timeout = timeout;
    this.#clock = clock;
  }

  get models(): readonly Model[] {
    return this.#models;
  }

  /** Whether it has ever been told. */
  get known(): boolean {
    return this.#known;
  }

  /** Whether the upstream did not answer when it was asked last. */
  get failed(): boolean {
    return this.#failed;
  }

  /** The model under a name by which the upstream takes it; undefined: it does not list such a one. */
  find(name: string): Model | undefined {
    return this.#names.get(name);
  }

  /** Asks anew, unless that was done within `age` milliseconds; who asks meanwhile gets the same answer. Never throws. */
  refresh(age = 0): Promise<void> {
    if (this.#asking !== undefined) return this.#asking;
    const passed = this.#clock.now() - this.#askedAt;
    if (passed >= 0 && passed < age) return Promise.resolve();
    this.#askedAt = this.#clock.now();
    this.#asking = this.#ask().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  async #ask(): Promise<void> {
    const signal = AbortSignal.timeout(this.#timeout);
    const late = new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
    );
    try {
      const models = await Promise.race([this.#provider.models(signal), late]);
      this.#models = models.filter(({ id }) => id.length <= longestId && !/\p{Cc}/u.test(id));
      this.#names = namesOf(this.#models);
      this.#known = true;
      this.#failed = false;
    } catch {
      this.#failed = true;
    }
  }
}

/** Every name by which our own servers take a model: its id, and behind the provider, or one of the agents or upstreams that have it. */
function namesOf(models: readonly Model[]): Map<string, Model> {
  const names = new Map<string, Model>();
  for (const model of models) for (const name of furtherNames(model)) if (!names.has(name)) names.set(name, model);
  for (const model of models.toReversed()) names.set(model.id, model);
  return names;
}

function furtherNames({ id, card = {} }: Model): string[] {
  const { provider, agents, upstreams }: JsonObject = card;
  const owners = [agents, upstreams].flatMap((list) => (Array.isArray(list) ? list : []));
  return [
    ...(typeof provider === "string" && provider !== "" ? [`${provider}:${id}`] : []),
    ...owners.flatMap((owner) => (typeof owner === "string" ? [`${owner}/${id}`] : [])),
  ];
}
