import type { GgufHeader } from "../gguf/gguf.ts";
import { effectiveContextLength, type LlamaSettings, toWorkerSettings } from "../llama/settings.ts";

/** What a llama-server is to serve. */
export interface ServerModel {
  readonly id: string;
  readonly path: string;
  /** The file that turns images or sound into tokens. */
  readonly projector: string | null;
  readonly header: Pick<GgufHeader, "contextLength" | "pooling"> | null;
}

/** llama.cpp's pooling type of models that rank. */
const rankPooling = 4;

/**
 * The command line of llama-server for a model under our settings. What is llama-server's own default is left out, so
 * that builds of other releases, and forks, are not given flags that they do not know.
 */
export function serverFlags(model: ServerModel, settings: LlamaSettings, cores: number): string[] {
  const worker = toWorkerSettings(settings, model.path, cores);
  const context = effectiveContextLength(settings.contextLength, model.header?.contextLength ?? undefined);
  const pooling = model.header?.pooling ?? null;
  return [
    ...given("--model", model.path),
    ...given("--alias", model.id),
    ...given("--parallel", worker.maxSessions),
    // That of all slots together.
    ...given("--ctx-size", context * worker.maxSessions),
    ...given("--batch-size", worker.batchSize),
    ...given("--ubatch-size", worker.ubatchSize),
    ...given("--threads", worker.threads),
    ...given("--threads-batch", worker.threadsBatch),
    ...given("--flash-attn", worker.flashAttention, "auto"),
    ...gpuFlags(settings),
    ...samplingFlags(settings),
    ...(model.projector === null ? [] : given("--mmproj", model.projector)),
    ...(settings.useJinja === false ? given("--chat-template", "chatml") : ["--jinja"]),
    ...(pooling === rankPooling ? ["--reranking"] : pooling === null ? [] : ["--embeddings"]),
  ];
}

/** What the settings say; the rest llama-server takes from the model's file itself. */
function samplingFlags(settings: LlamaSettings): string[] {
  const { temperature, topP, topK, minP, repeatPenalty, penaltyLastN, seed } = settings;
  const flags = {
    "--temp": temperature,
    "--top-k": topK,
    "--top-p": topP,
    "--min-p": minP,
    "--repeat-penalty": repeatPenalty,
    "--repeat-last-n": penaltyLastN,
    "--seed": seed,
  };
  return Object.entries(flags).flatMap(([flag, value]) => (value === undefined ? [] : given(flag, value)));
}

function gpuFlags(settings: LlamaSettings): string[] {
  if (settings.gpu === "off") return ["--device", "none"];
  const { gpuLayers = "all", splitMode = "layer", mainGpu = 0, offloadKqv = true } = settings;
  return [
    // More layers than any model has: older builds do not know the word "all".
    ...given("--n-gpu-layers", gpuLayers === "all" ? 999 : gpuLayers),
    ...given("--split-mode", splitMode, "layer"),
    ...given("--main-gpu", mainGpu, 0),
    ...(offloadKqv ? [] : ["--no-kv-offload"]),
  ];
}

/** A flag with its value; nothing where that is the server's own. */
function given<Value extends string | number>(flag: string, value: Value, standard?: Value): string[] {
  return value === standard ? [] : [flag, `${value}`];
}
