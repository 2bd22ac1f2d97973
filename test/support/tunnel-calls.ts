import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { isStream } from "../../src/core/bytes.ts";
import { Call, type Reply } from "../../src/core/call.ts";
import { Departure } from "../../src/core/departure.ts";
import type { JsonObject } from "../../src/core/json.ts";

export interface Asking {
  readonly method?: string;
  readonly path?: string;
  readonly search?: string;
  readonly headers?: Record<string, string>;
  readonly json?: JsonObject;
  readonly body?: Buffer | ByteStream;
  readonly bodyLimit?: number;
}

/** A call whose caller can leave. */
export interface Calling {
  readonly call: Call;
  leave(): void;
}

let calls = 0;

/** A call as the server makes one. A body that is given as JSON or bytes comes with its length. */
export function toCall(asking: Asking = {}): Calling {
  const { method = "POST", path = "/v1/chat/completions", json, bodyLimit } = asking;
  const departure = new Departure();
  const body = asking.body ?? (json === undefined ? null : Buffer.from(JSON.stringify(json)));
  const length = Buffer.isBuffer(body) ? { "content-length": String(body.length) } : {};
  const call = new Call({
    id: `call-${++calls}`,
    method,
    path,
    ...(asking.search === undefined ? {} : { search: asking.search }),
    headers: { "content-type": "application/json", ...length, ...asking.headers },
    signal: departure,
    body,
    ...(bodyLimit === undefined ? {} : { bodyLimit }),
  });
  return { call, leave: () => departure.leave() };
}

/** A body that comes when the test says. */
export class FedBody implements ByteStream {
  /** How often its reader asked for more, and whether it said that it has enough for now. */
  resumed = 0;
  paused = false;
  cancelled = false;
  started = false;
  #sink: ByteSink | undefined;

  start(sink: ByteSink): void {
    this.started = true;
    this.#sink = sink;
  }

  resume(): void {
    this.paused = false;
    this.resumed++;
  }

  cancel(): void {
    this.cancelled = true;
  }

  feed(chunk: Buffer | string): void {
    if (this.#sink?.write(typeof chunk === "string" ? Buffer.from(chunk) : chunk) === false) this.paused = true;
  }

  end(): void {
    this.#sink?.end();
  }

  fail(error: Error): void {
    this.#sink?.fail(error);
  }
}

/** What came of a reply's body. */
export interface Read {
  readonly text: string;
  /** Undefined: it ended as it should. */
  readonly failure: Error | undefined;
}

/** Reads a reply's body to its end, whichever that is. */
export function readReply({ body }: Reply): Promise<Read> {
  if (body === null) return Promise.resolve({ text: "", failure: undefined });
  if (!isStream(body)) return Promise.resolve({ text: body.toString(), failure: undefined });
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const over = (failure?: Error): void => resolve({ text: Buffer.concat(chunks).toString(), failure });
    body.start({
      write(chunk) {
        chunks.push(Buffer.from(chunk as Uint8Array));
        return true;
      },
      end: () => over(),
      fail: over,
    });
  });
}

/** A reader that takes no more after the first piece until it is told to, and counts what comes. */
export class SlowReader implements ByteSink {
  received = 0;
  room = false;
  readonly ended: Promise<Error | undefined>;
  readonly first: Promise<void>;
  #end!: (failure: Error | undefined) => void;
  #begin!: () => void;

  constructor() {
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.first = new Promise((resolve) => (this.#begin = resolve));
  }

  write(chunk: Uint8Array | string): boolean {
    this.received += chunk.length;
    this.#begin();
    return this.room;
  }

  end(): void {
    this.#end(undefined);
  }

  fail(error: Error): void {
    this.#end(error);
  }
}

/** When the loop has turned so often that everything in memory has arrived. */
export async function settled(turns = 30): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
