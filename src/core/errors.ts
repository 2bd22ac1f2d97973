import type { JsonObject } from "./json.ts";

/**
 * The closed table of failures: OpenAI `code` → HTTP status and OpenAI `type`.
 * Source: the conventions of llama-server, Ollama, vLLM and OpenAI compared; opencode retries every status of 408,
 * 409, 429 and ≥ 500, so whatever a repetition cannot mend must be another 4xx.
 */
const table = {
  invalid_json: [400, "invalid_request_error"],
  invalid_request: [400, "invalid_request_error"],
  missing_required_parameter: [400, "invalid_request_error"],
  invalid_type: [400, "invalid_request_error"],
  invalid_value: [400, "invalid_request_error"],
  unsupported_parameter: [400, "invalid_request_error"],
  unsupported_capability: [400, "invalid_request_error"],
  context_length_exceeded: [400, "invalid_request_error"],
  /** OpenAI's own word, which clients of the Responses API look for. */
  previous_response_not_found: [400, "invalid_request_error"],
  invalid_image: [400, "invalid_request_error"],
  invalid_model_file: [400, "invalid_request_error"],
  /** It will never fit into the memory that it may have; `insufficient_memory` may pass. */
  model_too_large: [400, "invalid_request_error"],
  invalid_api_key: [401, "authentication_error"],
  forbidden_host: [403, "permission_error"],
  forbidden_origin: [403, "permission_error"],
  insufficient_scope: [403, "permission_error"],
  /** Of a relay, to an agent without a certificate of the configured authority. */
  client_certificate_required: [403, "permission_error"],
  model_not_found: [404, "invalid_request_error"],
  response_not_found: [404, "invalid_request_error"],
  unknown_url: [404, "invalid_request_error"],
  method_not_allowed: [405, "invalid_request_error"],
  request_timeout: [408, "invalid_request_error"],
  request_too_large: [413, "invalid_request_error"],
  unsupported_media_type: [415, "invalid_request_error"],
  /** Of a relay, to another one: the agent that the call was sent for is not there. */
  misdirected_request: [421, "invalid_request_error"],
  /** Of a relay, to a request for a tunnel that it does not know. */
  upgrade_required: [426, "invalid_request_error"],
  headers_too_large: [431, "invalid_request_error"],
  rate_limit_exceeded: [429, "rate_limit_error"],
  concurrency_limit: [429, "rate_limit_error"],
  insufficient_quota: [429, "rate_limit_error"],
  /** Nobody is left to read the answer; the status only ever reaches the log (nginx's convention). */
  client_closed_request: [499, "invalid_request_error"],
  internal_error: [500, "server_error"],
  upstream_unreachable: [502, "server_error"],
  upstream_error: [502, "server_error"],
  upstream_auth_failed: [502, "server_error"],
  /** The agent went away in the middle of a call; it may have been at work already. */
  agent_lost: [502, "server_error"],
  /** No agent that could take the call is connected now. */
  agent_offline: [503, "server_error"],
  engine_crashed: [503, "server_error"],
  model_loading: [503, "server_error"],
  insufficient_memory: [503, "server_error"],
  service_unavailable: [503, "server_error"],
  upstream_timeout: [504, "server_error"],
} as const satisfies Record<string, readonly [status: number, type: string]>;

export type ErrorCode = keyof typeof table;

/** Whether a value from outside is one of the codes. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === "string" && Object.hasOwn(table, value);
}

export interface ApiErrorOptions {
  /** Path of the field at fault, e.g. `messages[2].content`. */
  param?: string;
  /** The provider that failed, e.g. `ollama`: said beside `error`, so that users see who did. */
  provider?: string;
  /** Whole seconds after which a repetition may succeed (`Retry-After`). 429 and 503 get 1 where none is given:
   * Codex gives up at once on a 429 without it. */
  retryAfter?: number;
  /** What lies below; goes to the log, never into a reply. */
  cause?: unknown;
  /** Further headers of the reply, lower-case names. */
  headers?: Record<string, string>;
}

/** A failure that the caller is told about. Thrown anywhere, caught in one middleware, spoken in the caller's dialect. */
export class ApiError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly provider: string | undefined;
  readonly retryAfter: number | undefined;
  readonly headers: Record<string, string>;

  constructor(code: ErrorCode, message: string, options: ApiErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "ApiError";
    this.code = code;
    [this.status, this.type] = table[code];
    this.param = options.param ?? null;
    this.provider = options.provider;
    this.retryAfter = options.retryAfter ?? (this.status === 429 || this.status === 503 ? 1 : undefined);
    this.headers = options.headers ?? {};
  }

  /** OpenAI's error envelope: always its four keys, `code` a string. */
  toJson(): JsonObject {
    const error = { message: this.message, type: this.type, param: this.param, code: this.code };
    return this.provider === undefined ? { error } : { error, provider: this.provider };
  }
}

/** Whatever was thrown, as an `ApiError`. A thing that is none is a bug of ours: the caller learns only that. */
export function toApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown;
  if (thrown instanceof Error && thrown.name === "AbortError") {
    return new ApiError("client_closed_request", "the client closed the connection", { cause: thrown });
  }
  return new ApiError("internal_error", "internal error; the request id finds its cause in the server's log", {
    cause: thrown,
  });
}
