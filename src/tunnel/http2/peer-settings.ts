import { errorCodes, SessionError } from "./errors.ts";
import { largestNumber, largestPayload, settings } from "./frames.ts";

/** What a SETTINGS frame changes for us; undefined is as before. */
export interface PeerSettings {
  /** Streams at a time that we may open. */
  readonly streams: number | undefined;
  /** Bytes that we may send on a new stream. */
  readonly window: number | undefined;
}

/** A SETTINGS frame's payload → what it changes. Throws `SessionError` for a value that cannot be. */
export function readSettings(payload: Buffer): PeerSettings {
  let streams: number | undefined;
  let window: number | undefined;
  for (let at = 0; at < payload.length; at += 6) {
    const name = payload.readUInt16BE(at);
    const value = payload.readUInt32BE(at + 2);
    check(name, value);
    if (name === settings.maxConcurrentStreams) streams = value;
    else if (name === settings.initialWindowSize) window = value;
  }
  return { streams, window };
}

function check(name: number, value: number): void {
  if (name === settings.initialWindowSize && value > largestNumber)
    throw new SessionError(errorCodes.flowControlError, "the peer's window is too large");
  const payloadIsWrong = name === settings.maxFrameSize && (value < largestPayload || value >= 2 ** 24);
  if ((name === settings.enablePush && value > 1) || payloadIsWrong)
    throw new SessionError(errorCodes.protocolError, `the peer's setting ${name} cannot be ${value}`);
}
