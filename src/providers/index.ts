import type { Provider } from "../core/provider.ts";
import { fromEngine, translated } from "../dialects/translate.ts";
import { limited } from "./gate.ts";
import { LmDeploy } from "./lmdeploy.ts";
import { Mnn } from "./mnn.ts";
import { withOfferedModels } from "./offered-models.ts";
import { Ollama } from "./ollama.ts";
import { openai } from "./openai.ts";
import type { ProviderKind, ProviderSettings, ProviderTools } from "./settings.ts";
import { Upstream } from "./upstream.ts";
import { vllm } from "./vllm.ts";

/** Every kind of upstream: what it makes of one. An engine gets all dialects, a server the ones that it does not speak. */
const kinds: Record<ProviderKind, (upstream: Upstream, settings: ProviderSettings, tools: ProviderTools) => Provider> = {
  ollama: (upstream, settings, { log }) => fromEngine(new Ollama(upstream, settings, log), { log }),
  lmdeploy: (upstream, _, { log }) => fromEngine(new LmDeploy(upstream), { log }),
  mnn: (upstream, _, { log }) => fromEngine(new Mnn(upstream), { log }),
  vllm: (upstream, _, { log }) => translated(vllm(upstream, log), { log }),
  openai: (upstream, _, { log }) => translated(openai(upstream, log), { log }),
};

/** A provider for the servers at `settings.urls`, under the name that its models are prefixed with. */
export function createProvider(name: string, settings: ProviderSettings, tools: ProviderTools): Provider {
  const provider = kinds[settings.kind](new Upstream(name, settings, tools.log), settings, tools);
  const offered = withOfferedModels(provider, settings);
  return settings.maxConcurrent === undefined ? offered : limited(offered, settings.maxConcurrent * settings.urls.length);
}
