import type { Handler, Headers } from "../../src/core/call.ts";
import { silent } from "../../src/core/log.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import type { Http2Stream, StreamHandler, StreamReset } from "../../src/tunnel/http2/stream.ts";
import { type ServedOutcome, serveCalls, type ServeSettings } from "../../src/tunnel/calls/serve.ts";
import { linkPair } from "./links.ts";

/** One request from the relay's end, and what comes back on its stream. */
export class Asked implements StreamHandler {
  stream!: Http2Stream;
  head: Headers = {};
  readonly pieces: Buffer[] = [];
  state: "open" | "ended" | StreamReset = "open";
  /** Told to pause after each piece, until `resume`. */
  stalled = false;
  #waiting: { condition: () => boolean; resolve: () => void }[] = [];
  onDrain?: () => void;

  get text(): string {
    return Buffer.concat(this.pieces).toString();
  }

  get json(): unknown {
    return JSON.parse(this.text);
  }

  get size(): number {
    return this.pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  onHead(headers: Headers): void {
    this.head = headers;
    this.#look();
  }

  onData(chunk: Buffer): void {
    this.pieces.push(chunk);
    if (this.stalled) this.stream.pause();
    this.#look();
  }

  onEnd(): void {
    this.state = "ended";
    this.#look();
  }

  onReset(reason: StreamReset): void {
    this.state = reason;
    this.#look();
  }

  until(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ condition, resolve }));
  }

  async over(): Promise<this> {
    await this.until(() => this.state !== "open");
    return this;
  }

  headed(): Promise<void> {
    return this.until(() => this.head[":status"] !== undefined);
  }

  #look(): void {
    const due = this.#waiting.filter(({ condition }) => condition());
    this.#waiting = this.#waiting.filter((one) => !due.includes(one));
    for (const { resolve } of due) resolve();
  }
}

/** Sends a request; a body given is sent whole, null is none, `undefined` leaves the stream open for more. */
export function ask(session: Http2Session, headers: Headers, body: Buffer | string | null | undefined): Asked {
  const asked = new Asked();
  const head = { ":method": "POST", ":scheme": "http", ":authority": "runtime", ...headers };
  asked.stream = session.open(head, asked, body === null);
  if (body !== null && body !== undefined) {
    asked.stream.write(body);
    asked.stream.end();
  }
  return asked;
}

export interface Serving {
  /** The relay's end. */
  readonly relay: Http2Session;
  readonly agent: Http2Session;
  readonly outcomes: (ServedOutcome & { readonly path: string })[];
  /** Resolves when so many calls are over. */
  outcome(count?: number): Promise<void>;
}

/** Calls served over a link in memory. */
export function serving(handler: Handler, more: Partial<ServeSettings> = {}): Serving {
  const [near, far] = linkPair();
  const outcomes: (ServedOutcome & { readonly path: string })[] = [];
  let waiting: { count: number; resolve: () => void }[] = [];
  const onStream = serveCalls(handler, {
    log: silent,
    bodyLimit: 64 * 1024 * 1024,
    load: { underWay: 0, bytes: 0, most: 1000 },
    onOutcome: (call, outcome) => {
      outcomes.push({ ...outcome, path: call.path });
      for (const { count, resolve } of waiting) if (outcomes.length >= count) resolve();
      waiting = waiting.filter(({ count }) => outcomes.length < count);
    },
    ...more,
  });
  const agent = new Http2Session(far, { role: "server", onStream, onClose: () => undefined });
  const relay = new Http2Session(near, { role: "client", onClose: () => undefined });
  return {
    relay,
    agent,
    outcomes,
    outcome: (count = 1) =>
      outcomes.length >= count ? Promise.resolve() : new Promise((resolve) => waiting.push({ count, resolve })),
  };
}
