import { StateError } from "../state.ts";

const mostBytes = 8 * 1024 * 1024;

/** Throws `StateError` for a text that is longer than 8 MB. */
export function checkLength(what: string, text: string): void {
  if (text.length * 3 <= mostBytes) return;
  const bytes = Buffer.byteLength(text);
  if (bytes > mostBytes) throw new StateError(`${what} has ${bytes} bytes; at most ${mostBytes} are kept`);
}
