import { type GgufContent, type GgufValue, type Tensor, tensorBytes } from "./gguf-writer.ts";

/** What a scripted model says after one particular last token of the prompt. */
export interface Script {
  /** The prompt's last token that starts this script: one of `specials`, or a single byte such as "\n". */
  readonly after: string;
  /**
   * The text to say. Given as pieces, each is one token: one of `specials`, or one of its own (at least two bytes; bytes
   * may be half a UTF-8 character).
   */
  readonly say: string | readonly (string | Uint8Array)[];
}

export interface ScriptedModel {
  readonly scripts: readonly Script[];
  /** Further control tokens, e.g. `<|step1|>`; `<|endoftext|>`, `<|im_start|>` and `<|im_end|>` are always there. */
  readonly specials?: readonly string[];
  /** Jinja source of `tokenizer.chat_template`; null leaves it out. Default: ChatML. */
  readonly template?: string | null;
  readonly name?: string;
  readonly contextLength?: number;
}

/** The plain ChatML chat template, as most small models carry it. */
export const chatmlTemplate =
  "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}" +
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/** Control tokens that every generated vocabulary has. */
export const baseSpecials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] as const;

/**
 * A real GGUF that llama.cpp runs and that always says the same: embeddings are one-hot and attention and feed-forward
 * weights are zero, so that the next token is a function of the current token alone. Of several scripts the prompt's
 * last token chooses one; a chat template that ends the prompt with another special token for each number of tool
 * results thus plays a task of many steps. Any other last token starts the first script.
 */
export function scriptedModel(model: ScriptedModel): GgufContent {
  const vocabulary = new ScriptVocabulary([...baseSpecials, ...(model.specials ?? [])]);
  const next = new Map<number, number>();
  const endOfTurn = vocabulary.special("<|im_end|>");
  const starts: number[] = [];
  for (const script of model.scripts) {
    const path = vocabulary.addScript(script.say);
    if (path[0] !== undefined) starts.push(path[0]);
    let current = vocabulary.startToken(script.after);
    for (const token of [...path, endOfTurn]) {
      next.set(current, token);
      current = token;
    }
  }
  const fallback = starts[0] ?? endOfTurn;
  for (let token = 0; token < vocabulary.size; token++) if (!next.has(token)) next.set(token, fallback);
  next.delete(endOfTurn);
  return oneHotDecoder(model, vocabulary, next);
}

/** GPT-2's reversible map of bytes to printable characters, in which byte-level BPE vocabularies are written. */
export function byteCharacters(): string[] {
  const characters: string[] = [];
  let shifted = 0;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    characters.push(String.fromCharCode(printable ? byte : 256 + shifted++));
  }
  return characters;
}

class ScriptVocabulary {
  readonly tokens: string[];
  readonly types: number[];
  readonly specials: readonly string[];
  readonly #ids = new Map<string, number>();
  readonly #characters = byteCharacters();

  constructor(specials: readonly string[]) {
    this.specials = specials;
    this.tokens = [...this.#characters, ...specials];
    // llama.h: 1 = NORMAL, 3 = CONTROL.
    this.types = this.tokens.map((_, id) => (id < 256 ? 1 : 3));
    for (const [id, token] of this.tokens.entries()) this.#ids.set(token, id);
  }

  get size(): number {
    return this.tokens.length;
  }

  special(text: string): number {
    const id = this.specials.indexOf(text);
    if (id < 0) throw new Error(`${text} is not among the special tokens`);
    return 256 + id;
  }

  startToken(after: string): number {
    const bytes = Buffer.from(after);
    return bytes.length === 1 && bytes[0] !== undefined ? bytes[0] : this.special(after);
  }

  addScript(say: Script["say"]): number[] {
    if (typeof say === "string") return this.#addText(Buffer.from(say));
    return say.map((piece) =>
      typeof piece === "string" && this.specials.includes(piece)
        ? this.special(piece)
        : this.#add(this.#encode(Buffer.from(piece as string))),
    );
  }

  /** Pieces are the states of the script, so each may occur only once: a text is cut where that holds. */
  #addText(bytes: Buffer): number[] {
    const pieces = this.#cut(bytes, /[\s{}"',.:;/]/) ?? this.#cut(bytes, /[^]/);
    if (pieces === null) throw new Error(`the text ${JSON.stringify(bytes.toString())} cannot be cut into new pieces`);
    return pieces.map((piece) => this.#add(piece));
  }

  /** Pieces that end before a byte matching `boundary`; null when they cannot be new ones. */
  #cut(bytes: Buffer, boundary: RegExp): string[] | null {
    const cuts: Buffer[] = [];
    const isNew = (piece: Buffer): boolean =>
      piece.length > 1 && !this.#ids.has(this.#encode(piece)) && !cuts.some((cut) => cut.equals(piece));
    let start = 0;
    for (let end = 2; end <= bytes.length; end++) {
      const mayEnd = end === bytes.length || boundary.test(String.fromCharCode(bytes[end] ?? 0));
      if (!mayEnd || !isNew(bytes.subarray(start, end))) continue;
      cuts.push(bytes.subarray(start, end));
      start = end;
    }
    // What is left over goes to the piece before it, and that one too if the two together exist already.
    while (start < bytes.length) {
      const last = cuts.pop();
      if (last === undefined) return null;
      start -= last.length;
      if (!isNew(bytes.subarray(start))) continue;
      cuts.push(bytes.subarray(start));
      break;
    }
    return cuts.map((cut) => this.#encode(cut));
  }

  #encode(bytes: Uint8Array): string {
    return Array.from(bytes, (byte) => this.#characters[byte]).join("");
  }

  #add(token: string): number {
    if (this.#ids.has(token))
      throw new Error(`the piece ${JSON.stringify(token)} occurs twice; a scripted model needs unique pieces`);
    const id = this.tokens.length;
    this.tokens.push(token);
    this.types.push(1);
    this.#ids.set(token, id);
    return id;
  }
}

function oneHotDecoder(model: ScriptedModel, vocabulary: ScriptVocabulary, next: Map<number, number>): GgufContent {
  const headSize = 64;
  const feedForward = 32;
  const width = Math.ceil(vocabulary.size / headSize) * headSize;
  const string = (value: string): GgufValue => ({ type: "string", value });
  const u32 = (value: number): GgufValue => ({ type: "u32", value });
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", string("llama")],
    ["general.name", string(model.name ?? "scripted")],
    ["general.type", string("model")],
    ["general.file_type", u32(1)],
    ["llama.block_count", u32(1)],
    ["llama.context_length", u32(model.contextLength ?? 8192)],
    ["llama.embedding_length", u32(width)],
    ["llama.feed_forward_length", u32(feedForward)],
    ["llama.attention.head_count", u32(1)],
    ["llama.attention.head_count_kv", u32(1)],
    ["llama.attention.key_length", u32(headSize)],
    ["llama.attention.value_length", u32(headSize)],
    ["llama.rope.dimension_count", u32(headSize)],
    ["llama.rope.freq_base", { type: "f32", value: 10000 }],
    ["llama.attention.layer_norm_rms_epsilon", { type: "f32", value: 1e-6 }],
    ["llama.vocab_size", u32(vocabulary.size)],
    ["tokenizer.ggml.model", string("gpt2")],
    ["tokenizer.ggml.pre", string("qwen2")],
    ["tokenizer.ggml.tokens", { type: "strings", value: vocabulary.tokens }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: vocabulary.types }],
    ["tokenizer.ggml.merges", { type: "strings", value: ["Ġ Ġ"] }],
    ["tokenizer.ggml.bos_token_id", u32(vocabulary.special("<|endoftext|>"))],
    ["tokenizer.ggml.eos_token_id", u32(vocabulary.special("<|im_end|>"))],
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: false }],
  ]);
  const template = model.template === undefined ? chatmlTemplate : model.template;
  if (template !== null) metadata.set("tokenizer.chat_template", string(template));
  const identity = new Map(vocabulary.tokens.map((_, id) => [id, id]));
  const zero = (name: string, ...shape: number[]): Tensor => ({
    name,
    type: "f16",
    shape,
    fill: (bytes) => Buffer.alloc(bytes),
  });
  return {
    metadata,
    tensors: [
      oneHot("token_embd.weight", width, vocabulary.size, { ones: identity, value: 1 }),
      // Normalised to √width by the output norm; the factor keeps every other token improbable at any temperature.
      oneHot("output.weight", width, vocabulary.size, { ones: inverted(next), value: 8 }),
      ones("output_norm.weight", width),
      ones("blk.0.attn_norm.weight", width),
      zero("blk.0.attn_q.weight", width, headSize),
      zero("blk.0.attn_k.weight", width, headSize),
      zero("blk.0.attn_v.weight", width, headSize),
      zero("blk.0.attn_output.weight", headSize, width),
      ones("blk.0.ffn_norm.weight", width),
      zero("blk.0.ffn_gate.weight", width, feedForward),
      zero("blk.0.ffn_up.weight", width, feedForward),
      zero("blk.0.ffn_down.weight", feedForward, width),
    ],
  };
}

/** Row → columns that hold the value. */
function inverted(next: Map<number, number>): Map<number, number[]> {
  const rows = new Map<number, number[]>();
  for (const [from, to] of next) rows.set(to, [...(rows.get(to) ?? []), from]);
  return rows;
}

function oneHot(
  name: string,
  width: number,
  rows: number,
  content: { ones: Map<number, number | number[]>; value: 1 | 8 },
): Tensor {
  // IEEE half precision: 1.0 = 0x3c00, 8.0 = 0x4800.
  const half = content.value === 1 ? 0x3c00 : 0x4800;
  const fill = (bytes: number): Uint8Array => {
    const weights = Buffer.alloc(bytes);
    for (const [row, columns] of content.ones) {
      for (const column of [columns].flat()) weights.writeUInt16LE(half, (row * width + column) * 2);
    }
    return weights;
  };
  return { name, type: "f16", shape: [width, rows], fill };
}

function ones(name: string, length: number): Tensor {
  const fill = (): Uint8Array => {
    const weights = Buffer.alloc(tensorBytes("f32", [length]));
    for (let index = 0; index < length; index++) weights.writeFloatLE(1, index * 4);
    return weights;
  };
  return { name, type: "f32", shape: [length], fill };
}
