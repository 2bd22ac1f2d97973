import { StateError } from "../state.ts";

/** Bytes of UTF-8 that a response or a document may have. */
const mostBytes = 8 * 2 ** 20;

/** A text as it is kept: as bytes, for libsql ends a text at its first NUL. Throws `StateError` when it is too long. */
export function toBytes(text: string, name: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length <= mostBytes) return bytes;
  throw new StateError(`${name} is too long to be kept: ${bytes.length} bytes, of at most ${mostBytes}`);
}
