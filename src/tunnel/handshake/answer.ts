import type { Headers } from "../../core/call.ts";

/** What came instead of the protocol that was asked for: an HTTP response, its body as far as `longestAnswer`. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

/** Bytes that are read of a response's head, and of its body. */
export const longestAnswer = 16 * 1024;
