import type { Provider } from "../core/provider.ts";
import { fromEngine, translated } from "../dialects/translate.ts";
import { limited } from "./gate.ts";
import { LmDeploy } from "./lmdeploy.ts";
import { Mnn } from "./mnn.ts";
import { withOfferedModels } from "./offered-models.ts";
import { Ollama } from "./ollama.ts";
import { openai } from "./openai.ts";
import { remote } from "./remote.ts";
import { lift, type ProviderKind, type ProviderSettings, type ProviderTools } from "./settings.ts";
import { Upstream } from "./upstream.ts";
import { vllm } from "./vllm.ts";

type Build = (name: string, settings: ProviderSettings, tools: ProviderTools) => Provider;

/** Every kind of upstream: what it makes of one. An engine gets all dialects, a server the ones that it does not speak. */
const kinds: Record<ProviderKind, Build> = {
  ollama: (name, settings, tools) =>
    fromEngine(new Ollama(toUpstream(name, settings, tools), settings, tools.log), lift(tools)),
  lmdeploy: (...made) => fromEngine(new LmDeploy(toUpstream(...made)), lift(made[2])),
  mnn: (...made) => fromEngine(new Mnn(toUpstream(...made)), lift(made[2])),
  vllm: (...made) => translated(vllm(toUpstream(...made), made[2]), lift(made[2])),
  openai: (...made) => translated(openai(toUpstream(...made), made[2]), lift(made[2])),
  lair: remote,
};

/** A provider for the servers at `settings.urls`, under the name that its models are prefixed with. */
export function createProvider(name: string, settings: ProviderSettings, tools: ProviderTools): Provider {
  const provider = kinds[settings.kind](name, settings, tools);
  const offered = withOfferedModels(provider, settings);
  return settings.maxConcurrent === undefined
    ? offered
    : limited(offered, settings.maxConcurrent * settings.urls.length);
}

function toUpstream(name: string, settings: ProviderSettings, { log }: ProviderTools): Upstream {
  return new Upstream(name, settings, log);
}
