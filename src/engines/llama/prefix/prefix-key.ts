import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { WorkerSettings } from "../settings.ts";

/** Raised when what a state of llama.cpp depends on changes on our side. */
const formatVersion = 1;
/** Of a model file so much is looked at: its header, or the better part of it. */
const headerBytes = 1 << 20;

export interface PrefixOrigin {
  readonly settings: WorkerSettings;
  /** llama.cpp's release with its commit. */
  readonly release: string;
  /** Tokens of one sequence: some models scale their positions by it. */
  readonly contextLength: number;
}

/**
 * 32 bytes that differ wherever the state of one process could not be, or should not be, a state of the other: another
 * file under the same name, another shape of the cache, another llama.cpp. Throws when the model file cannot be read.
 */
export function prefixKey({ settings, release, contextLength }: PrefixOrigin): Buffer {
  const { flashAttention, gpuLayers, offloadKqv, maxSessions } = settings;
  const shape = { contextLength, flashAttention, gpuLayers, offloadKqv, maxSessions };
  const file = openSync(settings.path, "r");
  try {
    const { size, mtimeMs } = fstatSync(file);
    const header = Buffer.alloc(Math.min(size, headerBytes));
    const read = readSync(file, header, 0, header.length, 0);
    return createHash("sha256")
      .update(JSON.stringify({ formatVersion, release, shape, size, mtimeMs }))
      .update(header.subarray(0, read))
      .digest();
  } finally {
    closeSync(file);
  }
}
