import type { LlamaLibrary } from "./binding.ts";
import type { ThreadPoolHandle } from "./declarations.ts";
import { NativeContext } from "./native-context.ts";
import { ModelError, type NativeModel, contextParams } from "./native-model.ts";
import type { WorkerSettings } from "../settings.ts";

/** Rows besides the streams' own whose logits one step may want: a prompt's, where its probabilities are asked for. */
const scoredRows = 64;

/** llama.cpp reads its byte for as long as the context lives, and V8 knows nothing of that. */
const interrupts = new WeakMap<NativeContext, SharedArrayBuffer>();

/** What a chat's context is made of. */
export interface ContextPlan {
  readonly settings: WorkerSettings;
  /** Tokens of one sequence. */
  readonly contextLength: number;
  /** One byte that breaks off the decode in progress while it is set. */
  readonly interrupt: SharedArrayBuffer;
  /** Most tokens guessed ahead in one step. Default 0. */
  readonly drafts?: number;
  /** Compute threads that it shares with another context. Default: its own. */
  readonly pool?: ThreadPoolHandle | null;
}

/** A context with a sequence and a KV cache of its own for each session. Throws `ModelError`. */
export function openContext(model: NativeModel, plan: ContextPlan): NativeContext {
  const { settings, contextLength, interrupt, drafts = 0 } = plan;
  const { library } = model;
  const params = contextParams(library, settings);
  params.n_ctx = contextLength * settings.maxSessions;
  params.n_seq_max = settings.maxSessions;
  params.n_batch = Math.max(settings.batchSize, settings.maxSessions + drafts);
  params.n_ubatch = Math.min(settings.ubatchSize, params.n_batch);
  params.n_outputs_max = settings.maxSessions + Math.max(drafts, scoredRows);
  // A window's worth of tokens for layers that look back no further: checkpoints do what the full cache would.
  params.swa_full = false;
  const { functions } = library;
  const recurrent = functions.llama_model_is_recurrent(model.handle) || functions.llama_model_is_hybrid(model.handle);
  // Broken off in the middle, a recurrent memory is lost, that of the streams in the same batch too.
  if (library.byteIsSet !== null && !recurrent) {
    params.abort_callback = library.byteIsSet;
    params.abort_callback_data = library.addressOf(new Uint8Array(interrupt));
  }
  const context = new NativeContext(model, params);
  interrupts.set(context, interrupt);
  if (context.sequenceLength < contextLength)
    throw new ModelError("memory", `llama.cpp gave a context of ${context.sequenceLength} tokens only`);
  const { pool = createPool(library, settings) } = plan;
  if (pool !== null) functions.llama_attach_threadpool(context.handle, pool, pool);
  return context;
}

/** A persistent pool of the threads that a context computes with; null where there is none. */
export function createPool(library: LlamaLibrary, { threads, threadsBatch }: WorkerSettings): ThreadPoolHandle | null {
  return library.createThreadPool(Math.max(threads, threadsBatch));
}
