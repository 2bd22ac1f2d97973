import type { Headers } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { type AgentMessage, encodeMessage, type RelayMessage, relayMessages } from "../../src/tunnel/control.ts";
import type { Arrival } from "../../src/tunnel/handshake/door.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import type { Http2Stream, StreamReset } from "../../src/tunnel/http2/stream.ts";
import type { Link } from "../../src/tunnel/links/link.ts";
import { linkPair } from "./links.ts";

/** A call as it came to the agent's end. */
export interface Arrived {
  readonly headers: Headers;
  readonly stream: Http2Stream;
  /** Bytes of its body that have come. */
  readonly received: () => number;
  readonly body: Promise<Buffer>;
  /** Why the relay gave it up; pending while it does not. */
  readonly reset: Promise<StreamReset>;
}

export interface ScriptedOptions {
  readonly name?: string;
  readonly instance?: string;
  readonly models?: readonly (string | JsonObject)[];
  readonly capacity?: number;
  readonly ready?: boolean;
  /** Streams at a time that it takes. */
  readonly streams?: number;
  /** What is said in place of a hello; null: nothing. */
  readonly hello?: string | null;
  readonly refusal?: () => string | undefined;
  /** What becomes of each call, as it comes; default: nothing. */
  readonly onCall?: (call: Arrived) => void;
}

/** The far end of a tunnel connection, which does what a test says. */
export class ScriptedAgent {
  readonly calls: Arrived[] = [];
  /** What the relay has said. */
  readonly heard: RelayMessage[] = [];
  readonly arrival: Arrival;
  readonly session: Http2Session;
  readonly link: Link;
  /** When the connection is gone. */
  readonly closed: Promise<void>;
  readonly #options: ScriptedOptions;
  #control: Http2Stream | undefined;
  readonly #waiting: { readonly holds: () => boolean; readonly resolve: () => void }[] = [];

  constructor(options: ScriptedOptions = {}) {
    const [near, far] = linkPair();
    const name = options.name ?? "home";
    this.#options = options;
    this.link = far;
    this.arrival = {
      link: near,
      identity: { name, keyId: "k1", refusal: options.refusal ?? (() => undefined) },
      version: "0.0.0-test",
      instance: options.instance ?? `${name}-1`,
      transport: "upgrade",
      address: "192.0.2.1",
    };
    let close: () => void;
    this.closed = new Promise((resolve) => (close = resolve));
    this.session = new Http2Session(far, {
      role: "server",
      maxConcurrentStreams: options.streams ?? 4096,
      onStream: (stream, headers) =>
        headers[":path"] === "/.lair/control" ? this.#openControl(stream) : this.#take(stream, headers),
      onClose: () => close(),
    });
  }

  /** Sends control messages, or bytes that are none. */
  say(message: AgentMessage | string): void {
    this.#control?.write(typeof message === "string" ? message : encodeMessage(message));
  }

  endControl(): void {
    this.#control?.end();
  }

  /** The call with that number, when it has come. */
  async call(index = 0): Promise<Arrived> {
    await this.until(() => this.calls.length > index);
    return this.calls[index] as Arrived;
  }

  /** When the relay has said so. */
  async hears(type: RelayMessage["type"]): Promise<RelayMessage> {
    await this.until(() => this.heard.some((message) => message.type === type));
    return this.heard.find((message) => message.type === type) as RelayMessage;
  }

  /** When that is so; looked at whenever something has come. */
  until(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ holds, resolve }));
  }

  #look(): void {
    for (const one of this.#waiting.splice(0)) {
      if (one.holds()) one.resolve();
      else this.#waiting.push(one);
    }
  }

  #openControl(stream: Http2Stream): { onData(chunk: Buffer): void; onEnd(): void; onReset(): void } {
    this.#control = stream;
    const reader = relayMessages();
    stream.respond({ ":status": "200" }, false);
    const { hello, models = ["demo"], capacity = 4, ready = true } = this.#options;
    if (typeof hello === "string") stream.write(hello);
    else if (hello === undefined)
      this.say({
        type: "hello",
        protocol: 1,
        version: "0.0.0-test",
        instance: this.arrival.instance,
        capacity,
        ready,
        models: models.map(toCard),
      });
    return {
      onData: (chunk) => {
        this.heard.push(...reader.push(chunk));
        this.#look();
      },
      onEnd() {},
      onReset() {},
    };
  }

  #take(
    stream: Http2Stream,
    headers: Headers,
  ): { onData(chunk: Buffer): void; onEnd(): void; onReset(reason: StreamReset): void } {
    const chunks: Buffer[] = [];
    let received = 0;
    let end: (body: Buffer) => void;
    let giveUp: (reason: StreamReset) => void;
    const body = new Promise<Buffer>((resolve) => (end = resolve));
    const reset = new Promise<StreamReset>((resolve) => (giveUp = resolve));
    const call = { headers, stream, received: () => received, body, reset };
    this.calls.push(call);
    this.#options.onCall?.(call);
    setImmediate(() => this.#look());
    return {
      onData: (chunk) => {
        chunks.push(chunk);
        received += chunk.length;
        this.#look();
      },
      onEnd: () => end(Buffer.concat(chunks)),
      onReset: (reason) => giveUp(reason),
    };
  }
}

/** A model as a runtime's list shows it. */
function toCard(model: string | JsonObject): JsonObject {
  return typeof model === "string" ? { id: model, object: "model", owned_by: "test", provider: "llama_cpp" } : model;
}

/** Answers a call with JSON. */
export function answerJson({ stream }: Arrived, status: number, json: JsonObject): void {
  const bytes = Buffer.from(JSON.stringify(json));
  const length = String(bytes.length);
  stream.respond({ ":status": String(status), "content-type": "application/json", "content-length": length }, false);
  stream.write(bytes);
  stream.end();
}

/** Answers with the head of an event stream. */
export function beginEvents({ stream }: Arrived): void {
  stream.respond({ ":status": "200", "content-type": "text/event-stream; charset=utf-8" }, false);
}
