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
import { speaking, trusted } from "./spoken.ts";
import { Upstream } from "./upstream.ts";
import { vllm } from "./vllm.ts";

type Build = (upstream: Upstream, settings: ProviderSettings, tools: ProviderTools) => Provider;

/** Every kind of foreign server: what it makes of one. An engine gets all dialects, a server the ones that it does not speak. */
const kinds: Record<Exclude<ProviderKind, "lair">, Build> = {
  ollama: (upstream, settings, tools) => fromEngine(new Ollama(upstream, settings, tools.log), lift(tools)),
  lmdeploy: (upstream, _settings, tools) => fromEngine(new LmDeploy(upstream), lift(tools)),
  mnn: (upstream, _settings, tools) => fromEngine(new Mnn(upstream), lift(tools)),
  vllm: (upstream, _settings, tools) => translated(vllm(upstream, tools), lift(tools)),
  openai: (upstream, _settings, tools) => translated(openai(upstream, tools), lift(tools)),
};

/** A provider for the servers at `settings.urls`, under the name that its models are prefixed with. */
export function createProvider(name: string, settings: ProviderSettings, tools: ProviderTools): Provider {
  const offered = withOfferedModels(build(name, settings, tools), settings);
  return settings.maxConcurrent === undefined
    ? offered
    : limited(offered, settings.maxConcurrent * settings.urls.length);
}

function build(name: string, settings: ProviderSettings, tools: ProviderTools): Provider {
  const { kind, speaks = [] } = settings;
  if (kind === "lair") return remote(name, settings, tools);
  const upstream = new Upstream(name, settings, tools.log);
  const { heartbeat } = tools;
  return speaking(kinds[kind](upstream, settings, tools), {
    upstream,
    paths: new Set([...trusted[kind], ...speaks]),
    ...(heartbeat === undefined ? {} : { heartbeat }),
  });
}
