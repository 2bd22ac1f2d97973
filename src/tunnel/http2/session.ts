import { afterPoll } from "../../core/after-poll.ts";
import type { Headers } from "../../core/call.ts";
import type { Link } from "../links/link.ts";
import { errorCodes, nameOfCode, SessionError } from "./errors.ts";
import { FrameReader } from "./frame-reader.ts";
import { largestNumber } from "./frames.ts";
import { writeGreeting } from "./greeting.ts";
import { readSettings } from "./peer-settings.ts";
import { Pings } from "./pings.ts";
import { Receiver, type ReceiverHost } from "./receiver.ts";
import { Sender } from "./sender.ts";
import { StreamTable } from "./stream-table.ts";
import { Http2Stream, type StreamHandler, type StreamHost } from "./stream.ts";

/** How a session behaves. */
export interface SessionOptions {
  /** The client opens streams: at a tunnel that is the relay, whoever dialled. */
  readonly role: "client" | "server";
  /** Streams at a time that the peer may open; default 4096. */
  readonly maxConcurrentStreams?: number;
  /** Server: a request. `ended`: it has no body; `onEnd` follows all the same. */
  readonly onStream?: (stream: Http2Stream, headers: Headers, ended: boolean) => StreamHandler;
  /** The peer takes no more streams; those under way go on. Comes at most once. */
  readonly onGoaway?: () => void;
  /** Comes once, after every stream was told. `error`: why, unless it was meant. */
  readonly onClose: (error: Error | undefined) => void;
}

/** Streams that may be opened before the peer has said how many (RFC 9113, 6.5.2, recommends no fewer). */
const streamsBeforeSettings = 100;
/** Bytes over all streams that may wait for their readers. */
const mostUnread = 256 * 1024 * 1024;
/** Bytes of heads and small frames that may wait for a peer that does not read. */
const mostHeld = 16 * 1024 * 1024;
/** Milliseconds that the last bytes have to leave, and the peer to close. */
const closingTime = 10_000;

/**
 * HTTP/2 (RFC 9113) over a link. Header names are lower case, with `:method`, `:path`, `:scheme`, `:authority` and
 * `:status` among them. Whatever the peer sends, nothing is thrown and memory stays bounded.
 */
export class Http2Session {
  readonly link: Link;
  /** `performance.now()` of the last bytes read. */
  lastHeard: number = performance.now();
  readonly #options: SessionOptions;
  readonly #mostStreams: number;
  readonly #streams = new StreamTable();
  readonly #sender: Sender;
  readonly #pings: Pings;
  readonly #receiver: Receiver;
  readonly #reader: FrameReader;
  readonly #host: StreamHost;
  #nextId = 1;
  #peerStreams = streamsBeforeSettings;
  #heardSettings = false;
  #unread = 0;
  #closed = false;
  #saidGoaway = false;
  /** Server: the last stream that is served; set when every request that the peer sent before it heard of it is here. */
  #lastServed: number | undefined;
  #heardGoaway = false;
  #finishing: (() => void)[] | undefined;
  #ending = false;

  constructor(link: Link, options: SessionOptions) {
    this.link = link;
    this.#options = options;
    this.#mostStreams = options.role === "server" ? (options.maxConcurrentStreams ?? 4096) : 0;
    this.#sender = new Sender(link, (error) => this.#fail(error));
    this.#pings = new Pings(this.#sender.frames);
    this.#host = this.#streamHost();
    this.#receiver = new Receiver(this.#receiverHost());
    this.#reader = new FrameReader(this.#receiver, options.role);
    writeGreeting(this.#sender, this.#options.role, this.#mostStreams);
    this.#pings.send(() => {});
    link.start({
      onBytes: (bytes) => this.#read(bytes),
      onDrain: () => this.#drained(),
      onClose: (error) => this.#close(error),
    });
  }

  /** Streams under way, in both directions. */
  get openStreams(): number {
    return this.#streams.size;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Whether `open` may be called: neither closed nor said goodbye to, and below the peer's limit of streams. */
  get accepting(): boolean {
    if (this.#closed || this.#saidGoaway || this.#heardGoaway || this.#options.role === "server") return false;
    return this.#streams.size < this.#peerStreams;
  }

  /** Client: sends a request. Throws `Error` when not `accepting`, or for headers that cannot be sent. */
  open(headers: Headers, handler: StreamHandler, ended: boolean): Http2Stream {
    if (!this.accepting) throw new Error("the session takes no more streams");
    const stream = new Http2Stream(this.#nextId, this.#host);
    stream.handler = handler;
    stream.bodiless = headers[":method"] === "HEAD";
    this.#sender.head(stream.sending, headers, ended);
    this.#nextId += 2;
    this.#streams.add(stream);
    // Ids are not used twice: a session that has none left makes room for another.
    if (this.#nextId >= largestNumber) void this.finish();
    return stream;
  }

  /** The time of a round trip in milliseconds. Rejects when the session closes first. */
  ping(): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error("the session is closed"));
      this.#pings.send(resolve, reject);
      this.#sender.soon();
    });
  }

  /** Takes no more streams; those under way, and those on their way here, go on. */
  goaway(): void {
    if (this.#closed || this.#saidGoaway) return;
    this.#saidGoaway = true;
    if (this.#options.role === "client") return this.#sender.goaway(0, errorCodes.noError);
    // First a word, and the last stream only when the peer has heard it: no request on its way is lost (RFC 9113, 6.8).
    this.#sender.goaway(largestNumber, errorCodes.noError);
    this.#pings.send(() => {
      this.#lastServed = this.#receiver.lastPeerId;
      this.#sender.goaway(this.#lastServed, errorCodes.noError);
      this.#endIfFinished();
    });
  }

  /** `goaway`, then waits for the open streams, then closes the link. */
  finish(): Promise<void> {
    this.goaway();
    return new Promise((resolve) => {
      if (this.#closed) return resolve();
      this.#finishing ??= [];
      this.#finishing.push(resolve);
      this.#endIfFinished();
    });
  }

  /** Closes now: every stream gets `onReset` with `lost`, then comes `onClose`. */
  destroy(error?: Error): void {
    if (this.#closed) return;
    const code = error instanceof SessionError ? error.code : errorCodes.noError;
    this.#sender.goaway(this.#lastServed ?? this.#receiver.lastPeerId, code);
    try {
      this.#sender.flush();
    } catch {
      // It was a last word; what matters is the end.
    }
    this.#close(error);
    this.link.destroy();
  }

  #read(bytes: Buffer): void {
    if (this.#closed) return;
    this.lastHeard = performance.now();
    try {
      this.#reader.push(bytes);
      if (this.#sender.frames.waiting > mostHeld && this.#sender.full)
        throw new SessionError(errorCodes.enhanceYourCalm, "the peer asks without reading the answers");
    } catch (error) {
      this.#fail(error);
    }
  }

  #drained(): void {
    try {
      this.#sender.drained();
      this.#endIfFinished();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (error instanceof SessionError) return this.destroy(error);
    const message = error instanceof Error ? error.message : String(error);
    this.destroy(new SessionError(errorCodes.internalError, `the session failed: ${message}`));
  }

  #close(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reader.stop();
    this.#sender.close();
    const message = error === undefined ? "the connection was closed" : `the connection was lost: ${error.message}`;
    for (const stream of this.#streams.list()) {
      const refused = this.#options.role === "client" && stream.id > this.#sender.sentStream;
      stream.break({ code: errorCodes.cancel, lost: true, refused, message });
    }
    this.#pings.close(new Error(message));
    for (const resolve of this.#finishing ?? []) resolve();
    this.#options.onClose(error);
  }

  #endIfFinished(): void {
    if (this.#finishing === undefined || this.#streams.size > 0 || this.#closed || this.#ending) return;
    if (this.#options.role === "server" && this.#lastServed === undefined) return;
    this.#sender.flush();
    if (this.#sender.frames.waiting > 0) {
      // What the link has not taken yet would be lost. While it is full, its drain comes back here.
      if (!this.#sender.full) afterPoll(() => this.#endIfFinished());
      return;
    }
    this.#ending = true;
    this.link.end();
    setTimeout(() => this.destroy(), closingTime).unref();
  }

  #streamHost(): StreamHost {
    const pings = this.#pings;
    return {
      sender: this.#sender,
      get roundTrip() {
        return pings.roundTrip;
      },
      leave: (stream) => {
        this.#streams.remove(stream);
        if (this.#finishing !== undefined) this.#endIfFinished();
      },
      countUnread: (bytes) => this.#countUnread(bytes),
      onFault: (stream, error) => failByFault(stream, error),
    };
  }

  #receiverHost(): ReceiverHost {
    return {
      role: this.#options.role,
      streams: this.#streams,
      pings: this.#pings,
      hasOpened: (id) => id < this.#nextId,
      openByPeer: (id) => this.#openByPeer(id),
      onRequest: (stream, headers, ended) => this.#onRequest(stream, headers, ended),
      onSettings: (payload) => this.#onSettings(payload),
      onGoaway: (lastStream, code) => this.#onGoaway(lastStream, code),
      onCredit: (stream, bytes) => this.#onCredit(stream, bytes),
      writeSessionCredit: (bytes) => this.#sender.windowUpdate(0, bytes),
      onPing: (payload) => {
        this.#pings.reply(payload);
        this.#sender.soon();
      },
      onFault: (stream, error) => failByFault(stream, error),
    };
  }

  #openByPeer(id: number): Http2Stream | undefined {
    if (this.#lastServed !== undefined && id > this.#lastServed) return undefined;
    if (this.#streams.size >= this.#mostStreams) {
      this.#sender.reset(id, errorCodes.refusedStream);
      return undefined;
    }
    const stream = new Http2Stream(id, this.#host);
    this.#streams.add(stream);
    return stream;
  }

  #onRequest(stream: Http2Stream, headers: Headers, ended: boolean): void {
    try {
      stream.handler = this.#options.onStream?.(stream, headers, ended);
    } catch (error) {
      return failByFault(stream, error);
    }
    if (stream.handler === undefined) stream.reset(errorCodes.refusedStream);
  }

  #onSettings(payload: Buffer): void {
    const { streams, window } = readSettings(payload);
    if (streams !== undefined || !this.#heardSettings) this.#peerStreams = streams ?? largestNumber;
    this.#heardSettings = true;
    if (window !== undefined) this.#onStreamWindow(window);
    this.#sender.settingsAck();
  }

  #onStreamWindow(size: number): void {
    const change = size - this.#sender.streamWindow;
    this.#sender.streamWindow = size;
    for (const stream of this.#streams.list())
      if (!this.#sender.credit(stream.sending, change))
        throw new SessionError(errorCodes.flowControlError, "the peer's windows are too large");
  }

  #onCredit(stream: Http2Stream | undefined, bytes: number): void {
    if (this.#sender.credit(stream?.sending, bytes)) return;
    const message = "the peer's window is too large";
    if (stream === undefined) throw new SessionError(errorCodes.flowControlError, message);
    stream.fail(errorCodes.flowControlError, message);
  }

  #onGoaway(lastStream: number, code: number): void {
    const first = !this.#heardGoaway;
    this.#heardGoaway = true;
    const message = `the peer goes away (${nameOfCode(code)}) and did not process the stream`;
    if (this.#options.role === "client")
      for (const stream of this.#streams.list())
        if (stream.id > lastStream)
          stream.break({ code: errorCodes.refusedStream, lost: false, refused: true, message });
    if (first) this.#options.onGoaway?.();
  }

  #countUnread(bytes: number): void {
    this.#unread += bytes;
    if (this.#unread <= mostUnread) return;
    const most = this.#streams.list().reduce((a, b) => (b.unread > a.unread ? b : a));
    most.fail(errorCodes.enhanceYourCalm, "too much waits to be read");
  }
}

function failByFault(stream: Http2Stream, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  stream.fail(errorCodes.internalError, `the stream's reader failed: ${message}`);
}
