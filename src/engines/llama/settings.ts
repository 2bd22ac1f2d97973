import type { SamplingRequest } from "../../core/chat.ts";
import type { BackendSettings, GpuChoice } from "./builds/backends.ts";
import type { ModelSource } from "../../core/model.ts";
import { patternTest } from "../../core/name-pattern.ts";
import { type SamplerName, samplerNames } from "../../core/sampler-names.ts";
import type { BuiltIn } from "../models/model-files.ts";

/** How the embedded llama.cpp runs. What is left out (or undefined) takes the default named here. */
export interface LlamaSettings {
  /** A GGUF file or a folder of them. */
  readonly model?: string | null | undefined;
  /** Further places of models; `model` comes first. */
  readonly sources?: readonly ModelSource[] | undefined;
  /** The program's own model. Default: none. */
  readonly demo?: BuiltIn | undefined;
  /** Tokens of context of one request. Default: what the model was trained for, at most 16384. */
  readonly contextLength?: number | undefined;
  /** Most tokens of one answer where the request does not say. Default: what the context leaves. */
  readonly maxNewTokens?: number | undefined;
  /** Default `auto`. */
  readonly flashAttention?: "auto" | "on" | "off" | undefined;
  /** Most tokens in one call of llama.cpp. Default 2048. */
  readonly batchSize?: number | undefined;
  /** Most tokens in one pass through the model. Default 512. */
  readonly ubatchSize?: number | undefined;
  /** Layers held by the GPU. Default `all`. */
  readonly gpuLayers?: number | "all" | undefined;
  /** Whether the KV cache lies on the GPU. Default true. */
  readonly offloadKqv?: boolean | undefined;
  /** Index of the GPU used where `splitMode` is `none`. Default 0. */
  readonly mainGpu?: number | undefined;
  /** How several GPUs share a model. Default `layer`. */
  readonly splitMode?: "none" | "layer" | "row" | undefined;
  /** Threads for generation. Default: physical cores, as far as they can be told. */
  readonly threads?: number | undefined;
  /** Threads for prompts. Default: `threads`. */
  readonly threadsBatch?: number | undefined;
  /** Sampling where a request does not say. Default: what the model's file recommends, else 0.8, 0.95, 0.05, 40, 1 (off) and 64. */
  readonly temperature?: number | undefined;
  readonly topP?: number | undefined;
  readonly minP?: number | undefined;
  readonly topK?: number | undefined;
  readonly repeatPenalty?: number | undefined;
  /** Tokens that penalties look back on; −1: the whole context. */
  readonly penaltyLastN?: number | undefined;
  /** Default: another one for each request. */
  readonly seed?: number | undefined;
  /** false: a plain ChatML prompt instead of the model's own template. Default true. */
  readonly useJinja?: boolean | undefined;
  /** Requests that one model works on at the same time; each has its own KV cache. Default 2. */
  readonly maxSessions?: number | undefined;
  /** Requests that may wait for a slot of one model. Default 128. */
  readonly maxQueue?: number | undefined;
  /** Makes a model one of embeddings (or, with `rank`, of relevances) whose file does not say so. Default: what the file says. */
  readonly pooling?: Pooling | undefined;
  /** Unloads a model as soon as nobody uses it, as `keepAlive` 0. Default false. */
  readonly unloadAfterChat?: boolean | undefined;
  /** Milliseconds that an unused model stays in memory. Default: until its room is needed. */
  readonly keepAlive?: number | undefined;
  /** Models in memory at the same time. Default: as many as `memoryBudget` allows. */
  readonly maxLoaded?: number | undefined;
  /** Bytes of memory for all models together. Default: 80 % of what the machine has. */
  readonly memoryBudget?: number | "unlimited" | undefined;
  /** The model that `default` means. Default: the first that chats. */
  readonly defaultModel?: string | undefined;
  /** Further names of models: alias → id. */
  readonly aliases?: Readonly<Record<string, string>> | undefined;
  /** Settings of single models, by id, where `*` stands for any text; of several that fit, later ones win. */
  readonly models?: Readonly<Record<string, ModelSettings>> | undefined;
  /** What guesses tokens ahead: nothing, repetitions of the text so far, or a GGUF file of a smaller model. Default `off`. */
  readonly draft?: string | undefined;
  /** Most tokens guessed ahead at a time, and fewest that are worth it. Defaults 16 and 2. */
  readonly draftMax?: number | undefined;
  readonly draftMin?: number | undefined;
  /** A folder with another build of the same llama.cpp release. */
  readonly library?: string | undefined;
  /** What computes; `auto`: the GPU if a package for one is installed and it answers. Default `auto`. */
  readonly gpu?: GpuChoice | undefined;
  /** Folder where prompts are kept for the next start. Default: nowhere. */
  readonly cacheFolder?: string | undefined;
  /** Most bytes that they take there; 0: none is kept. Default: 4 GiB, and never more than a tenth of the free disk. */
  readonly cacheBytes?: number | undefined;
  /** The user's folder for what `lair engine install` adds. */
  readonly dataFolder?: string | undefined;
  /** Path of a llama-server program that serves models in place of the embedded llama.cpp. */
  readonly server?: string | undefined;
  /** Which: those with a projector for images or sound, or all. Default `images`. */
  readonly serverModels?: "images" | "all" | undefined;
}

/** Settings that one model may have of its own, and those that only single models have. */
export interface ModelSettings extends Omit<
  LlamaSettings,
  | "model"
  | "sources"
  | "demo"
  | "library"
  | "server"
  | "serverModels"
  | "maxLoaded"
  | "memoryBudget"
  | "defaultModel"
  | "aliases"
  | "models"
> {
  /** Never unloaded to make room, nor for being unused. Default false. */
  readonly pinned?: boolean | undefined;
  /** Bytes of memory that the model needs, where the estimate is wrong. */
  readonly memory?: number | undefined;
}

/** How the outputs of a text's tokens become one: their mean, the first, the last, or a head that ranks. */
export type Pooling = "mean" | "cls" | "last" | "rank";

/** llama.h: enum llama_pooling_type. */
export const poolingTypes: Readonly<Record<Pooling, number>> = { mean: 1, cls: 2, last: 3, rank: 4 };

/** Settings as the worker of one model gets them: every default filled in but those that the model decides. */
export interface WorkerSettings {
  readonly path: string;
  /** Which build of llama.cpp the process loads. */
  readonly backend: BackendSettings;
  readonly contextLength: number | null;
  readonly flashAttention: "auto" | "on" | "off";
  readonly batchSize: number;
  readonly ubatchSize: number;
  readonly gpuLayers: number | "all" | null;
  readonly offloadKqv: boolean;
  readonly mainGpu: number;
  readonly splitMode: "none" | "layer" | "row";
  readonly threads: number;
  readonly threadsBatch: number;
  readonly maxSessions: number;
  readonly maxQueue: number;
  /** null: what the model file says. */
  readonly pooling: Pooling | null;
  /** Where prompts are kept for the next start; null: nowhere. */
  readonly cache: { readonly folder: string; readonly bytes: number } | null;
  /** `off`, `lookup` or the path of a GGUF file. */
  readonly draft: string;
  readonly draftMax: number;
  readonly draftMin: number;
}

/** What requests to one model leave open: the settings in force for it, and below them what its file recommends. */
export interface RequestDefaults extends LlamaSettings {
  readonly recommended?: Partial<SamplingRequest>;
}

/** Sampling of one request, complete. */
export interface Sampling {
  readonly temperature: number;
  readonly topP: number;
  readonly minP: number;
  readonly topK: number;
  readonly repeatPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** −1: the whole context; so for DRY. */
  readonly penaltyLastN: number;
  readonly typicalP: number;
  readonly topNSigma: number;
  readonly xtc: { readonly probability: number; readonly threshold: number };
  readonly dry: {
    readonly multiplier: number;
    readonly base: number;
    readonly allowedLength: number;
    readonly lastN: number;
    readonly breakers: readonly string[];
  };
  readonly dynatemp: { readonly range: number; readonly exponent: number };
  readonly mirostat: { readonly version: number; readonly tau: number; readonly eta: number };
  readonly minKeep: number;
  readonly samplers: readonly SamplerName[];
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  /** Most tokens guessed ahead; null: as many as the settings say. */
  readonly draftMax: number | null;
  /** 0 … 2³²−2. */
  readonly seed: number;
  /** Token id → bias. */
  readonly logitBias: Readonly<Record<string, number>>;
}

/** What a chat asks for of context where nobody says: the KV cache of longer ones would take gigabytes. */
const defaultContextLength = 16384;

/** The settings in force for one model. */
export function settingsOf(settings: LlamaSettings, id: string): LlamaSettings & ModelSettings {
  const { models = {}, ...common } = settings;
  const own = Object.entries(models).filter(([pattern]) => patternTest([pattern])(id));
  return Object.assign({}, common, ...own.map(([, entry]) => entry)) as LlamaSettings & ModelSettings;
}

/** The context that is in force: what the settings ask for, never more than the model was trained for. */
export function effectiveContextLength(asked: number | null | undefined, trained: number | undefined): number {
  const limit = trained === undefined || trained <= 0 ? defaultContextLength : trained;
  return Math.min(asked === null || asked === undefined || asked <= 0 ? defaultContextLength : asked, limit);
}

export function toWorkerSettings(settings: LlamaSettings, path: string, cores: number): WorkerSettings {
  const threads = settings.threads === undefined || settings.threads <= 0 ? cores : settings.threads;
  const batchSize = settings.batchSize ?? 2048;
  return {
    path,
    backend: { gpu: settings.gpu, library: settings.library, dataFolder: settings.dataFolder },
    contextLength: settings.contextLength ?? null,
    flashAttention: settings.flashAttention ?? "auto",
    batchSize,
    ubatchSize: Math.min(settings.ubatchSize ?? 512, batchSize),
    gpuLayers: settings.gpuLayers ?? null,
    offloadKqv: settings.offloadKqv ?? true,
    mainGpu: settings.mainGpu ?? 0,
    splitMode: settings.splitMode ?? "layer",
    threads,
    threadsBatch: settings.threadsBatch === undefined || settings.threadsBatch <= 0 ? threads : settings.threadsBatch,
    maxSessions: settings.maxSessions ?? 2,
    maxQueue: settings.maxQueue ?? 128,
    pooling: settings.pooling ?? null,
    cache: toCache(settings),
    draft: settings.draft ?? "off",
    draftMax: settings.draftMax ?? 16,
    draftMin: settings.draftMin ?? 2,
  };
}

function toCache({ cacheFolder, cacheBytes = 4 * 1024 ** 3 }: LlamaSettings): WorkerSettings["cache"] {
  return cacheFolder === undefined || cacheBytes === 0 ? null : { folder: cacheFolder, bytes: cacheBytes };
}

/** What of sampling is chosen for a model: by its settings, else by its file. */
export function chosenSampling({ recommended, ...settings }: RequestDefaults): Partial<SamplingRequest> {
  const { temperature, topP, minP, topK, repeatPenalty, penaltyLastN, seed } = settings;
  return { ...recommended, ...said({ temperature, topP, minP, topK, repeatPenalty, repeatLastN: penaltyLastN, seed }) };
}

/** Sampling of a request: its own values, then the settings', then the model's own, then llama.cpp's defaults (common/common.h). */
export function toSampling(request: Partial<SamplingRequest>, defaults: RequestDefaults): Sampling {
  const asked: Partial<SamplingRequest> = { ...chosenSampling(defaults), ...said(request) };
  // llama.cpp reads 2³²−1 as "random", and a random seed must be known to be reported and repeated.
  const seed = asked.seed ?? Math.floor(Math.random() * 0xfffffffe);
  return {
    temperature: asked.temperature ?? 0.8,
    topP: asked.topP ?? 0.95,
    minP: asked.minP ?? 0.05,
    topK: asked.topK ?? 40,
    repeatPenalty: asked.repeatPenalty ?? 1,
    presencePenalty: asked.presencePenalty ?? 0,
    frequencyPenalty: asked.frequencyPenalty ?? 0,
    penaltyLastN: asked.repeatLastN ?? 64,
    typicalP: asked.typicalP ?? 1,
    topNSigma: asked.topNSigma ?? -1,
    xtc: { probability: asked.xtcProbability ?? 0, threshold: asked.xtcThreshold ?? 0.1 },
    dry: {
      multiplier: asked.dryMultiplier ?? 0,
      base: asked.dryBase ?? 1.75,
      allowedLength: asked.dryAllowedLength ?? 2,
      lastN: asked.dryPenaltyLastN ?? 64,
      breakers: asked.drySequenceBreakers ?? ["\n", ":", '"', "*"],
    },
    dynatemp: { range: asked.dynatempRange ?? 0, exponent: asked.dynatempExponent ?? 1 },
    mirostat: { version: asked.mirostat ?? 0, tau: asked.mirostatTau ?? 5, eta: asked.mirostatEta ?? 0.1 },
    minKeep: asked.minKeep ?? 0,
    samplers: asked.samplers ?? samplerNames,
    minTokens: asked.minTokens ?? 0,
    ignoreEos: asked.ignoreEos ?? false,
    draftMax: asked.draftMax ?? null,
    seed: ((Math.trunc(seed) % 0xffffffff) + 0xffffffff) % 0xffffffff,
    logitBias: asked.logitBias ?? {},
  };
}

/** The fields that hold something: one that is there but undefined would hide the one below it. */
function said(fields: {
  readonly [Key in keyof SamplingRequest]?: SamplingRequest[Key] | undefined;
}): Partial<SamplingRequest> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}
