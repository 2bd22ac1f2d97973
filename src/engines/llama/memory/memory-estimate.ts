import type { ModelFile } from "../../models/model-files.ts";
import { type WorkerSettings, effectiveContextLength } from "../settings.ts";

/** What a model's process takes of the memory, in bytes, as far as its file tells before it is loaded. */
export interface MemoryEstimate {
  readonly weights: number;
  /** Keys and values of all sessions, and the states of recurrent layers. */
  readonly context: number;
  /** Intermediate results, logits, and the process itself. */
  readonly work: number;
  readonly total: number;
}

/** A child process of Node with llama.cpp's libraries and a small model's vocabulary. Measured: see memory.test.ts. */
const processBytes = 90 * 1024 * 1024;

export function estimateMemory(file: Pick<ModelFile, "header" | "bytes">, settings: WorkerSettings): MemoryEstimate {
  const { header, bytes: weights } = file;
  if (header === null) return { weights, context: 0, work: processBytes, total: weights + processBytes };
  const { shape } = header;
  const length = effectiveContextLength(settings.contextLength, header.contextLength ?? undefined);
  // llama.cpp rounds the context of a sequence up to whole blocks of 256.
  const cells = Math.ceil(length / 256) * 256 * (header.pooling === null ? settings.maxSessions : 1);
  const perToken = 2 * (sum(shape.keys) + sum(shape.values));
  const recurrentLayers = shape.keys.filter((elements) => elements === 0).length || shape.layers;
  const states = 4 * shape.recurrentState * recurrentLayers * settings.maxSessions;
  const context = perToken * cells + states;
  // Of a pass through one layer, a few vectors of each kind live at the same time; of the logits one row for each session.
  const rows = 4 * settings.ubatchSize * (4 * shape.width + 2 * shape.feedForward);
  const scores = settings.flashAttention === "off" ? 4 * shape.heads * settings.ubatchSize * length : 0;
  const mask = 2 * settings.ubatchSize * length;
  const logits = 4 * shape.vocabulary * settings.maxSessions * 2;
  // Each token of a vocabulary costs about a hundred bytes in llama.cpp's maps and ours.
  const vocabulary = 200 * shape.vocabulary;
  const work = Math.round(processBytes + rows + scores + mask + logits + vocabulary);
  return { weights, context: Math.round(context), work, total: Math.round(weights + context + work) };
}

/** What a user may change so that less is needed. */
export function memoryAdvice({ weights, context }: MemoryEstimate): string {
  const parts = `its weights take ${formatBytes(weights)}, its context ${formatBytes(context)}`;
  const smaller =
    context > weights / 2
      ? "set a smaller context length or fewer sessions (llama.contextLength, llama.maxSessions)"
      : "take a smaller quantisation of it";
  return `${parts}; ${smaller}, or set llama.memoryBudget higher`;
}

/** e.g. `4.7 GiB`, `310 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes === Infinity) return "any";
  const gib = bytes / 1024 ** 3;
  return gib >= 1 ? `${gib.toFixed(1)} GiB` : `${Math.ceil(bytes / 1024 ** 2)} MiB`;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
