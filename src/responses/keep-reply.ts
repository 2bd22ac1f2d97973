import { type ByteSink, type ByteStream, isStream, readBytes, toBuffer, toBytes } from "../core/bytes.ts";
import type { Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { encodeEvent, EventBlocks, type Lifecycle, readLifecycle } from "./event-blocks.ts";

/** What becomes of a response that goes by. */
export interface Keeping {
  /** The response as its caller is told of it. */
  rewrite(response: JsonObject): JsonObject;
  /** Keeps the finished response, which was rewritten before; resolves with it as its caller is told. Never rejects. */
  finish(response: JsonObject): Promise<JsonObject>;
}

/** Longest whole answer that is read, in bytes. */
const longestReply = 64 * 1024 * 1024;

/** The reply with its response rewritten, and kept once it is finished. Failures pass as they are. */
export async function keepReply(reply: Reply, keeping: Keeping): Promise<Reply> {
  if (reply.status !== 200) return reply;
  const type = reply.headers["content-type"] ?? "";
  const { "content-length": _length, ...headers } = reply.headers;
  if (type.startsWith("text/event-stream"))
    return { status: 200, headers, body: new KeptStream(toStream(reply), keeping) };
  const response = await readResponse(reply);
  if (Buffer.isBuffer(response)) return { status: 200, headers, body: response };
  const told = await keeping.finish(keeping.rewrite(response));
  return { status: 200, headers, body: JSON.stringify(told) };
}

/** The response that a whole reply holds; the bytes of one that holds none. */
export async function readResponse(reply: Reply): Promise<JsonObject | Buffer> {
  const tooLong = (): ApiError => new ApiError("upstream_error", "the answer is too long to be read");
  const bytes = await readBytes(reply, longestReply, tooLong);
  try {
    const json = JSON.parse(bytes.toString()) as Json;
    if (isObject(json) && json["object"] === "response") return json;
  } catch {
    // No JSON: whoever asked gets it as it came.
  }
  return bytes;
}

/** A body that may be whole already, as one that flows. */
export function toStream({ body, encoding }: Reply): ByteStream {
  if (isStream(body)) return body;
  return {
    start: (sink) => {
      sink.write(toBytes(body, encoding));
      sink.end();
    },
    resume: () => undefined,
    cancel: () => undefined,
  };
}

/**
 * Events as they go by: those that tell of the response are rewritten, all others stay as they are. The last one waits
 * until the response is kept, for whoever has read it may go on from it at once.
 */
class KeptStream implements ByteStream, ByteSink {
  readonly #source: ByteStream;
  readonly #keeping: Keeping;
  readonly #blocks = new EventBlocks();
  #sink: ByteSink | undefined;
  /** What came behind the last event while that waits. */
  #behind: Buffer[] | undefined;
  #close: (() => void) | undefined;

  constructor(source: ByteStream, keeping: Keeping) {
    this.#source = source;
    this.#keeping = keeping;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#source.start(this);
  }

  resume(): void {
    this.#source.resume();
  }

  cancel(): void {
    this.#sink = undefined;
    this.#source.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    const bytes = toBuffer(chunk);
    if (this.#behind !== undefined) {
      this.#behind.push(bytes);
      return false;
    }
    const text = bytes.toString("latin1");
    if (this.#blocks.isEmpty && text.endsWith("\n\n") && !text.includes('"response"'))
      return this.#sink?.write(chunk) ?? true;
    return this.#pass(this.#blocks.push(text));
  }

  end(problem?: Error): void {
    this.#pass(this.#blocks.end());
    this.#over(() => this.#sink?.end(problem));
  }

  fail(error: Error): void {
    this.#pass(this.#blocks.end());
    this.#over(() => this.#sink?.fail(error));
  }

  #over(close: () => void): void {
    if (this.#behind === undefined) close();
    else this.#close = close;
  }

  #pass(blocks: readonly string[]): boolean {
    const pieces: Buffer[] = [];
    for (const [index, block] of blocks.entries()) {
      const known = readLifecycle(block);
      if (known === undefined) pieces.push(Buffer.from(block, "latin1"));
      else if (!known.isFinal)
        pieces.push(encodeEvent({ ...known.event, response: this.#keeping.rewrite(known.response) }));
      else {
        const behind = [...blocks.slice(index + 1), ...this.#blocks.end()];
        this.#behind = behind.map((rest) => Buffer.from(rest, "latin1"));
        void this.#finish(known);
        break;
      }
    }
    const room = pieces.length === 0 || (this.#sink?.write(Buffer.concat(pieces)) ?? true);
    return room && this.#behind === undefined;
  }

  async #finish({ event, response }: Lifecycle): Promise<void> {
    const told = await this.#keeping.finish(this.#keeping.rewrite(response));
    const behind = this.#behind ?? [];
    this.#behind = undefined;
    const room = this.#sink?.write(Buffer.concat([encodeEvent({ ...event, response: told }), ...behind]));
    if (this.#close !== undefined) this.#close();
    else if (room !== false) this.#source.resume();
  }
}
