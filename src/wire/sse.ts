import { StringDecoder } from "node:string_decoder";
import { ApiError } from "../core/errors.ts";

/** One event of a `text/event-stream`. */
export interface SseEvent {
  /** The `event:` field; absent when the server gave none. */
  event?: string;
  /** The `data:` lines, joined by `\n`; "" for a stray line. */
  data: string;
  /** A line that is no field of SSE, whole. LMDeploy's proxy writes its errors (`{"error_code":…}`) into the body so. */
  stray?: string;
}

/** Longest line and longest event that are read, in UTF-16 units; a whole image in one event still fits. */
const defaultLimit = 16 * 1024 * 1024;

/**
 * Bytes of a `text/event-stream` → its events, however the bytes are split. Comments, `id` and `retry` are skipped; a
 * last event without its blank line is delivered. Throws `upstream_error` for a line or event longer than `limit`.
 */
export async function* parseSse(bytes: AsyncIterable<Uint8Array>, limit = defaultLimit): AsyncGenerator<SseEvent> {
  const lines = new LineSplitter(limit);
  const event = new EventBuilder(limit);
  for await (const chunk of bytes) {
    for (const line of lines.push(chunk)) {
      const complete = event.add(line);
      if (complete !== undefined) yield complete;
    }
  }
  for (const line of [...lines.end(), ""]) {
    const complete = event.add(line);
    if (complete !== undefined) yield complete;
  }
}

/** Cuts text that arrives in pieces into lines: LF, CRLF and CR end one. A leading byte order mark is dropped. */
export class LineSplitter {
  readonly #limit: number;
  readonly #decoder = new StringDecoder("utf8");
  #tail = "";
  #atStart = true;
  #afterReturn = false;

  /** A line longer than `limit` UTF-16 units (and one chunk) throws `upstream_error`. */
  constructor(limit: number = defaultLimit) {
    this.#limit = limit;
  }

  /** The lines that this chunk completes, without their ends. */
  push(chunk: Uint8Array): string[] {
    return this.#split(this.#decoder.write(chunk));
  }

  /** A last line that has no end, if there is one. */
  end(): string[] {
    const lines = this.#split(this.#decoder.end());
    if (this.#tail !== "") lines.push(this.#tail);
    this.#tail = "";
    return lines;
  }

  #split(decoded: string): string[] {
    if (this.#tail.length > this.#limit) throw tooLong(this.#limit);
    const text = this.#normalize(decoded);
    // Only the new text is searched: a long line that arrives in many pieces costs no more than its length.
    if (!text.includes("\n")) {
      this.#tail += text;
      return [];
    }
    const lines = text.split("\n");
    lines[0] = this.#tail + lines[0];
    this.#tail = lines.pop() ?? "";
    return lines;
  }

  #normalize(decoded: string): string {
    if (decoded === "") return "";
    let text = decoded;
    if (this.#atStart) {
      this.#atStart = false;
      if (text.startsWith("\ufeff")) text = text.slice(1);
    }
    if (this.#afterReturn && text.startsWith("\n")) text = text.slice(1);
    this.#afterReturn = decoded.endsWith("\r");
    return text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
  }
}

class EventBuilder {
  readonly #limit: number;
  #data: string | undefined;
  #event: string | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes one line; returns the event that it completes. */
  add(line: string): SseEvent | undefined {
    if (line.startsWith("data:")) return this.#append(valueAfter(line, 5));
    if (line === "") return this.#finish();
    if (line.startsWith(":")) return undefined;
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    if (field === "data") return this.#append("");
    if (field === "id" || field === "retry") return undefined;
    if (field !== "event") return { data: "", stray: line };
    this.#event = colon === -1 ? "" : valueAfter(line, 6);
    return undefined;
  }

  #append(value: string): undefined {
    this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    if (this.#data.length > this.#limit) throw tooLong(this.#limit);
  }

  #finish(): SseEvent | undefined {
    const data = this.#data;
    const event = this.#event;
    this.#data = undefined;
    this.#event = undefined;
    if (data === undefined) return undefined;
    return event === undefined ? { data } : { event, data };
  }
}

function valueAfter(line: string, colonEnd: number): string {
  return line.charCodeAt(colonEnd) === 0x20 ? line.slice(colonEnd + 1) : line.slice(colonEnd);
}

function tooLong(limit: number): ApiError {
  return new ApiError(
    "upstream_error",
    `the upstream sent a line or event longer than ${limit} characters; the stream was given up`,
  );
}
