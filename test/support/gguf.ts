import {
  type GgufContent,
  type GgufValue,
  type Tensor,
  type TensorType,
  tensorBytes,
} from "../../src/engines/gguf/gguf-writer.ts";
import { baseSpecials, byteCharacters, chatmlTemplate } from "../../src/engines/gguf/scripted-model.ts";

/** A small decoder of random weights: real arithmetic, meaningless words. */
export interface RandomDecoder {
  readonly architecture: "llama" | "qwen2";
  readonly layers?: number;
  readonly width?: number;
  /** Pairs, threes and fours of letters are added as tokens until the vocabulary has this size. */
  readonly vocabulary?: number;
  readonly type?: TensorType;
  /** Type of the token embeddings, which are the output weights too. Default: `type`. */
  readonly embeddingType?: TensorType;
  /** Default: twice `width`. */
  readonly feedForward?: number;
  /** Numbers in a head; `width` must be a multiple of it. Default 32. */
  readonly headSize?: number;
  /** Default: half the heads. */
  readonly keyValueHeads?: number;
  readonly contextLength?: number;
  readonly template?: string | null;
  /** llama.cpp's pooling type; makes it a model of embeddings. */
  readonly pooling?: number;
  readonly seed?: number;
}

/** A BERT of random weights: mean pooling, or with a head that ranks. */
export interface RandomBert {
  readonly rank?: boolean;
  readonly layers?: number;
  readonly width?: number;
  readonly heads?: number;
  readonly feedForward?: number;
  readonly type?: TensorType;
  readonly contextLength?: number;
  readonly seed?: number;
}

const defaultHeadSize = 32;

export function randomDecoder(options: RandomDecoder): GgufContent {
  const { architecture, layers = 2, width = 128, type = "f16", contextLength = 4096 } = options;
  const random = new Random(options.seed ?? 1);
  const tokens = bpeTokens(options.vocabulary ?? 1024);
  const headSize = options.headSize ?? defaultHeadSize;
  const heads = width / headSize;
  const keyValueHeads = options.keyValueHeads ?? heads / 2;
  const keyValueWidth = keyValueHeads * headSize;
  const feedForward = options.feedForward ?? width * 2;
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: architecture }],
    ["general.name", { type: "string", value: `${architecture}-random` }],
    ...numbers(architecture, {
      block_count: layers,
      context_length: contextLength,
      embedding_length: width,
      feed_forward_length: feedForward,
      "attention.head_count": heads,
      "attention.head_count_kv": keyValueHeads,
      "rope.dimension_count": headSize,
      ...(options.pooling === undefined ? {} : { pooling_type: options.pooling }),
    }),
    [`${architecture}.attention.layer_norm_rms_epsilon`, { type: "f32", value: 1e-6 }],
    ...bpeMetadata(tokens),
  ]);
  const template = options.template === undefined ? chatmlTemplate : options.template;
  if (template !== null) metadata.set("tokenizer.chat_template", { type: "string", value: template });
  const tensors: Tensor[] = [
    random.tensor("token_embd.weight", options.embeddingType ?? type, [width, tokens.all.length], 0.5),
    ones("output_norm.weight", width),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const name = (part: string): string => `blk.${layer}.${part}`;
    const matrix = (part: string, input: number, output: number): Tensor =>
      random.tensor(name(part), type, [input, output], 0.12);
    tensors.push(
      ones(name("attn_norm.weight"), width),
      matrix("attn_q.weight", width, width),
      matrix("attn_k.weight", width, keyValueWidth),
      matrix("attn_v.weight", width, keyValueWidth),
      matrix("attn_output.weight", width, width),
      ones(name("ffn_norm.weight"), width),
      matrix("ffn_gate.weight", width, feedForward),
      matrix("ffn_up.weight", width, feedForward),
      matrix("ffn_down.weight", feedForward, width),
    );
    if (architecture === "qwen2") {
      tensors.push(random.tensor(name("attn_q.bias"), "f32", [width], 0.1));
      tensors.push(
        random.tensor(name("attn_k.bias"), "f32", [keyValueWidth], 0.1),
        random.tensor(name("attn_v.bias"), "f32", [keyValueWidth], 0.1),
      );
    }
  }
  return { metadata, tensors };
}

export function randomBert(options: RandomBert = {}): GgufContent {
  const { layers = 2, width = 64, heads = 2, type = "f16" } = options;
  const feedForward = options.feedForward ?? width * 2;
  const contextLength = options.contextLength ?? 512;
  const random = new Random(options.seed ?? 1);
  const tokens = bertTokens();
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: "bert" }],
    ["general.name", { type: "string", value: "bert-random" }],
    ...numbers("bert", {
      block_count: layers,
      context_length: contextLength,
      embedding_length: width,
      feed_forward_length: feedForward,
      "attention.head_count": heads,
      pooling_type: options.rank === true ? 4 : 1,
    }),
    ["bert.attention.layer_norm_epsilon", { type: "f32", value: 1e-12 }],
    ["bert.attention.causal", { type: "bool", value: false }],
    ["tokenizer.ggml.model", { type: "string", value: "bert" }],
    ["tokenizer.ggml.pre", { type: "string", value: "jina-v2-en" }],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: tokens.map((_, id) => (id < 5 ? 3 : 1)) }],
    ...numbers("tokenizer.ggml", {
      token_type_count: 2,
      padding_token_id: 0,
      unknown_token_id: 1,
      bos_token_id: 2,
      eos_token_id: 3,
      seperator_token_id: 3,
      mask_token_id: 4,
    }),
  ]);
  if (options.rank === true) metadata.set("bert.classifier.output_labels", { type: "strings", value: ["LABEL_0"] });
  const norm = (name: string): Tensor[] => [ones(`${name}.weight`, width), zeros(`${name}.bias`, width)];
  const linear = (name: string, input: number, output: number): Tensor[] => [
    random.tensor(`${name}.weight`, type, [input, output], 0.15),
    random.tensor(`${name}.bias`, "f32", [output], 0.05),
  ];
  const tensors: Tensor[] = [
    random.tensor("token_embd.weight", type, [width, tokens.length], 1),
    random.tensor("position_embd.weight", "f32", [width, contextLength], 0.3),
    random.tensor("token_types.weight", "f32", [width, 2], 0.1),
    ...norm("token_embd_norm"),
  ];
  for (let layer = 0; layer < layers; layer++) {
    for (const part of ["attn_q", "attn_k", "attn_v", "attn_output"])
      tensors.push(...linear(`blk.${layer}.${part}`, width, width));
    tensors.push(...norm(`blk.${layer}.attn_output_norm`), ...linear(`blk.${layer}.ffn_up`, width, feedForward));
    tensors.push(...linear(`blk.${layer}.ffn_down`, feedForward, width), ...norm(`blk.${layer}.layer_output_norm`));
  }
  if (options.rank === true) tensors.push(...linear("cls", width, width), ...linear("cls.output", width, 1));
  return { metadata, tensors };
}

function numbers(prefix: string, values: Record<string, number>): [string, GgufValue][] {
  return Object.entries(values).map(([key, value]) => [`${prefix}.${key}`, { type: "u32", value }]);
}

interface BpeTokens {
  readonly all: string[];
  readonly merges: string[];
}

/** Prefixes of the last row of tokens: more than a real vocabulary has. */
const longestRow = 1e6;
const letters = [..."etaoinshrdlcumwfgypbvkjxqz"];

function bpeTokens(size: number): BpeTokens {
  const all = byteCharacters();
  const merges: string[] = [];
  const room = size - baseSpecials.length;
  const space = byteCharacters()[32] ?? " ";
  const firsts = [space, ...letters];
  // Longer tokens merge shorter ones, as in a real vocabulary: pairs, then threes, then fours.
  let prefixes = firsts;
  while (all.length < room && prefixes.length < longestRow) {
    const longer: string[] = [];
    for (const prefix of prefixes) {
      for (const letter of letters) {
        if (all.length >= room) break;
        longer.push(prefix + letter);
        all.push(prefix + letter);
        merges.push(`${prefix} ${letter}`);
      }
    }
    prefixes = longer;
  }
  return { all: [...all, ...baseSpecials], merges };
}

function bpeMetadata({ all, merges }: BpeTokens): [string, GgufValue][] {
  const special = (text: string): number => all.indexOf(text);
  return [
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: "qwen2" }],
    ["tokenizer.ggml.tokens", { type: "strings", value: all }],
    [
      "tokenizer.ggml.token_type",
      { type: "i32s", value: all.map((_, id) => (id >= all.length - baseSpecials.length ? 3 : 1)) },
    ],
    ["tokenizer.ggml.merges", { type: "strings", value: merges }],
    ...numbers("tokenizer.ggml", { bos_token_id: special("<|endoftext|>"), eos_token_id: special("<|im_end|>") }),
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: false }],
  ];
}

function bertTokens(): string[] {
  const tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
  for (const character of [...letters, ..."0123456789.,:;!?'-"]) tokens.push(`\u2581${character}`, character);
  for (const first of letters) for (const second of letters) tokens.push(`\u2581${first}${second}`, first + second);
  return tokens;
}

/** xorshift32: the same seed gives the same file. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761) >>> 0 || 1;
  }

  next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) / 4294967296;
  }

  tensor(name: string, type: TensorType, shape: readonly number[], spread: number): Tensor {
    return {
      name,
      type,
      shape,
      fill: (bytes) =>
        type === "f32" || type === "f16" ? this.#floats(type, bytes, spread) : this.#blocks(type, bytes, spread),
    };
  }

  #floats(type: "f32" | "f16", bytes: number, spread: number): Uint8Array {
    const out = Buffer.alloc(bytes);
    const size = type === "f32" ? 4 : 2;
    for (let at = 0; at < bytes; at += size) {
      const value = (this.next() + this.next() + this.next() - 1.5) * 2 * spread;
      if (type === "f32") out.writeFloatLE(value, at);
      else out.writeUInt16LE(toHalf(value), at);
    }
    return out;
  }

  /** Quantised blocks: a scale, then random weights. */
  #blocks(type: "q8_0" | "q4_0", bytes: number, spread: number): Uint8Array {
    const out = Buffer.alloc(bytes);
    for (let at = 0; at < bytes; at++) out[at] = Math.floor(this.next() * 256);
    const [size, scale] = type === "q8_0" ? [34, spread / 74] : [18, spread / 4.6];
    for (let at = 0; at < bytes; at += size) out.writeUInt16LE(toHalf(scale), at);
    return out;
  }
}

/** IEEE half precision, cut off instead of rounded. */
function toHalf(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 0xff) - 112;
  if (exponent <= 0) return sign;
  return exponent >= 31 ? sign | 0x7c00 : sign | (exponent << 10) | ((bits & 0x7fffff) >>> 13);
}

export function ones(name: string, length: number): Tensor {
  const bytes = Buffer.from(new Float32Array(length).fill(1).buffer);
  return { name, type: "f32", shape: [length], fill: () => bytes };
}

export function zeros(name: string, length: number): Tensor {
  return { name, type: "f32", shape: [length], fill: () => Buffer.alloc(tensorBytes("f32", [length])) };
}

/** The model with its last token named as its first: llama.cpp ends the process on such a vocabulary. */
export function withTwinTokens(content: GgufContent): GgufContent {
  const metadata = new Map(content.metadata);
  const tokens = metadata.get("tokenizer.ggml.tokens");
  if (tokens?.type !== "strings") throw new Error("no tokens");
  metadata.set("tokenizer.ggml.tokens", { type: "strings", value: tokens.value.with(-1, tokens.value[0] ?? "") });
  return { ...content, metadata };
}
