import { type Capabilities, demoOwner, type Model, type ModelWeights } from "../../core/model.ts";
import type { GgufHeader } from "../gguf/gguf.ts";
import type { ModelFile } from "./model-files.ts";
import type { ProcessState } from "../llama/process/process-failure.ts";
import {
  chosenSampling,
  type LlamaSettings,
  type Pooling,
  effectiveContextLength,
  poolingTypes,
} from "../llama/settings.ts";

/** What of a model changes while the engine runs. */
export interface ModelState {
  readonly state: ProcessState;
  /** Bytes of memory that it needs, or takes while it is loaded. */
  readonly memoryBytes: number;
  /** Milliseconds since 1970. */
  readonly expiresAt?: number | undefined;
}

const states = { ready: "loaded", starting: "loading", stopping: "unloaded", stopped: "unloaded" } as const;

/** A model as the engine lists it. `settings` are those in force for it. */
export function toModel(file: ModelFile, settings: LlamaSettings, now: ModelState): Model {
  const about = {
    id: file.id,
    created: file.modified,
    ownedBy: file.builtIn === undefined ? "llama.cpp" : demoOwner,
    ...(file.builtIn === undefined ? {} : { listing: file.builtIn }),
    ...(file.header?.about.description === undefined ? {} : { description: file.header.about.description }),
    capabilities: readCapabilities(file.header, settings.pooling),
    weights: readWeights(file),
  };
  if (file.problem !== null || file.header === null)
    return { ...about, state: "failed", problem: file.problem ?? "unreadable" };
  const { maxNewTokens, contextLength } = settings;
  const sampling = chosenSampling({ ...settings, recommended: file.header.sampling.values });
  return {
    ...about,
    contextLength: effectiveContextLength(contextLength, file.header.contextLength ?? undefined),
    ...(maxNewTokens === undefined ? {} : { maxOutput: maxNewTokens }),
    ...(about.capabilities.chat && Object.keys(sampling).length > 0 ? { sampling } : {}),
    state: states[now.state],
    memoryBytes: now.memoryBytes,
    ...(now.expiresAt === undefined ? {} : { expiresAt: now.expiresAt }),
  };
}

function readWeights({ bytes, header }: ModelFile): ModelWeights {
  if (header === null) return { bytes };
  const { architecture, parameters, quantization, about } = header;
  const { description: _, ...told } = about;
  return { architecture, parameters, bytes, ...(quantization === null ? {} : { quantization }), ...told };
}

/** Architectures that only make vectors, whether or not their file names a way of pooling. */
const encoders = /bert|^t5encoder$|-embed(ding)?$/;

/** What a model can do, by its header. */
export function readCapabilities(header: GgufHeader | null, pooling?: Pooling): Capabilities {
  const rerank = pooling === undefined ? header?.pooling === poolingTypes.rank : pooling === "rank";
  const embeddings =
    header !== null &&
    !rerank &&
    (pooling !== undefined || header.pooling !== null || encoders.test(header.architecture));
  const chat = header !== null && !rerank && !embeddings;
  const template = header?.template ?? "";
  return {
    chat,
    tools: chat,
    vision: false,
    reasoning: chat && /<think>|enable_thinking|reasoning_content/.test(template),
    embeddings,
    rerank,
  };
}
