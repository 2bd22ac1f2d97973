import type { JsonObject } from "./json.ts";
import type { SamplerName } from "./sampler-names.ts";

export interface TextPart {
  readonly type: "text";
  readonly text: string;
}
/** An image as bytes: URLs are refused at the door, for fetching them would let callers reach into the local network. */
export interface ImagePart {
  readonly type: "image";
  /** e.g. `image/png` */
  readonly mediaType: string;
  readonly base64: string;
}
export type Part = TextPart | ImagePart;

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON text, as the model wrote it; may be broken in a history. */
  readonly arguments: string;
}

export type Message =
  | { readonly role: "system" | "developer"; readonly content: Part[] }
  | { readonly role: "user"; readonly content: Part[]; readonly name?: string }
  | {
      readonly role: "assistant";
      readonly content: Part[];
      readonly reasoning?: string;
      readonly toolCalls: ToolCall[];
    }
  | { readonly role: "tool"; readonly content: Part[]; readonly toolCallId: string; readonly name?: string };

export interface Tool {
  readonly name: string;
  readonly description?: string;
  /** JSON Schema of the arguments object. */
  readonly parameters: JsonObject;
  readonly strict?: boolean;
}

export type ToolChoice = "auto" | "none" | "required" | { readonly name: string };

export type ResponseFormat =
  | { readonly type: "text" }
  | { readonly type: "json" }
  | { readonly type: "json-schema"; readonly name: string; readonly schema: JsonObject; readonly strict?: boolean }
  /** GBNF, llama.cpp's own notation, with the rule `root`. */
  | { readonly type: "grammar"; readonly grammar: string }
  /** An ECMA-262 regular expression of the whole answer. */
  | { readonly type: "regex"; readonly pattern: string }
  | { readonly type: "choice"; readonly choices: readonly string[] };

/** Sampling beyond OpenAI's fields, as llama-server has it. Engines leave out what they do not know. */
export interface ExtendedSampling {
  /** Tokens that the penalties look back on; 0 is none, −1 the whole context. */
  readonly repeatLastN?: number;
  /** Locally typical sampling: the total probability that is kept; 1 is off. */
  readonly typicalP?: number;
  /** Standard deviations below the highest logit that are kept; 0 or less is off. */
  readonly topNSigma?: number;
  /** XTC removes, with this probability, every token at or above the threshold but the least likely of them. */
  readonly xtcProbability?: number;
  readonly xtcThreshold?: number;
  /** DRY: a token that would continue a repetition longer than `dryAllowedLength` loses multiplier · base^(excess). 0 is off. */
  readonly dryMultiplier?: number;
  readonly dryBase?: number;
  readonly dryAllowedLength?: number;
  /** As `repeatLastN`. */
  readonly dryPenaltyLastN?: number;
  readonly drySequenceBreakers?: string[];
  /** The temperature moves within ± this range with the entropy; 0 is off. */
  readonly dynatempRange?: number;
  readonly dynatempExponent?: number;
  /** 0 is off; 1 and 2 are the versions, which take the place of all filters. */
  readonly mirostat?: number;
  readonly mirostatTau?: number;
  readonly mirostatEta?: number;
  /** Tokens that every filter leaves at least. */
  readonly minKeep?: number;
  /** The filters in their order; those not named are off. */
  readonly samplers?: SamplerName[];
  /** Tokens before which an answer does not end by itself. */
  readonly minTokens?: number;
  /** An answer never ends by itself. */
  readonly ignoreEos?: boolean;
  /** Most tokens drafted ahead at a time; 0 drafts none. */
  readonly draftMax?: number;
}

/** A chat request as every dialect can say it. Absent means: the provider's own default. */
export interface ChatRequest extends ExtendedSampling {
  /** The model's id at the provider. */
  readonly model: string;
  readonly messages: Message[];
  readonly tools: Tool[];
  /** `none` when there are no tools. */
  readonly toolChoice: ToolChoice;
  readonly parallelToolCalls: boolean;
  readonly responseFormat: ResponseFormat;
  readonly stream: boolean;
  /** Number of answers, ≥ 1. An engine gives one; `fromEngine` asks it n times. */
  readonly n: number;
  readonly stop: string[];
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly seed?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly repeatPenalty?: number;
  /** Token id → bias, −100 … 100. */
  readonly logitBias?: Readonly<Record<string, number>>;
  /** Present: log probabilities are asked for, with this many alternatives for each token (0 … 20). */
  readonly topLogprobs?: number;
  /** `none` switches thinking off; others as OpenAI names them (`minimal` … `xhigh`), sent on or mapped by the provider. */
  readonly reasoningEffort?: string;
  /** Variables for the model's own chat template (`chat_template_kwargs`). */
  readonly templateVariables?: JsonObject;
  /** Oldest turns may be left out where the conversation does not fit. Absent: then it is refused. */
  readonly truncation?: "auto";
  /** Requests of one session share a prompt prefix: a key for slot affinity. */
  readonly session?: string;
  /** `background` waits behind every `interactive` request. Absent: `interactive`. */
  readonly priority?: "interactive" | "background";
  /** Seconds that the model stays in memory after this request; 0 unloads it at once, −1 keeps it. */
  readonly keepAlive?: number;
  /** Fields of the request that no dialect of ours knows; for providers whose wire may know them. */
  readonly extra: JsonObject;
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens that came from a cache; absent when the provider does not tell. */
  readonly cachedTokens?: number;
  readonly reasoningTokens?: number;
  /** Drafted tokens of speculative decoding that the model agreed to, and those that it did not. */
  readonly acceptedDraftTokens?: number;
  readonly rejectedDraftTokens?: number;
}

/** Where the time of an answer went, and why its prompt was not found in the cache. */
export interface Timings {
  /** Milliseconds from the start of the prompt to the first token, and from there to the end. */
  readonly promptMs: number;
  readonly completionMs: number;
  /** Milliseconds in the queue before. */
  readonly queuedMs: number;
  readonly cacheMiss?: CacheMiss;
}

/** The first place where a prompt differs from what the cache holds. */
export interface CacheMiss {
  /** `new`: nothing like it was cached. `changed`: the prompt differs at `position`. `cannot-rewind`: the model's memory cannot go back. */
  readonly reason: "new" | "changed" | "cannot-rewind";
  /** Index of the first token that differs. */
  readonly position: number;
  readonly cached?: string;
  readonly found?: string;
  /** Index of the message in the request that holds it; absent where it is not in a message (tools, template). */
  readonly message?: number;
}

export interface TokenLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: number[] | null;
  readonly top: { readonly token: string; readonly logprob: number; readonly bytes: number[] | null }[];
}

export type FinishReason = "stop" | "length" | "tool-calls" | "content-filter";

/**
 * What an engine says while it works: flat deltas. Exactly one `finish` ends a chat; a failure is thrown by the
 * iterable, never yielded. Which block of which dialect is open is the encoder's business.
 */
export type ChatEvent =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "reasoning"; readonly text: string; readonly signature?: string }
  /** `id` and `name` come with the first event of an `index` (from 0); `arguments` are fragments of JSON text. */
  | {
      readonly type: "tool-call";
      readonly index: number;
      readonly id?: string;
      readonly name?: string;
      readonly arguments: string;
    }
  /** Of the text that follows or has just been said; independent of how events cut the text. */
  | {
      readonly type: "logprobs";
      readonly tokens: TokenLogprob[];
      /** They are the prompt's: `all` of it, whose first token had nothing before it (its own is 0), or the `rest` after a token that is not in the text. */
      readonly prompt?: "all" | "rest";
    }
  /**
   * Before the first token. `position`: requests ahead (queued). `done` of `total`: tokens (prefill) or permille (loading).
   * And `calling`, at any time: a tool call is being written that goes on when it is whole.
   */
  | {
      readonly type: "progress";
      readonly phase: "queued" | "loading" | "prefill" | "calling";
      readonly position?: number;
      readonly done?: number;
      readonly total?: number;
      /** Nothing that the request says can be wrong any more: only the work itself can fail. */
      readonly accepted?: true;
    }
  | {
      readonly type: "finish";
      readonly reason: FinishReason;
      /** Of a `stop`: the request's own string that ended the answer, where the engine tells. */
      readonly stopSequence?: string;
      readonly usage: Usage;
      readonly timings?: Timings;
    };

/** How tokens are chosen and when they end: what chats and text completions share. */
export type SamplingRequest = Pick<
  ChatRequest,
  | "stop"
  | "maxTokens"
  | "temperature"
  | "topP"
  | "topK"
  | "minP"
  | "seed"
  | "presencePenalty"
  | "frequencyPenalty"
  | "repeatPenalty"
  | "logitBias"
  | keyof ExtendedSampling
>;

/** A text completion (`/v1/completions`): a raw prompt, no template. */
export interface CompletionRequest
  extends SamplingRequest, Pick<ChatRequest, "model" | "topLogprobs" | "keepAlive" | "priority" | "extra"> {
  /** Text, or token ids. */
  readonly prompt: string | number[];
  /** What comes after the gap that is to be filled. */
  readonly suffix?: string;
  readonly responseFormat?: ResponseFormat;
  /** Other files of the project. Present, even if none: text that does not fit may be cut far from the gap. */
  readonly files?: SourceFile[];
  /** Where `topLogprobs` is present: log probabilities of the prompt's tokens as well. */
  readonly promptLogprobs?: boolean;
}

/** A file, or a piece of one, that a completion may look at. */
export interface SourceFile {
  readonly name: string;
  readonly text: string;
}

export interface EmbeddingRequest {
  readonly model: string;
  /** Texts, or token ids where the engine can. */
  readonly input: (string | number[])[];
  readonly dimensions?: number;
  /** Inputs beyond the model's context are cut at their end instead of refused, where the provider can. Default false. */
  readonly truncate?: boolean;
  /** As of a chat. */
  readonly keepAlive?: number;
}
export interface Embeddings {
  /** One vector for each input, in its order. */
  readonly vectors: number[][];
  readonly promptTokens: number;
}

export interface RerankRequest {
  readonly model: string;
  readonly query: string;
  readonly documents: string[];
}
export interface RerankResult {
  /** One relevance for each document, in its order; higher is nearer. */
  readonly scores: number[];
  readonly promptTokens: number;
}
