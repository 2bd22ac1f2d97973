import { type FileHandle, open } from "node:fs/promises";
import { crc32 } from "node:zlib";

/**
 * A file that holds what a slot's cache held. Little-endian: magic (8 bytes), key (32), number of tokens and of parts
 * (u32 each), for each part its length in tokens (u32), CRC-32 (u32) and size in bytes (u64), the tokens (i32 each), the
 * CRC-32 of all that (u32), then the parts' bytes up to the file's end. The bytes go to llama.cpp, which trusts them:
 * nothing of a file in which a single bit differs is used.
 */

/** A state of llama.cpp after so many tokens. The first part of a file is the whole state, the others are checkpoints. */
export interface StatePiece {
  readonly length: number;
  readonly state: Uint8Array;
}

/** Tokens with the states that llama.cpp had on the way. */
export interface StoredPrefix {
  readonly tokens: readonly number[];
  readonly whole: StatePiece;
  readonly checkpoints: readonly StatePiece[];
}

/** What a file says of itself before its states. */
export interface PrefixHead {
  readonly tokens: readonly number[];
  readonly parts: readonly { readonly length: number; readonly checksum: number; readonly bytes: number }[];
  /** Size of the head itself. */
  readonly bytes: number;
}

/** Length of a file's key. */
const keyBytes = 32;

const magic = Buffer.from("LAIR-KV\u0001", "latin1");
const fixedBytes = magic.length + keyBytes + 8;
const partBytes = 16;
const mostTokens = 1 << 22;
const mostParts = 33;
/** States are read and summed up in pieces, for others want the thread in between. */
const pieceBytes = 8 << 20;

/** A file's content, to be written one after the other. */
export function encodePrefix(key: Uint8Array, { tokens, whole, checkpoints }: StoredPrefix): Uint8Array[] {
  const parts = [whole, ...checkpoints];
  const head = Buffer.alloc(headBytes(tokens.length, parts.length));
  magic.copy(head);
  head.set(key, magic.length);
  let at = head.writeUInt32LE(tokens.length, magic.length + keyBytes);
  at = head.writeUInt32LE(parts.length, at);
  for (const { length, state } of parts) {
    at = head.writeUInt32LE(length, at);
    at = head.writeUInt32LE(crc32(state), at);
    at = head.writeBigUInt64LE(BigInt(state.length), at);
  }
  for (const token of tokens) at = head.writeInt32LE(token, at);
  head.writeUInt32LE(crc32(head.subarray(0, at)), at);
  return [head, ...parts.map(({ state }) => state)];
}

/** The head of a file; null when it is not whole, or of another key. Throws what the file system throws. */
export async function readPrefixHead(path: string, key: Uint8Array): Promise<PrefixHead | null> {
  const file = await open(path, "r");
  try {
    return await readHead(file, key);
  } finally {
    await file.close();
  }
}

/** A whole file; null when any part of it is damaged, or of another key. Throws what the file system throws. */
export async function readPrefix(path: string, key: Uint8Array): Promise<StoredPrefix | null> {
  const file = await open(path, "r");
  try {
    const head = await readHead(file, key);
    if (head === null) return null;
    const pieces: StatePiece[] = [];
    let position = head.bytes;
    for (const { length, checksum, bytes } of head.parts) {
      const state = await readState(file, { position, bytes, checksum });
      if (state === null) return null;
      pieces.push({ length, state });
      position += bytes;
    }
    const [whole, ...checkpoints] = pieces;
    return whole === undefined ? null : { tokens: head.tokens, whole, checkpoints };
  } finally {
    await file.close();
  }
}

function headBytes(tokens: number, parts: number): number {
  return fixedBytes + parts * partBytes + tokens * 4 + 4;
}

async function readHead(file: FileHandle, key: Uint8Array): Promise<PrefixHead | null> {
  const { size } = await file.stat();
  const fixed = await readBytes(file, 0, fixedBytes);
  if (fixed === null || !fixed.subarray(0, magic.length).equals(magic)) return null;
  if (!fixed.subarray(magic.length, magic.length + keyBytes).equals(key)) return null;
  const tokenCount = fixed.readUInt32LE(magic.length + keyBytes);
  const partCount = fixed.readUInt32LE(magic.length + keyBytes + 4);
  if (tokenCount === 0 || tokenCount > mostTokens || partCount === 0 || partCount > mostParts) return null;
  const bytes = headBytes(tokenCount, partCount);
  const head = bytes > size ? null : await readBytes(file, 0, bytes);
  if (head === null || head.readUInt32LE(bytes - 4) !== crc32(head.subarray(0, bytes - 4))) return null;
  const parts = Array.from({ length: partCount }, (_, index) => {
    const at = fixedBytes + index * partBytes;
    return {
      length: head.readUInt32LE(at),
      checksum: head.readUInt32LE(at + 4),
      bytes: Number(head.readBigUInt64LE(at + 8)),
    };
  });
  const sound = parts.every((part, index) => part.length <= tokenCount && (index > 0 || part.length === tokenCount));
  if (!sound || parts.reduce((sum, part) => sum + part.bytes, bytes) !== size) return null;
  const first = bytes - 4 - tokenCount * 4;
  return {
    tokens: Array.from({ length: tokenCount }, (_, index) => head.readInt32LE(first + index * 4)),
    parts,
    bytes,
  };
}

async function readState(
  file: FileHandle,
  { position, bytes, checksum }: { position: number; bytes: number; checksum: number },
): Promise<Uint8Array | null> {
  const state = Buffer.allocUnsafeSlow(bytes);
  let sum = 0;
  for (let from = 0; from < bytes;) {
    const { bytesRead } = await file.read(state, from, Math.min(pieceBytes, bytes - from), position + from);
    if (bytesRead === 0) return null;
    sum = crc32(state.subarray(from, from + bytesRead), sum);
    from += bytesRead;
  }
  return sum === checksum ? state : null;
}

async function readBytes(file: FileHandle, position: number, length: number): Promise<Buffer | null> {
  const bytes = Buffer.alloc(length);
  let from = 0;
  while (from < length) {
    const { bytesRead } = await file.read(bytes, from, length - from, position + from);
    if (bytesRead === 0) return null;
    from += bytesRead;
  }
  return bytes;
}
