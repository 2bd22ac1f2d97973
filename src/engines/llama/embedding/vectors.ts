import type { Embeddings } from "../../../core/chat.ts";

/** Vectors on their way between processes: as JSON numbers they would be six times as long. */
export interface PackedEmbeddings {
  /** All vectors, one after the other, as base64 of little-endian float32. */
  readonly packed: string;
  readonly count: number;
  readonly promptTokens: number;
}

/** Vectors of one length. */
export function packVectors(vectors: readonly Float32Array[], promptTokens: number): PackedEmbeddings {
  const length = vectors[0]?.length ?? 0;
  const all = new Float32Array(length * vectors.length);
  for (const [index, vector] of vectors.entries()) all.set(vector, index * length);
  return { packed: Buffer.from(all.buffer).toString("base64"), count: vectors.length, promptTokens };
}

export function unpackVectors({ packed, count, promptTokens }: PackedEmbeddings): Embeddings {
  const bytes = Buffer.from(packed, "base64");
  const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const length = count === 0 ? 0 : all.length / count;
  const vectors = Array.from({ length: count }, (_, index) =>
    Array.from(all.subarray(index * length, (index + 1) * length)),
  );
  return { vectors, promptTokens };
}

/** The first `dimensions` numbers of a vector, of length 1 (L2). */
export function normalise(vector: Float32Array, dimensions: number): Float32Array {
  const cut = vector.subarray(0, dimensions);
  let sum = 0;
  for (const value of cut) sum += value * value;
  const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0;
  return cut.map((value) => value * scale);
}
