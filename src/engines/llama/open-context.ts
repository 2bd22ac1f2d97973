import { NativeContext } from "./native-context.ts";
import { ModelError, type NativeModel, contextParams } from "./native-model.ts";
import type { WorkerSettings } from "./settings.ts";

/** Rows of one stream in one step whose logits are wanted. */
const rowsPerStream = 1;

/** What a chat's context is made of. */
export interface ContextPlan {
  readonly settings: WorkerSettings;
  /** Tokens of one sequence. */
  readonly contextLength: number;
  /** One byte that breaks off the decode in progress while it is set. */
  readonly interrupt: SharedArrayBuffer;
}

/** A context with a sequence and a KV cache of its own for each session. Throws `ModelError`. */
export function openContext(model: NativeModel, { settings, contextLength, interrupt }: ContextPlan): NativeContext {
  const { library } = model;
  const params = contextParams(library, settings);
  params.n_ctx = contextLength * settings.maxSessions;
  params.n_seq_max = settings.maxSessions;
  params.n_batch = Math.max(settings.batchSize, settings.maxSessions);
  params.n_ubatch = Math.min(settings.ubatchSize, params.n_batch);
  params.n_outputs_max = settings.maxSessions * rowsPerStream;
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
  if (context.sequenceLength < contextLength)
    throw new ModelError("memory", `llama.cpp gave a context of ${context.sequenceLength} tokens only`);
  const pool = library.createThreadPool(Math.max(settings.threads, settings.threadsBatch));
  if (pool !== null) functions.llama_attach_threadpool(context.handle, pool, pool);
  return context;
}
