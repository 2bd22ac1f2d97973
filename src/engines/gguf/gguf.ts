import { type FileHandle, open } from "node:fs/promises";
import { type GgufAbout, readAbout } from "./about.ts";
import { GgufError, GgufReader, type MetadataValue } from "./gguf-reader.ts";
import { quantizations } from "./gguf-types.ts";
import { type RecommendedSampling, readRecommendedSampling } from "./recommended-sampling.ts";

/** What a GGUF file says of its model, read from its header alone. */
export interface GgufHeader {
  readonly architecture: string;
  /** What the file is: `model`, `adapter` (LoRA), `mmproj` (a projector for images), `imatrix` or `vocab`. */
  readonly type: string;
  readonly name: string | null;
  readonly about: GgufAbout;
  /** e.g. `Q4_K_M`; null when the file does not tell. */
  readonly quantization: string | null;
  /** Tokens of context that the model was trained for. */
  readonly contextLength: number | null;
  readonly template: string | null;
  /** llama.cpp's pooling type (4: rank); null for models that generate. */
  readonly pooling: number | null;
  readonly sampling: RecommendedSampling;
  /** Weights of this file. */
  readonly parameters: number;
  /** This file is one of so many that make up the model; 1 for a whole one. */
  readonly shards: number;
  readonly shape: GgufShape;
}

/** The measures from which the memory of a context follows. 0 where the file does not tell. */
export interface GgufShape {
  readonly layers: number;
  /** Length of a token's vector (`embedding_length`). */
  readonly width: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly heads: number;
  /** Elements of the keys and of the values of one token, for each layer; 0 for layers without attention. */
  readonly keys: readonly number[];
  readonly values: readonly number[];
  /** f32 numbers that each recurrent layer keeps for one sequence; 0: no layer is recurrent. */
  readonly recurrentState: number;
}

/** Reads the header. Throws `GgufError` for what is no GGUF, is cut off, or goes beyond all reason. */
export async function readGguf(path: string): Promise<GgufHeader> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new GgufError(
      code === "ENOENT" ? "the file does not exist" : `the file cannot be opened (${code ?? "unknown"})`,
    );
  }
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new GgufError("it is not a file");
    const { metadata, parameters } = await new GgufReader(file, stats.size).read();
    return { ...toHeader(new Metadata(metadata), parameters), sampling: readRecommendedSampling(metadata) };
  } finally {
    await file.close();
  }
}

function toHeader(metadata: Metadata, parameters: number): Omit<GgufHeader, "sampling"> {
  const { architecture } = metadata;
  if (architecture === "") throw new GgufError("the file does not name its architecture (general.architecture)");
  const pooling = metadata.number("pooling_type");
  const fileType = metadata.general("file_type");
  return {
    architecture,
    type: metadata.text("general.type") ?? (architecture === "clip" ? "mmproj" : "model"),
    name: metadata.text("general.name"),
    about: readAbout((key) => metadata.general(key)),
    // Files whose maker guessed the type add 1024 (LLAMA_FTYPE_GUESSED).
    quantization: typeof fileType === "number" ? (quantizations[fileType % 1024] ?? null) : null,
    contextLength: metadata.number("context_length"),
    template: metadata.text("tokenizer.chat_template"),
    pooling: pooling === 0 ? null : pooling,
    parameters,
    shards: metadata.plain("split.count") ?? 1,
    shape: toShape(metadata),
  };
}

/** More layers than this no model has; a file that claims them must not make us count them one by one. */
const mostLayers = 4096;

// The rules are those of llama_hparams in llama-hparams.cpp and of llama_model_base::load_hparams.
function toShape(metadata: Metadata): GgufShape {
  const number = (key: string): number => metadata.number(key) ?? 0;
  const layers = Math.min(number("block_count"), mostLayers);
  const width = number("embedding_length");
  const heads = Math.max(0, ...metadata.numbers("attention.head_count"));
  const keyLength = metadata.number("attention.key_length") ?? (heads > 0 ? width / heads : 0);
  const valueLength = metadata.number("attention.value_length") ?? (heads > 0 ? width / heads : 0);
  const kvHeads = metadata.numbers("attention.head_count_kv");
  // DeepSeek's latent attention keeps the values within the keys.
  const latent = metadata.number("attention.key_length_mla") !== null;
  const shared = number("attention.shared_kv_layers");
  const perLayer = (length: number): number[] =>
    Array.from({ length: layers }, (_, layer) => {
      const own = kvHeads.length > 1 ? (kvHeads[layer] ?? 0) : (kvHeads[0] ?? heads);
      return layer < layers - shared ? own * length : 0;
    });
  return {
    layers,
    width,
    feedForward: Math.max(0, ...metadata.numbers("feed_forward_length")),
    vocabulary: metadata.arrayLength("tokenizer.ggml.tokens"),
    heads,
    keys: perLayer(keyLength),
    values: latent ? perLayer(0) : perLayer(valueLength),
    recurrentState: recurrentState(number, width, heads),
  };
}

/** `n_embd_r` + `n_embd_s` of llama-hparams.cpp. */
function recurrentState(number: (key: string) => number, width: number, heads: number): number {
  const rwkv = number("wkv.head_size");
  if (rwkv > 0) return width * ((number("token_shift_count") || 2) + rwkv);
  const shortConvolution = number("shortconv.l_cache");
  if (shortConvolution > 0) return width * (shortConvolution - 1);
  const kernel = number("ssm.conv_kernel");
  const delta = number("kda.head_dim");
  if (delta > 0) return delta * heads * (3 * (kernel > 0 ? kernel - 1 : 3) + delta);
  const [inner, state] = [number("ssm.inner_size"), number("ssm.state_size")];
  return Math.max(0, kernel - 1) * (inner + 2 * number("ssm.group_count") * state) + state * inner;
}

/** Metadata by key, keys of the architecture without its prefix. Whatever is not of the kind asked for counts as absent. */
class Metadata {
  readonly architecture: string;
  readonly #values: ReadonlyMap<string, MetadataValue>;

  constructor(values: ReadonlyMap<string, MetadataValue>) {
    this.#values = values;
    this.architecture = this.text("general.architecture") ?? "";
  }

  text(key: string): string | null {
    const value = this.#values.get(key);
    return typeof value === "string" ? value : null;
  }

  general(key: string): MetadataValue | undefined {
    return this.#values.get(`general.${key}`);
  }

  /** A number ≥ 0 under its full key. */
  plain(key: string): number | null {
    const value = this.#values.get(key);
    return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
  }

  number(key: string): number | null {
    return this.plain(`${this.architecture}.${key}`);
  }

  /** The numbers of an array, or of a single value. */
  numbers(key: string): readonly number[] {
    const value = this.#values.get(`${this.architecture}.${key}`);
    const list = typeof value === "object" && value !== null ? value.numbers : [this.number(key) ?? -1];
    return list.filter((number) => Number.isFinite(number) && number >= 0);
  }

  arrayLength(key: string): number {
    const value = this.#values.get(key);
    return typeof value === "object" && value !== null ? value.length : 0;
  }
}
