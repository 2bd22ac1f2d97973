/** Kinds of frames (RFC 9113, 6). */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Bits of a frame's flags. */
export const flags = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** What a SETTINGS frame may say (RFC 9113, 6.5.2). */
export const settings = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

/** Bytes before a frame's payload. */
export const headSize = 9;
/** Largest payload that either end sends: what every peer takes without having agreed to more. */
export const largestPayload = 16384;
/** Largest window and largest id of a stream. */
export const largestNumber = 0x7fffffff;
/** What a window is before anything was agreed. */
export const standardWindow = 65535;
/** What a client's bytes begin with. */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Type and flags of a frame in one number. */
export function kindOf(type: number, bits = 0): number {
  return (type << 8) | bits;
}
