import type { ImageSources } from "../core/image-source.ts";
import type { Log } from "../core/log.ts";
import type { TranslatedPath } from "../core/provider.ts";
import type { LiftOptions } from "../dialects/lift.ts";
import type { UpstreamSettings } from "./upstream.ts";

/**
 * Sorts of server that a provider may stand for; `lair` is another runtime, relay or gateway. `llama_cpp`, the embedded
 * engine, is none: it has no address.
 */
export type ProviderKind = "ollama" | "lmdeploy" | "mnn" | "vllm" | "openai" | "lair";

export interface ProviderSettings extends UpstreamSettings {
  readonly kind: ProviderKind;
  /** Tokens of context to report for its models, and to ask Ollama for; for all of them or by model id. */
  readonly contextLength?: number | Readonly<Record<string, number>>;
  /** Most tokens of one answer to report for its models. */
  readonly maxOutput?: number;
  /** Which models are offered: `*` in a pattern stands for any text. */
  readonly models?: { readonly include?: readonly string[]; readonly exclude?: readonly string[] };
  /** Further names of its models: alias → id at the server. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** Ollama: how long a model stays in memory after its last use, e.g. `10m`, or seconds; negative for ever. */
  readonly keepAlive?: string | number;
  /** Formats beside OpenAI's chat that the server speaks well: their calls pass through. */
  readonly speaks?: readonly TranslatedPath[];
  /** Most calls at a time for each address. */
  readonly maxConcurrent?: number;
}

export interface ProviderTools {
  readonly log: Log;
  /** Longest silence of a stream before a comment keeps it alive, in milliseconds. */
  readonly heartbeat?: number;
  /** From where a server may fetch images for a caller; default: from nowhere. */
  readonly images?: ImageSources;
}

/** The context length that the user has set for a model, if any. */
export function configuredContext(
  settings: Pick<ProviderSettings, "contextLength">,
  model: string,
): number | undefined {
  const { contextLength } = settings;
  return typeof contextLength === "object" ? contextLength[model] : contextLength;
}

export function lift({ log, heartbeat }: ProviderTools): LiftOptions {
  return { log, ...(heartbeat === undefined ? {} : { heartbeatInterval: heartbeat }) };
}
