import type { Target } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { listedOf, type Model } from "../core/model.ts";
import { nearNames } from "../core/near-names.ts";
import type { Provider } from "../core/provider.ts";

/** A model under the name by which clients call it. */
export interface ListedModel {
  readonly name: string;
  readonly provider: Provider;
  readonly model: Model;
}

export interface CatalogSettings {
  /** The provider of names without a prefix. */
  readonly defaultProvider: string;
  /** Milliseconds that a provider may take to list its models. */
  readonly probeTimeout: number;
}

/**
 * Which model a name means. `provider:id` always names one; any other name is an id of the default provider. Ids may
 * hold `:` and `/`; every listed name is accepted as it stands.
 */
export class Catalog {
  readonly providers: ReadonlyMap<string, Provider>;
  readonly #settings: CatalogSettings;
  /** What each provider listed last. */
  readonly #known = new Map<string, readonly Model[]>();

  constructor(providers: readonly Provider[], settings: CatalogSettings) {
    this.providers = new Map(providers.map((provider) => [provider.name, provider]));
    this.#settings = settings;
  }

  /** Throws `model_not_found` when the name belongs to no provider; whether the provider has the model, it must say itself. */
  resolve(name: string): Target {
    const colon = name.indexOf(":");
    const prefixed = colon === -1 ? undefined : this.providers.get(name.slice(0, colon));
    if (prefixed !== undefined && colon + 1 < name.length)
      return { provider: prefixed, model: name.slice(colon + 1), requested: name };
    const fallback = this.providers.get(this.#settings.defaultProvider);
    if (fallback !== undefined) return { provider: fallback, model: name, requested: name };
    throw this.notFound(name);
  }

  /** The models that all providers offer; one that fails or is slow adds what it listed last, and never delays the others beyond the probe's time. */
  async list(signal: AbortSignal): Promise<ListedModel[]> {
    return listedOf(await this.#all(signal), ({ model }) => model.listing);
  }

  /** The model that a call to this target would reach, offered or not; undefined: its provider tells of none. */
  async find(
    { provider, model: id }: Pick<Target, "provider" | "model">,
    signal: AbortSignal,
  ): Promise<ListedModel | undefined> {
    const all = await this.#all(signal);
    return all.find((entry) => entry.provider === provider && entry.model.id === id);
  }

  async #all(signal: AbortSignal): Promise<ListedModel[]> {
    const lists = await Promise.all(
      [...this.providers.values()].map(async (provider) => ({
        provider,
        models: await this.#modelsOf(provider, signal),
      })),
    );
    return lists.flatMap(({ provider, models }) =>
      models.map((model) => ({ name: this.#nameOf(provider, model), provider, model })),
    );
  }

  /** The error for a name that nobody has, with the nearest names that somebody has. */
  notFound(name: string, options: { provider?: string; cause?: unknown } = {}): ApiError {
    const known = [...this.#known].flatMap(([provider, models]) =>
      models.map((model) => this.#nameOf(this.providers.get(provider) as Provider, model)),
    );
    return new ApiError(
      "model_not_found",
      `the model '${name.slice(0, 200)}' does not exist; ${nearNames(name, known)}`,
      {
        param: "model",
        ...options,
      },
    );
  }

  #nameOf(provider: Provider, model: Model): string {
    const bare = provider.name === this.#settings.defaultProvider && !this.#looksPrefixed(model.id);
    return bare ? model.id : `${provider.name}:${model.id}`;
  }

  #looksPrefixed(id: string): boolean {
    const colon = id.indexOf(":");
    return colon !== -1 && this.providers.has(id.slice(0, colon));
  }

  async #modelsOf(provider: Provider, signal: AbortSignal): Promise<readonly Model[]> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(this.#settings.probeTimeout)]);
    const late = new Promise<never>((_, reject) =>
      limit.addEventListener("abort", () => reject(limit.reason as Error), { once: true }),
    );
    try {
      const models = await Promise.race([provider.models(limit), late]);
      this.#known.set(provider.name, models);
      return models;
    } catch {
      return this.#known.get(provider.name) ?? [];
    }
  }
}
