/** The bytes of one tunnel connection, in order and whole: a socket's, or those of a WebSocket's messages. */
export interface Link {
  /** The peer's address as the socket knows it, e.g. `203.0.113.7`. */
  readonly remoteAddress: string;
  /** Whether all that was written is in other hands than this process's: its memory may be written anew. */
  readonly idle: boolean;
  /** Begins to deliver; called once, and nothing is delivered before. */
  start(handler: LinkHandler): void;
  /** Sends a piece. False: what is under way is enough, wait for `onDrain`; the piece is taken all the same. */
  write(bytes: Buffer): boolean;
  /** Holds back what comes, so that the peer notices, until `resume`. */
  pause(): void;
  resume(): void;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes now; what was written may be lost. `onClose` follows, if it has not been. */
  destroy(): void;
}

/** What a link tells. After `onClose`, which comes exactly once, nothing more. */
export interface LinkHandler {
  /** A piece: the handler may keep it. */
  onBytes(bytes: Buffer): void;
  onDrain(): void;
  /** The peer is gone, the link was destroyed or has failed: `error` tells why where anything does. */
  onClose(error: Error | undefined): void;
}
