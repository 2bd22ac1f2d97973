import type {
  ChatEvent,
  ChatRequest,
  CompletionRequest,
  EmbeddingRequest,
  Embeddings,
  FinishReason,
  RerankRequest,
  RerankResult,
  SourceFile,
  Timings,
  TokenLogprob,
  Usage,
} from "../../core/chat.ts";
import type { TokenizeOptions } from "../../core/engine.ts";
import type { ErrorCode } from "../../core/errors.ts";
import type { WorkReport } from "./process/pulse.ts";
import type { PackedEmbeddings } from "./embedding/vectors.ts";
import type { RequestDefaults, Sampling, WorkerSettings } from "./settings.ts";

/** A failure on its way between processes: what an `ApiError` is made of. */
export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly param?: string;
}

/** What is known of a model once it is loaded. */
export interface LoadedModel {
  readonly contextLength: number;
  readonly template: string | null;
  /** The template for chats with tools, of models that bring two. */
  readonly toolTemplate: string | null;
  /** The names of all control tokens, such as `<|im_start|>`. */
  readonly controlTexts: readonly string[];
  readonly bosText: string;
  readonly eosText: string;
  readonly addsBos: boolean;
  readonly use: "chat" | "embeddings" | "rerank";
  readonly release: string;
  readonly description: string;
  readonly devices: string[];
}

/** A question that has one answer. */
export type Query =
  | { readonly type: "embed"; readonly request: EmbeddingRequest }
  | { readonly type: "rerank"; readonly request: RerankRequest }
  | { readonly type: "apply-template"; readonly request: ChatRequest }
  | { readonly type: "tokenize"; readonly text: string; readonly options?: TokenizeOptions }
  | { readonly type: "pieces"; readonly tokens: number[] }
  | { readonly type: "detokenize"; readonly tokens: number[] };

/** What only the worker thread can answer. */
export type WorkerQuery = Exclude<Query, { readonly type: "apply-template" }>;

export interface Answers {
  embed: Embeddings;
  rerank: RerankResult;
  "apply-template": string;
  tokenize: number[];
  pieces: number[][];
  detokenize: string;
}

/** Answers on their way. */
export type Answer = Answers[keyof Answers] | PackedEmbeddings;

/** Parent → child process. */
export type ParentMessage =
  | { readonly type: "load"; readonly settings: WorkerSettings; readonly defaults: RequestDefaults }
  | { readonly type: "chat"; readonly id: number; readonly request: ChatRequest }
  | { readonly type: "complete"; readonly id: number; readonly request: CompletionRequest }
  | { readonly type: "query"; readonly id: number; readonly query: Query }
  | { readonly type: "abort"; readonly id: number }
  /** Answered at once by the main thread, if it lives. */
  | { readonly type: "ping" }
  | { readonly type: "stop" };

/** Child process → parent. */
export type ChildMessage =
  | { readonly type: "loading"; readonly permille: number }
  | { readonly type: "ready"; readonly model: LoadedModel }
  | { readonly type: "warning"; readonly message: string }
  | { readonly type: "load-failed"; readonly reason: "file" | "memory" | "library"; readonly message: string }
  | { readonly type: "events"; readonly events: [id: number, ChatEvent[]][] }
  | { readonly type: "answer"; readonly id: number; readonly answer: Answer }
  | { readonly type: "failed"; readonly id: number; readonly failure: Failure }
  | { readonly type: "pong"; readonly report: WorkReport };

/** Text to be generated: a chat or a completion after its prompt was rendered. */
export interface GenerateJob {
  readonly type: "generate";
  readonly id: number;
  readonly prompt: string | number[] | GapPrompt | PiecedPrompt;
  /** The request's field that holds the prompt, for errors. */
  readonly param: "messages" | "prompt";
  readonly sampling: Sampling;
  readonly maxTokens: number | null;
  readonly stop: string[];
  /** Alternatives for each token; null: no log probabilities. */
  readonly topLogprobs: number | null;
  /** Whether the log probabilities of the prompt's tokens are wanted too. */
  readonly promptLogprobs?: boolean;
  /** Control tokens that are part of the output's syntax; all others are left out of the text. */
  readonly preserved: string[];
  readonly grammar: Grammar | null;
  readonly session: string | null;
  /** Absent: `interactive`. */
  readonly priority?: "interactive" | "background" | undefined;
}

/** A text in pieces, each tokenised by itself: where two of them meet, no control token arises. */
export interface PiecedPrompt {
  readonly pieces: readonly string[];
}

/** A prompt whose answer stands between two texts. */
export interface GapPrompt {
  readonly prefix: string;
  readonly suffix: string;
  /** Other files of the project; null: none, and nothing may be cut to fit. */
  readonly files: readonly SourceFile[] | null;
}

/** A GBNF grammar with the rule `root`, and where in the output it begins. */
export interface Grammar {
  readonly text: string;
  /** The output may open with reasoning, which is free: the grammar rules what follows the closing tag. */
  readonly reasoning: { readonly open: string; readonly close: string; readonly opened: boolean } | null;
  /** The output is free until one of these texts; the grammar reads from there and, once it may end, lets go again. */
  readonly triggers?: readonly string[];
  /** After the first trigger nothing is free any more. */
  readonly once?: boolean;
}

/** Child process's main thread → its worker thread. */
export type WorkerMessage =
  | GenerateJob
  | { readonly type: "query"; readonly id: number; readonly query: WorkerQuery }
  | { readonly type: "abort"; readonly id: number }
  | { readonly type: "stop" };

/** What one step brought for one request. */
export type Output =
  | { readonly id: number; readonly type: "progress"; readonly event: ChatEvent & { type: "progress" } }
  | {
      readonly id: number;
      readonly type: "text";
      readonly text: string;
      readonly tokens: number;
      readonly logprobs?: TokenLogprob[];
      /** The log probabilities are the prompt's: of all its tokens, or of those after one that the model adds itself. */
      readonly prompt?: "all" | "rest";
    }
  | {
      readonly id: number;
      readonly type: "finish";
      readonly reason: FinishReason;
      /** The request's own string that ended the answer. */
      readonly stopSequence?: string;
      readonly usage: Usage;
      readonly timings?: Timings;
      /** Characters of the prompt before the first token that differs from what was cached. */
      readonly missOffset?: number;
    }
  | { readonly id: number; readonly type: "answer"; readonly answer: Answer }
  | { readonly id: number; readonly type: "failed"; readonly failure: Failure };

/** Worker thread → its main thread. Outputs of one step travel together. */
export type WorkerEvent =
  | { readonly type: "loading"; readonly permille: number }
  | { readonly type: "ready"; readonly model: LoadedModel }
  | { readonly type: "warning"; readonly message: string }
  | { readonly type: "load-failed"; readonly reason: "file" | "memory" | "library"; readonly message: string }
  | { readonly type: "outputs"; readonly outputs: Output[] }
  | { readonly type: "stopped" };

/** What a worker thread is started with. */
export interface WorkerStart {
  readonly settings: WorkerSettings;
  /** One byte that is set to break off the decode in progress; the worker clears it before every step. */
  readonly interrupt: SharedArrayBuffer;
  /** A `Pulse`. */
  readonly pulse: SharedArrayBuffer;
}
