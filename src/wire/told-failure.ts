import type { Headers } from "../core/call.ts";
import { type ErrorCode, isErrorCode } from "../core/errors.ts";
import { isObject, type Json } from "../core/json.ts";

/** Where our own servers tell the code of a failure whose body has no place for it, as in Anthropic's and Ollama's forms. */
export const failureHeader = "x-lair-error";

/** What a failed reply tells; each absent where it does not. */
export interface ToldFailure {
  readonly code: ErrorCode | undefined;
  readonly message: string | undefined;
  readonly param: string | undefined;
  /** The provider that failed behind the server that tells. */
  readonly provider: string | undefined;
}

/** Reads the body of a failed reply, in the form of any API that our servers speak. */
export function readToldFailure(json: Json | undefined, headers: Headers): ToldFailure {
  const body = isObject(json) ? json : {};
  const error = isObject(body.error) ? body.error : { message: body.error };
  const code = isErrorCode(error.code) ? error.code : headers[failureHeader];
  return {
    code: isErrorCode(code) ? code : undefined,
    message: textOf(error.message),
    param: textOf(error.param),
    provider: textOf(body.provider),
  };
}

function textOf(value: Json | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}
