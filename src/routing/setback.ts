import { isStream } from "../core/bytes.ts";
import { type Headers, type Reply } from "../core/call.ts";
import { ApiError, type ErrorCode } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { readToldFailure } from "../wire/told-failure.ts";
import type { Trouble } from "./breaker.ts";

/** What one target said instead of an answer. */
export interface Setback {
  readonly code: ErrorCode | undefined;
  readonly status: number;
  /** The server's own words, for those who look after it. */
  readonly message: string;
  /** Seconds after which it may be asked again, where it says so. */
  readonly retryAfter: number | undefined;
  /** By its own account something behind it failed, or one model: it is well itself. */
  readonly elsewhere: boolean;
  /** What its caller gets, with a remark behind the message. */
  readonly toReply: (remark: string, headers: Headers) => Reply;
}

/** A failed reply; undefined for any other. */
export function readSetback(reply: Reply): Setback | undefined {
  if (reply.status < 400) return undefined;
  const body = readBody(reply);
  const { code, message = `HTTP ${reply.status}`, provider } = readToldFailure(body, reply.headers);
  return {
    code,
    status: reply.status,
    message,
    retryAfter: secondsOf(reply.headers["retry-after"]),
    elsewhere: provider !== undefined || isOfModel(code),
    toReply: (remark, headers) => ({
      ...reply,
      headers: { ...reply.headers, ...headers },
      ...(remark === "" || body === undefined ? {} : { body: withRemark(body, remark) }),
    }),
  };
}

/** A failure that was thrown. */
export function toSetback(error: ApiError): Setback {
  const { code, status, message, param, provider, retryAfter, cause } = error;
  return {
    code,
    status,
    message,
    retryAfter,
    elsewhere: isOfModel(code),
    toReply: (remark, headers) => {
      const options = {
        ...(param === null ? {} : { param }),
        ...(provider === undefined ? {} : { provider }),
        ...(retryAfter === undefined ? {} : { retryAfter }),
        cause,
        headers: { ...error.headers, ...headers },
      };
      throw new ApiError(code, message + remark, options);
    },
  };
}

/** Whether another target may do better. `unable`: only one that can do more. */
export function remedy({ code, status }: Setback): "another" | "abler" | undefined {
  if (status === 429 || status >= 500 || code === "model_not_found") return "another";
  return code === "context_length_exceeded" || code === "unsupported_capability" ? "abler" : undefined;
}

/** What it says of the upstream's own state; undefined: it is well. */
export function troubleOf({ code, status, elsewhere }: Setback): Trouble | undefined {
  if (status < 500 || status === 501 || elsewhere || code === "upstream_auth_failed") return undefined;
  return code === "upstream_unreachable" ? "unreachable" : "failing";
}

/** In a word that no client takes for something else, as it does numbers. */
export function nameOf({ code, status }: Setback): string {
  if (code !== undefined) return code;
  return status === 429 ? "rate_limit_exceeded" : status >= 500 ? "upstream_error" : "refused";
}

/** They pass, or concern one model of several. */
function isOfModel(code: ErrorCode | undefined): boolean {
  return code === "model_loading" || code === "insufficient_memory" || code === "agent_offline";
}

function readBody({ body }: Reply): JsonObject | undefined {
  if (body === null || isStream(body)) return undefined;
  try {
    const json = JSON.parse(body.toString()) as Json;
    return isObject(json) ? json : undefined;
  } catch {
    return undefined;
  }
}

function withRemark(body: JsonObject, remark: string): string {
  const { error } = body;
  if (isObject(error))
    return JSON.stringify({ ...body, error: { ...error, message: `${String(error.message)}${remark}` } });
  return JSON.stringify(typeof error === "string" ? { ...body, error: error + remark } : body);
}

/** Our own servers say whole seconds; others may say a date. */
function secondsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) && seconds > 0 ? Math.ceil(seconds) : undefined;
}
