import type { Headers } from "../core/call.ts";

/** What a response is made of, in order: `onHead` once, `onBody` any number of times, then exactly one of `onEnd` and `onBroken`. */
export interface ResponseHandler {
  onHead(status: number, headers: Headers): void;
  /** A piece of the body: a view into the bytes pushed, valid as long as those are. */
  onBody(piece: Buffer): void;
  /** `reusable`: the connection may carry another request. */
  onEnd(reusable: boolean): void;
  /** The bytes are no HTTP/1.1 response, or ended too early; the message says why. */
  onBroken(message: string): void;
}

type State = "head" | "counted" | "chunk-size" | "chunk" | "chunk-end" | "trailers" | "until-close" | "over";

const headLimit = 64 * 1024;
const chunkLineLimit = 4096;
const statusLine = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?$/;
/** Lines of a name, a colon and a value, without bare line ends or NUL, the last without its line end. */
const headerLines = /^(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*(?:\r\n(?=[^\r])|$))+$/;

/**
 * Bytes of one HTTP/1.1 response → its parts (RFC 9112). Strict where two readers could disagree on where it ends:
 * bare line feeds, folded headers, conflicting lengths, unknown codings and bytes behind the end are refused.
 *
 * Why it is not a library's: docs/decisions/0002-node-http-and-a-client-of-our-own.md
 */
export class HttpResponse {
  readonly #handler: ResponseHandler;
  #state: State = "head";
  /** What came of a line or head that is not complete yet, one character a byte. */
  #held = "";
  #left = 0;
  #reusable = false;
  #pieces: Buffer[] = [];
  #problem: string | undefined;
  #told = false;

  constructor(handler: ResponseHandler) {
    this.#handler = handler;
  }

  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length && this.#state !== "over") at = this.#step(bytes, at);
    // What follows a response unasked might be taken for the next one.
    if (at < bytes.length) this.#reusable = false;
    this.#tell();
  }

  /** The server has closed the connection. */
  close(): void {
    if (this.#state === "until-close") this.#state = "over";
    else if (this.#state !== "over") this.#break("the connection ended within the response");
    this.#tell();
  }

  /** Whether nothing at all has come yet. */
  get untouched(): boolean {
    return this.#state === "head" && this.#held === "";
  }

  /** Takes some of the bytes from `at` on; returns where the rest begins. */
  #step(bytes: Buffer, at: number): number {
    switch (this.#state) {
      case "head":
        return this.#readHead(bytes, at);
      case "counted":
      case "chunk":
        return this.#readCounted(bytes, at);
      case "until-close":
        this.#pieces.push(at === 0 ? bytes : bytes.subarray(at));
        return bytes.length;
      default:
        return this.#readLine(bytes, at);
    }
  }

  #readHead(bytes: Buffer, at: number): number {
    const text = bytes.toString("latin1", at);
    const before = this.#held.length;
    const all = before === 0 ? text : this.#held + text;
    const end = all.indexOf("\r\n\r\n", Math.max(0, before - 3));
    if (end === -1) {
      this.#held = all;
      if (all.length > headLimit) this.#break("its head is longer than 64 KB");
      return bytes.length;
    }
    this.#held = "";
    this.#takeHead(all.slice(0, end));
    return at + end + 4 - before;
  }

  #takeHead(text: string): void {
    const head = readResponseHead(text);
    if (typeof head === "string") return this.#break(head);
    const { minor, status, headers } = head;
    if (status === 101) return this.#break("it switches protocols, unasked");
    // 100 Continue, 103 Early Hints: the real head follows.
    if (status < 200) return;
    const connection = headers.connection?.toLowerCase() ?? "";
    this.#reusable = minor === "1" ? !connection.includes("close") : connection.includes("keep-alive");
    this.#begin(status, headers);
  }

  #begin(status: number, headers: Headers): void {
    const coding = headers["transfer-encoding"]?.toLowerCase();
    const lengths = headers["content-length"]?.split(",").map((text) => text.trim());
    if (coding !== undefined && coding !== "chunked")
      return this.#break(`its transfer coding is ${coding.slice(0, 40)}`);
    if (lengths !== undefined && lengths.some((text) => !/^\d{1,15}$/.test(text) || text !== lengths[0]))
      return this.#break("its lengths contradict each other");
    if (coding !== undefined && lengths !== undefined) return this.#break("it has both a length and chunks");
    this.#left = Number(lengths?.[0] ?? 0);
    const empty = status === 204 || status === 304 || (lengths !== undefined && this.#left === 0);
    this.#state = empty
      ? "over"
      : coding !== undefined
        ? "chunk-size"
        : lengths !== undefined
          ? "counted"
          : "until-close";
    if (this.#state === "until-close") this.#reusable = false;
    this.#handler.onHead(status, headers);
  }

  #readCounted(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + this.#left);
    this.#pieces.push(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end));
    this.#left -= end - at;
    if (this.#left === 0) this.#state = this.#state === "chunk" ? "chunk-end" : "over";
    return end;
  }

  #readLine(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(10, at);
    const line = this.#held + bytes.toString("latin1", at, end === -1 ? bytes.length : end + 1);
    if (line.length > (this.#state === "trailers" ? headLimit : chunkLineLimit)) {
      this.#break("a line is too long");
      return bytes.length;
    }
    if (end === -1) {
      this.#held = line;
      return bytes.length;
    }
    this.#held = "";
    if (line.endsWith("\r\n")) this.#takeLine(line.slice(0, -2));
    else this.#break("a line ends without a carriage return");
    return end + 1;
  }

  #takeLine(line: string): void {
    if (this.#state === "chunk-end") {
      if (line === "") this.#state = "chunk-size";
      else this.#break("a chunk is longer than its length");
    } else if (this.#state === "trailers") {
      if (line === "") this.#state = "over";
    } else {
      const size = /^([0-9a-fA-F]{1,12})[ \t]*(?:;.*)?$/.exec(line)?.[1];
      if (size === undefined) return this.#break("a chunk has no length");
      this.#left = Number.parseInt(size, 16);
      this.#state = this.#left === 0 ? "trailers" : "chunk";
    }
  }

  /** One piece for all that one read brought, for a reader pays by the piece; then the end, if it has come. */
  #tell(): void {
    const pieces = this.#pieces;
    if (pieces.length > 0) {
      this.#pieces = [];
      this.#handler.onBody(pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces));
    }
    if (this.#state !== "over" || this.#told) return;
    this.#told = true;
    if (this.#problem === undefined) this.#handler.onEnd(this.#reusable);
    else this.#handler.onBroken(this.#problem);
  }

  #break(message: string): void {
    this.#problem = message;
    this.#state = "over";
  }
}

/** The lines of a head, without the empty one behind it → its parts; a sentence when they are none. */
export function readResponseHead(text: string): { minor: string; status: number; headers: Headers } | string {
  const lineEnd = text.indexOf("\r\n");
  const match = statusLine.exec(lineEnd === -1 ? text : text.slice(0, lineEnd));
  if (match === null) return "it does not begin with an HTTP/1.1 status line";
  const headers = lineEnd === -1 ? {} : readHeaders(text.slice(lineEnd + 2));
  if (headers === undefined) return "a header is malformed";
  return { minor: match[1] as string, status: Number(match[2]), headers };
}

/** Headers by lower-case name; undefined when a line is none. Repeated ones are joined by a comma. */
function readHeaders(text: string): Headers | undefined {
  if (!headerLines.test(text)) return undefined;
  const headers: Headers = {};
  for (let at = 0; at < text.length;) {
    const next = text.indexOf("\r\n", at);
    const end = next === -1 ? text.length : next;
    const colon = text.indexOf(":", at);
    const name = text.slice(at, colon).toLowerCase();
    const value = text.slice(colon + 1, end).trim();
    const before = headers[name];
    headers[name] = typeof before !== "string" ? value : `${before}, ${value}`;
    at = end + 2;
  }
  return headers;
}
