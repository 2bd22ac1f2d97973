import type { Headers } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import type { LimitKind } from "./limit-kinds.ts";

/** What a call asks of one limit. */
export interface Asked {
  readonly kind: LimitKind;
  /** In the meter's units, as all below. */
  readonly capacity: number;
  readonly amount: number;
  /** What is left; negative when more was used than there was. */
  readonly rest: number;
  /** Milliseconds until it is possible. */
  readonly until: number;
}

/** The refusal of a call for which too little is left. */
export function limitReached(asked: Asked, headers: Headers): ApiError {
  const { kind, capacity, amount, rest, until } = asked;
  const retryAfter = Math.max(1, Math.ceil(until / 1000));
  const limit = `the limit of ${kind.say(capacity)} per ${kind.span} is reached`;
  const left = kind.say(Math.max(0, Math.floor(rest)));
  const what = kind.unit === "requests" ? "" : `: this request may use ${kind.say(amount)}, and ${left} are left`;
  const less = kind.unit === "requests" ? "" : "; a smaller max_tokens asks for less";
  if (kind.span !== "minute") {
    const renewed = new Date(Math.ceil((Date.now() + until) / 1000) * 1000).toISOString().replace(".000Z", "Z");
    return new ApiError("insufficient_quota", `${limit}${what}; the ${kind.span} ends at ${renewed}${less}`, {
      retryAfter,
      headers,
    });
  }
  return new ApiError("rate_limit_exceeded", `${limit}${what}; it is possible in ${retryAfter} s${less}`, {
    retryAfter,
    headers,
  });
}

/** The refusal of a call that finds all places taken. */
export function placesTaken(most: number, headers: Headers): ApiError {
  const calls = most === 1 ? "1 call" : `${most} calls`;
  return new ApiError(
    "concurrency_limit",
    `the limit of ${calls} at a time is reached; the next is possible when one of them ends`,
    { headers },
  );
}

/**
 * The refusal of a call that no waiting can help: 400, for clients repeat every 429, and not
 * `context_length_exceeded`, for opencode would shorten the conversation and ask again without end.
 */
export function neverFits({ kind, capacity, amount }: Pick<Asked, "kind" | "capacity" | "amount">): ApiError {
  return new ApiError(
    "invalid_request",
    `the prompt of this request alone has about ${inThousands(amount)} tokens, and ${inThousands(capacity)} per ${kind.span} are all that this key may use: send a shorter one, or have the key's ${kind.field} raised`,
    { param: "messages" },
  );
}

/** The refusal of a call by a limit of 0. */
export function nothingAllowed(kind: { readonly field: string }): ApiError {
  return new ApiError(
    "insufficient_scope",
    `this key may use nothing of this kind: its ${kind.field} is 0; whoever manages the keys can raise it`,
  );
}

/** The refusal while nobody can tell what a caller has used. */
export function limitsUnknown(): ApiError {
  return new ApiError(
    "service_unavailable",
    "this key has limits, and the shared state by which they are counted has been away for longer than state.grace allows; whoever runs this server finds the cause in its log",
    { retryAfter: 5 },
  );
}

/** Span of time as OpenAI writes it in `x-ratelimit-reset-*`: `1s`, `6m0s`. */
export function formatReset(milliseconds: number): string {
  const seconds = Math.ceil(milliseconds / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}

/** E.g. `8.2k`: opencode takes a "500" or "502" anywhere in a text for a failure that passes, and asks again. */
function inThousands(count: number): string {
  return `${Math.round(count / 100) / 10}k`;
}
