/** What ends a stream or a session before its time, as on the wire (RFC 9113, 7). */
export const errorCodes = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
  http11Required: 13,
} as const;

/** The peer broke the rules so that the whole session must end; `code` is one of `errorCodes`. */
export class SessionError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = "SessionError";
    this.code = code;
  }
}

/** A code as people know it, e.g. `CANCEL`. */
export function nameOfCode(code: number): string {
  const name = Object.entries(errorCodes).find(([, value]) => value === code)?.[0];
  return name === undefined ? `code ${code}` : name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}
