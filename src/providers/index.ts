import type { Provider } from "../core/provider.ts";
import { fromEngine, translated } from "../dialects/translate.ts";
import { limited } from "./gate.ts";
import { LmDeploy } from "./lmdeploy.ts";
import { Mnn } from "./mnn.ts";
import { withOfferedModels } from "./offered-models.ts";
import { Ollama } from "./ollama.ts";
import { openai } from "./openai.ts";
import { lift, type ProviderKind, type ProviderSettings, type ProviderTools } from "./settings.ts";
import { Upstream } from "./upstream.ts";
import { vllm } from "./vllm.ts";

/** Every kind of upstream: what it makes of one. An engine gets all dialects, a server the ones that it does not speak. */
const kinds: Record<ProviderKind, (upstream: Upstream, settings: ProviderSettings, tools: ProviderTools) => Provider> =
  {
    ollama: (upstream, settings, tools) => fromEngine(new Ollama(upstream, settings, tools.log), lift(tools)),
    lmdeploy: (upstream, _, tools) => fromEngine(new LmDeploy(upstream), lift(tools)),
    mnn: (upstream, _, tools) => fromEngine(new Mnn(upstream), lift(tools)),
    vllm: (upstream, _, tools) => translated(vllm(upstream, tools), lift(tools)),
    openai: (upstream, _, tools) => translated(openai(upstream, tools), lift(tools)),
  };

/** A provider for the servers at `settings.urls`, under the name that its models are prefixed with. */
export function createProvider(name: string, settings: ProviderSettings, tools: ProviderTools): Provider {
  const provider = kinds[settings.kind](new Upstream(name, settings, tools.log), settings, tools);
  const offered = withOfferedModels(provider, settings);
  return settings.maxConcurrent === undefined
    ? offered
    : limited(offered, settings.maxConcurrent * settings.urls.length);
}
