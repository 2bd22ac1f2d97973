/** Where a scan of `model` stands. `null` in its place counts as absent; `other` is a value that is no string. */
export type ModelState = "absent" | "named" | "other";

/** Longest name that is read, in bytes as it stands in the JSON text; a longer one counts as `other`. */
const longestName = 4096;
/** `model` with every letter escaped has 30, the longest of the watched 42. */
const longestKey = 42;

/**
 * Finds the top-level `model` (or another field) of a JSON object in its bytes, as they come, without parsing the rest: of repeated keys the
 * last one counts, as with `JSON.parse`. Whether the whole is valid JSON it does not tell.
 */
export class ModelScanner {
  state: ModelState = "absent";
  name = "";
  /** Offsets of the value in all bytes pushed, quotes included; of the last one. */
  start = 0;
  end = 0;
  /** How often the key came. */
  occurrences = 0;
  /** Fields of the outermost object so far. */
  fields = 0;
  /** One of the watched keys has come. */
  met = false;
  readonly #watched: readonly string[];
  readonly #field: string;
  #offset = 0;
  #depth = 0;
  /** Behind the outermost object, or it is none. */
  #over = false;
  #inValue = false;
  #isModel = false;
  #string: "none" | "key" | "name" | "skipped" = "none";
  /** The next byte of the string stands behind a backslash. */
  #escaped = false;
  #pieces: Buffer[] = [];
  #size = 0;

  /** `watched`: further keys; `field`: in place of `model`. All of at most 7 characters. */
  constructor(watched: readonly string[] = [], field = "model") {
    this.#watched = watched;
    this.#field = field;
  }

  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length && !this.#over)
      at = this.#string === "none" ? this.#readStructure(bytes, at) : this.#readString(bytes, at);
    this.#offset += bytes.length;
  }

  /** Reads up to behind the next quote that opens a string. */
  #readStructure(bytes: Buffer, from: number): number {
    for (let at = from; at < bytes.length; at++) {
      const code = bytes[at] as number;
      if (code === 0x22) {
        this.#openString(this.#offset + at);
        return at + 1;
      }
      // White space and what ends nothing.
      if (code <= 0x20) continue;
      if (code === 0x7b || code === 0x5b) {
        if (this.#depth === 0 && code === 0x5b) this.#over = true;
        if (this.#depth === 1) this.#noteOther();
        this.#depth++;
      } else if (code === 0x7d || code === 0x5d) {
        if (--this.#depth <= 0) this.#over = true;
      } else if (this.#depth === 1) this.#readMember(code);
      else if (this.#depth === 0) this.#over = true;
      if (this.#over) break;
    }
    return bytes.length;
  }

  /** A byte between the strings of the outermost object. */
  #readMember(code: number): void {
    if (code === 0x3a) this.#inValue = true;
    else if (code === 0x2c) {
      this.#inValue = false;
      this.#isModel = false;
    } else if (code === 0x6e && this.#inValue && this.#isModel) {
      this.#isModel = false;
      this.state = "absent";
    } else this.#noteOther();
  }

  #noteOther(): void {
    if (!this.#inValue || !this.#isModel) return;
    this.#isModel = false;
    this.state = "other";
  }

  #openString(offset: number): void {
    if (this.#depth === 0) {
      this.#over = true;
      return;
    }
    this.#string = this.#depth > 1 ? "skipped" : !this.#inValue ? "key" : this.#isModel ? "name" : "skipped";
    if (this.#string === "name") this.start = offset;
  }

  #readString(bytes: Buffer, at: number): number {
    let from = at + (this.#escaped ? 1 : 0);
    this.#escaped = false;
    for (;;) {
      const quote = bytes.indexOf(0x22, from);
      const end = quote === -1 ? bytes.length : quote;
      let slashes = 0;
      while (end - 1 - slashes >= from && bytes[end - 1 - slashes] === 0x5c) slashes++;
      if (quote !== -1 && slashes % 2 === 1) {
        from = quote + 1;
        continue;
      }
      if (this.#string !== "skipped") this.#keep(bytes.subarray(at, end));
      if (quote === -1) {
        this.#escaped = slashes % 2 === 1;
        return end;
      }
      this.#closeString(this.#offset + end + 1);
      return end + 1;
    }
  }

  #keep(piece: Buffer): void {
    this.#size += piece.length;
    if (this.#size <= (this.#string === "key" ? longestKey : longestName)) this.#pieces.push(piece);
    else this.#pieces.length = 0;
  }

  #closeString(end: number): void {
    const kind = this.#string;
    this.#string = "none";
    if (kind === "skipped") return;
    const limit = kind === "key" ? longestKey : longestName;
    const text = this.#size > limit ? undefined : unescaped(this.#taken());
    this.#pieces = [];
    this.#size = 0;
    if (kind === "key") {
      this.fields++;
      this.#isModel = text === this.#field;
      if (text !== undefined && this.#watched.includes(text)) this.met = true;
      if (this.#isModel) this.occurrences++;
      return;
    }
    this.#isModel = false;
    this.end = end;
    this.name = text ?? "";
    this.state = text === undefined ? "other" : "named";
  }

  #taken(): string {
    const [first] = this.#pieces;
    const bytes = this.#pieces.length === 1 && first !== undefined ? first : Buffer.concat(this.#pieces);
    return bytes.toString("utf8");
  }
}

function unescaped(text: string): string | undefined {
  if (!text.includes("\\")) return text;
  try {
    return JSON.parse(`"${text}"`) as string;
  } catch {
    return undefined;
  }
}
