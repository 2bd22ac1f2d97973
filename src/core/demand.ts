import type { Endpoint } from "./provider.ts";

/** What a call asks for, as far as limits and routing must know before it is answered. */
export interface Demand {
  readonly endpoint: Endpoint;
  /** As the caller wrote it; "" when it named none. */
  readonly model: string;
  readonly streamed: boolean;
  /** Tokens of the prompt, estimated. */
  readonly promptTokens: number;
  /** Most tokens of the answer: what the caller allows; undefined: it sets no bound. 0 where nothing is generated. */
  readonly outputTokens: number | undefined;
  /** Whether tools are offered to the model, and images are in the prompt. */
  readonly tools: boolean;
  readonly images: boolean;
}

/** Where the numbers of a call come from: the server's own usage; the server's tokenizer, asked afterwards; length by rule of thumb. */
export type Counted = "reported" | "tokenized" | "estimated";

/** What a call has really used. */
export interface TokenCount {
  readonly promptTokens: number;
  /** Those of the prompt that were not computed anew. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly counted: Counted;
}

/** Tokens of an answer for which a caller sets no bound: what is reserved until its end tells how many there were. */
export const usualOutput = 4096;
