import type { Target } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { chatModel, type Model } from "../core/model.ts";
import type { Provider } from "../core/provider.ts";
import { patternTest } from "../core/name-pattern.ts";
import { delegate } from "./gate.ts";
import { configuredContext, type ProviderSettings } from "./settings.ts";

type Settings = Pick<ProviderSettings, "models" | "aliases" | "contextLength" | "maxOutput">;

/** The provider with the user's choice of models, further names for them, and the figures that the user knows better. */
export function withOfferedModels(provider: Provider, settings: Settings): Provider {
  const aliases = new Map(Object.entries(settings.aliases ?? {}));
  const offers = patternTest(settings.models?.include ?? ["*"]);
  const hides = patternTest(settings.models?.exclude ?? []);
  const offered = (id: string): boolean => offers(id) && !hides(id);
  return {
    ...delegate(provider),
    async models(signal) {
      const all = (await provider.models(signal)).map((model) => withFigures(model, settings));
      const named = [...aliases].map(([alias, id]) => aliasOf(alias, id, all));
      return [...named, ...all.filter((model) => offered(model.id) && !aliases.has(model.id))];
    },
    async handle(call) {
      const { target } = call;
      if (target === undefined) throw new TypeError("the call has no target");
      const real = aliases.get(target.model);
      if (real !== undefined) return provider.handle(call.with({ target: { ...target, model: real } }));
      if (offered(target.model)) return provider.handle(call);
      throw notOffered(target);
    },
  };
}

function withFigures(model: Model, settings: Settings): Model {
  const contextLength = configuredContext(settings, model.id);
  const { maxOutput } = settings;
  return {
    ...model,
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(maxOutput === undefined ? {} : { maxOutput }),
  };
}

function aliasOf(alias: string, id: string, models: readonly Model[]): Model {
  const model = models.find((one) => one.id === id);
  if (model !== undefined) return { ...model, id: alias };
  return {
    id: alias,
    capabilities: chatModel,
    state: "failed",
    problem: `it is another name of "${id}", which the server does not list`,
  };
}

function notOffered({ requested, provider }: Target): ApiError {
  return new ApiError("model_not_found", `the model "${requested}" is not offered here`, {
    provider: provider.name,
    param: "model",
  });
}
