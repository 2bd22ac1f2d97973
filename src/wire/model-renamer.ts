const key = Buffer.from('"model":');
const none = Buffer.alloc(0);

/**
 * Writes one name of a model in place of another, wherever `"model"` has it as its value in JSON that passes by in
 * pieces. Held back is never more than what may be the beginning of such a place. Inside of strings nothing is found, for
 * there the quotes of a key are escaped.
 */
export class ModelRenamer {
  /** The value as servers write it: as it is, and with all but ASCII escaped (Python's `json.dumps`). */
  readonly #from: readonly Buffer[];
  readonly #to: Buffer;
  #held: Buffer = none;

  constructor(from: string, to: string) {
    const plain = JSON.stringify(from);
    const escaped = escapeBeyondAscii(plain);
    this.#from = (plain === escaped ? [plain] : [plain, escaped]).map((text) => Buffer.from(text));
    this.#to = Buffer.from(JSON.stringify(to));
  }

  /** What of the bytes so far may go on. */
  push(chunk: Buffer): Buffer {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = none;
    const pieces: Buffer[] = [];
    let copied = 0;
    let open = bytes.length;
    for (let at = bytes.indexOf(key); at !== -1; at = bytes.indexOf(key, at + key.length)) {
      const value = at + key.length + (bytes[at + key.length] === 0x20 ? 1 : 0);
      const length = this.#lengthAt(bytes, value);
      if (length === "open") {
        open = at;
        break;
      }
      if (length === 0) continue;
      pieces.push(bytes.subarray(copied, value), this.#to);
      copied = value + length;
    }
    if (open === bytes.length) open -= lengthOfBeginning(bytes, copied);
    if (open < bytes.length) this.#held = bytes.subarray(open);
    if (copied === 0) return open === bytes.length ? bytes : bytes.subarray(0, open);
    pieces.push(bytes.subarray(copied, open));
    return Buffer.concat(pieces);
  }

  /** What was held back; nothing more will come. */
  end(): Buffer {
    const held = this.#held;
    this.#held = none;
    return held;
  }

  /** Bytes of the sought value at that offset, 0 when another stands there; `open`: the bytes end before that is certain. */
  #lengthAt(bytes: Buffer, at: number): number | "open" {
    let open = false;
    for (const value of this.#from) {
      const there = Math.min(value.length, bytes.length - at);
      if (bytes.compare(value, 0, there, at, at + there) !== 0) continue;
      if (there === value.length) return there;
      open = true;
    }
    return open ? "open" : 0;
  }
}

/** How many of the last bytes may be the beginning of a key. */
function lengthOfBeginning(bytes: Buffer, from: number): number {
  for (let length = Math.min(key.length - 1, bytes.length - from); length > 0; length--) {
    if (bytes.compare(key, 0, length, bytes.length - length) === 0) return length;
  }
  return 0;
}

function escapeBeyondAscii(text: string): string {
  // eslint-disable-next-line no-control-regex -- what is not ASCII
  return text.replace(/[^\x00-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
