import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";

/**
 * The error for a request that did not fit its model's context, when no shorter conversation would fit either: its
 * instructions and tools alone are too long. opencode answers every `context_length_exceeded` by compacting and asking
 * again, without end and without a pause (104 requests in 40 s, measured), so this one must be another code, in words
 * that are not on its list. Undefined when a shorter conversation may fit.
 */
export function hopelessOverflow(error: ApiError, body: JsonObject): ApiError | undefined {
  if (error.code !== "context_length_exceeded") return undefined;
  const { limit, prompt } = overflowFigures(error);
  if (limit === undefined) return undefined;
  const above = sizeOf(body.system) + sizeOf(body.instructions) + sizeOf(body.tools);
  const fixed = sizeOf(instructions(body)) + above;
  const all = sizeOf(turns(body)) + above;
  // By the server's own count where it told one, else four bytes a token.
  const tokens = Math.round(prompt === undefined ? fixed / 4 : (prompt * fixed) / Math.max(1, all));
  if (tokens < limit) return undefined;
  return new ApiError(
    "unsupported_capability",
    `the instructions and tools of this request need about ${inThousands(tokens)} tokens by themselves, and the model's window has ${inThousands(limit)}: give the model a larger context (LLAMA_CPP_N_CTX, or the provider's contextLength), or take another model`,
    {
      param: Array.isArray(body.messages) ? "messages" : "input",
      cause: error,
      headers: error.headers,
      ...(error.provider === undefined ? {} : { provider: error.provider }),
    },
  );
}

/** The tokens of the prompt and of the model's context, as the message of a `context_length_exceeded` tells them. */
export function overflowFigures({ message }: ApiError): { readonly prompt?: number; readonly limit?: number } {
  const [limit, prompt] = [/length is (\d+)/, /resulted in (?:at least )?(\d+)/].map((pattern) => {
    const figure = pattern.exec(message)?.[1];
    return figure === undefined ? undefined : Number(figure);
  });
  return { ...(prompt === undefined ? {} : { prompt }), ...(limit === undefined ? {} : { limit }) };
}

/** e.g. `8.2k`: opencode takes a "500" or "502" anywhere in a text for a failure that passes, and asks again. */
function inThousands(count: number): string {
  return `${Math.round(count / 100) / 10}k`;
}

/** The conversation, in the field of any dialect. */
function turns({ messages, input }: JsonObject): Json[] {
  return Array.isArray(messages) ? messages : Array.isArray(input) ? input : [];
}

function instructions(body: JsonObject): Json[] {
  return turns(body).filter(
    (message) => isObject(message) && (message.role === "system" || message.role === "developer"),
  );
}

function sizeOf(json: Json | undefined): number {
  return json === undefined ? 0 : JSON.stringify(json).length;
}
