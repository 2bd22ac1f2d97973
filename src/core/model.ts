import type { SamplingRequest } from "./chat.ts";
import type { JsonObject } from "./json.ts";

/** What a model can do, as far as its provider tells. */
export interface Capabilities {
  chat: boolean;
  tools: boolean;
  vision: boolean;
  reasoning: boolean;
  embeddings: boolean;
  rerank: boolean;
}

/** Where model files lie: a file or a folder of them, or the store of another program in its own layout. */
export interface ModelSource {
  readonly kind: "files" | "huggingface" | "ollama";
  readonly path: string;
  /** Nothing is said where it does not exist. */
  readonly optional?: boolean;
}

/** The weights themselves, as far as their provider tells. */
export interface ModelWeights {
  /** llama.cpp's name of it, e.g. `qwen3`. */
  readonly architecture?: string;
  /** How many there are. */
  readonly parameters?: number;
  /** e.g. `Q4_K_M` */
  readonly quantization?: string;
  /** Bytes on the disk. */
  readonly bytes?: number;
  /** SHA-256 in hexadecimal, where the provider keeps one. */
  readonly digest?: string;
  /** Whether it was trained to fill a gap in a text. */
  readonly fillsGaps?: boolean;
  /** Its maker's name of its size, e.g. `8B`. */
  readonly sizeLabel?: string;
  /** e.g. `apache-2.0` */
  readonly license?: string;
  /** What it was trained to speak, e.g. `en`. */
  readonly languages?: readonly string[];
}

/** When a model is listed: always, only while no other model is, or never; it answers to its name all the same. */
export type Listing = "always" | "alone" | "never";

/** Who owns the built-in demo model, in every list: by this programs can tell it from one of the user's own. */
export const demoOwner = "local-ai-runtime";

/** One model as its provider knows it. */
export interface Model {
  /** Id at the provider, without a provider's prefix. May hold `:` and `/`. */
  readonly id: string;
  /** Tokens of context that are really in force now, not the maximum of training; absent when nobody can tell. */
  readonly contextLength?: number;
  /** Most tokens of one answer; absent when only the context bounds it. */
  readonly maxOutput?: number;
  readonly capabilities: Capabilities;
  /** What of sampling holds for it where a request does not say; what is not here is its provider's general default. */
  readonly sampling?: Partial<SamplingRequest>;
  /** `available`: served, whether it sits in memory is not known. `failed`: listed, but cannot be served. */
  readonly state: "available" | "loaded" | "loading" | "unloaded" | "failed";
  /** Why the state is `failed`. */
  readonly problem?: string;
  /** Bytes of memory that it needs when it is loaded; absent when nobody can tell. */
  readonly memoryBytes?: number;
  /** How many of `memoryBytes` are a GPU's own; absent when nobody can tell. */
  readonly gpuBytes?: number;
  /** When it will leave the memory if nobody asks it, in milliseconds since 1970; absent: not by time. */
  readonly expiresAt?: number;
  /** Unix seconds. */
  readonly created?: number;
  readonly ownedBy?: string;
  /** What its maker says of it. */
  readonly description?: string;
  /** Default: `always`. */
  readonly listing?: Listing;
  readonly weights?: ModelWeights;
  /** What a server of our own kind says of it, as it says it: `GET /v1/models` there. */
  readonly card?: JsonObject;
}

/** Those of all models that there are which are listed. */
export function listedOf<Entry>(all: readonly Entry[], listingOf: (entry: Entry) => Listing | undefined): Entry[] {
  const always = all.filter((entry) => (listingOf(entry) ?? "always") === "always");
  return always.length > 0 ? always : all.filter((entry) => listingOf(entry) === "alone");
}

export const chatModel: Capabilities = {
  chat: true,
  tools: true,
  vision: false,
  reasoning: false,
  embeddings: false,
  rerank: false,
};
