import type { LlamaFunctions, SamplerHandle } from "./declarations.ts";

/** One sampler, made with telling arguments, and what it must make of four tokens with the logits 1, 2, 3 and 4. */
interface Case {
  readonly name: keyof LlamaFunctions;
  readonly make: (functions: LlamaFunctions) => SamplerHandle;
  /** Tokens said before. */
  readonly said?: readonly number[];
  /** The logit of each token afterwards; null: it is out. */
  readonly logits?: readonly (number | null)[];
  readonly selects?: number | "any";
}

const untouched = [1, 2, 3, 4];

/**
 * Each argument of each sampler changes the outcome, so that one that is missing, added or moved shows. The likeliest
 * token has 0.64, the others 0.24, 0.09 and 0.03.
 */
const cases: readonly Case[] = [
  { name: "llama_sampler_init_greedy", make: (f) => f.llama_sampler_init_greedy(), selects: 3 },
  { name: "llama_sampler_init_dist", make: (f) => f.llama_sampler_init_dist(1), selects: "any" },
  { name: "llama_sampler_init_top_k", make: (f) => f.llama_sampler_init_top_k(2), logits: [null, null, 3, 4] },
  { name: "llama_sampler_init_top_p", make: (f) => f.llama_sampler_init_top_p(0.6, 1), logits: [null, null, null, 4] },
  { name: "llama_sampler_init_top_p", make: (f) => f.llama_sampler_init_top_p(0.6, 2), logits: [null, null, 3, 4] },
  { name: "llama_sampler_init_min_p", make: (f) => f.llama_sampler_init_min_p(0.5, 1), logits: [null, null, null, 4] },
  { name: "llama_sampler_init_min_p", make: (f) => f.llama_sampler_init_min_p(0.5, 3), logits: [null, 2, 3, 4] },
  { name: "llama_sampler_init_temp", make: (f) => f.llama_sampler_init_temp(2), logits: [0.5, 1, 1.5, 2] },
  {
    name: "llama_sampler_init_temp_ext",
    make: (f) => f.llama_sampler_init_temp_ext(2, 0, 1),
    logits: [0.5, 1, 1.5, 2],
  },
  {
    name: "llama_sampler_init_top_n_sigma",
    make: (f) => f.llama_sampler_init_top_n_sigma(1),
    logits: [null, null, 3, 4],
  },
  { name: "llama_sampler_init_xtc", make: (f) => f.llama_sampler_init_xtc(1, 0.1, 1, 1), logits: [1, 2, 3, null] },
  { name: "llama_sampler_init_xtc", make: (f) => f.llama_sampler_init_xtc(1, 0.1, 4, 1), logits: untouched },
  { name: "llama_sampler_init_mirostat", make: (f) => f.llama_sampler_init_mirostat(4, 1, 5, 0.1, 3), selects: "any" },
  { name: "llama_sampler_init_mirostat_v2", make: (f) => f.llama_sampler_init_mirostat_v2(1, 5, 0.1), selects: "any" },
  {
    // Without the leading vocabulary size, as it once was, 4 would be how far it looks back.
    name: "llama_sampler_init_penalties",
    make: (f) => f.llama_sampler_init_penalties(4, 64, 2, 0, 0),
    said: [1, 0, 0, 0, 0],
    logits: [0.5, 1, 3, 4],
  },
  {
    name: "llama_sampler_init_penalties",
    make: (f) => f.llama_sampler_init_penalties(4, 64, 1, 0.5, 0.25),
    said: [1, 1],
    logits: [1, 0.75, 3, 4],
  },
  {
    name: "llama_sampler_init_logit_bias",
    make: (f) => f.llama_sampler_init_logit_bias(4, 1, biasOf(2, 5)),
    logits: [1, 2, 8, 4],
  },
];

/** Names of the samplers that do otherwise than their declared parameters say. Takes a fraction of a millisecond. */
export function brokenSamplers(
  functions: LlamaFunctions,
  allocate: (bytes: number) => { readonly address: bigint; readonly buffer: ArrayBuffer },
): string[] {
  const candidates = new FourCandidates(allocate);
  const broken = cases.filter((one) => !holds(functions, candidates, one));
  return [...new Set(broken.map(({ name }) => name))];
}

function holds(functions: LlamaFunctions, candidates: FourCandidates, one: Case): boolean {
  const sampler = one.make(functions);
  for (const token of one.said ?? []) functions.llama_sampler_accept(sampler, token);
  candidates.fill();
  functions.llama_sampler_apply(sampler, candidates.address);
  functions.llama_sampler_free(sampler);
  if (one.selects !== undefined) {
    const selected = candidates.selected();
    return one.selects === "any" ? selected !== null : selected === one.selects;
  }
  const logits = candidates.logits();
  return (one.logits ?? []).every((expected, token) => {
    const found = logits[token] ?? null;
    return expected === null || found === null ? expected === found : Math.abs(found - expected) < 1e-4;
  });
}

/** `llama_logit_bias`: int32 token, float bias. */
function biasOf(token: number, bias: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeInt32LE(token, 0);
  bytes.writeFloatLE(bias, 4);
  return bytes;
}

/** A `llama_token_data_array` of four `llama_token_data`. Samplers sort and cut it in place. */
class FourCandidates {
  readonly address: bigint;
  readonly #entries: DataView;
  readonly #entriesAddress: bigint;
  readonly #header: DataView;

  constructor(allocate: (bytes: number) => { readonly address: bigint; readonly buffer: ArrayBuffer }) {
    const entries = allocate(4 * 12);
    const header = allocate(32);
    this.#entries = new DataView(entries.buffer);
    this.#entriesAddress = entries.address;
    this.#header = new DataView(header.buffer);
    this.address = header.address;
  }

  fill(): void {
    for (const [token, logit] of untouched.entries()) {
      this.#entries.setInt32(token * 12, token, true);
      this.#entries.setFloat32(token * 12 + 4, logit, true);
      this.#entries.setFloat32(token * 12 + 8, 0, true);
    }
    this.#header.setBigUint64(0, this.#entriesAddress, true);
    this.#header.setBigUint64(8, 4n, true);
    this.#header.setBigInt64(16, -1n, true);
    this.#header.setBigUint64(24, 0n, true);
  }

  /** The logit of each token that is still in, by token. */
  logits(): (number | undefined)[] {
    const found: (number | undefined)[] = [];
    for (let index = 0; index < this.#size(); index++) {
      const { token, logit } = this.#entry(index);
      if (logit !== -Infinity) found[token] = logit;
    }
    return found;
  }

  /** The chosen token, or null. */
  selected(): number | null {
    const index = Number(this.#header.getBigInt64(16, true));
    return index < 0 || index >= this.#size() ? null : this.#entry(index).token;
  }

  #entry(index: number): { token: number; logit: number } {
    const at = (this.#start() + index) * 12;
    return { token: this.#entries.getInt32(at, true), logit: this.#entries.getFloat32(at + 4, true) };
  }

  /** Entries that a sampler cut off at the front, which it does by moving the pointer. Elsewhere: none is left. */
  #start(): number {
    const offset = Number(this.#header.getBigUint64(0, true) - this.#entriesAddress) / 12;
    return Number.isInteger(offset) && offset >= 0 && offset <= 4 ? offset : 4;
  }

  #size(): number {
    return Math.min(4 - this.#start(), Number(this.#header.getBigUint64(8, true)));
  }
}
