import type { Headers } from "../../core/call.ts";
import type { Link } from "../link.ts";
import type { Http2Stream, StreamHandler } from "./stream.ts";

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

/**
 * HTTP/2 (RFC 9113) over a link. Header names are lower case, with `:method`, `:path`, `:scheme`, `:authority` and
 * `:status` among them. Whatever the peer sends, nothing is thrown and memory stays bounded.
 */
export class Http2Session {
  readonly link: Link;
  /** `performance.now()` of the last bytes read. */
  lastHeard: number = performance.now();

  constructor(link: Link, _options: SessionOptions) {
    this.link = link;
  }

  /** Streams under way, in both directions. */
  get openStreams(): number {
    return 0;
  }

  get closed(): boolean {
    return false;
  }

  /** Whether `open` may be called: neither closed nor said goodbye to, and below the peer's limit of streams. */
  get accepting(): boolean {
    return true;
  }

  /** Client: sends a request. Throws `Error` when not `accepting`, or for headers that cannot be sent. */
  open(_headers: Headers, _handler: StreamHandler, _ended: boolean): Http2Stream {
    throw new Error("not yet");
  }

  /** The time of a round trip in milliseconds. Rejects when the session closes first. */
  ping(): Promise<number> {
    return Promise.reject(new Error("not yet"));
  }

  /** Takes no more streams; those under way go on. */
  goaway(): void {
    throw new Error("not yet");
  }

  /** `goaway`, then waits for the open streams, then closes the link. */
  finish(): Promise<void> {
    return Promise.reject(new Error("not yet"));
  }

  /** Closes now: every stream gets `onReset` with `lost`, then comes `onClose`. */
  destroy(_error?: Error): void {
    throw new Error("not yet");
  }
}
