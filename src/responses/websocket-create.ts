import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { parseJson } from "../core/parse-json.ts";
import type { LastResponse } from "./websocket-memory.ts";
import type { TurnRequest } from "./websocket-turn.ts";

/** What one message asks for. */
export interface Create extends TurnRequest {
  /** The new items, as sent. */
  readonly input: Json[];
  /** The response that it goes on from, known to this connection alone. */
  readonly last: LastResponse | undefined;
  /** Whether nobody but this connection will know its response. */
  readonly isPrivate: boolean;
}

/**
 * A message → the call that it stands for: `{type: "response.create"}` and the body of `POST /v1/responses`. Throws
 * `ApiError` for anything else. `lastOf` finds the response with an id in the connection's memory.
 */
export function decodeCreate(message: Buffer, lastOf: (id: string) => LastResponse | undefined): Create {
  const event = parseJson(message);
  if (!isObject(event)) throw new ApiError("invalid_type", "a message must be a JSON object");
  const { type, generate, stream: _stream, stream_options: _streamOptions, background, ...asked } = event;
  if (type !== "response.create")
    throw new ApiError("invalid_value", "the only type of message here is `response.create`", { param: "type" });
  if (background === true)
    throw new ApiError(
      "unsupported_parameter",
      "`background` is for POST /v1/responses; here every answer is awaited",
      {
        param: "background",
      },
    );
  const previous = typeof asked.previous_response_id === "string" ? asked.previous_response_id : undefined;
  const last = previous === undefined ? undefined : lastOf(previous);
  const warmsUp = generate === false;
  const body: JsonObject = { ...asked, stream: true, ...(warmsUp ? shortest : {}) };
  if (last !== undefined) {
    body.input = [...last.items, ...toItems(asked.input)];
    if (last.before === undefined) delete body.previous_response_id;
    else body.previous_response_id = last.before;
  }
  return {
    body,
    previous: last === undefined ? undefined : previous,
    warmsUp,
    input: toItems(asked.input),
    last,
    isPrivate: warmsUp || asked.store === false,
  };
}

/** Of a request that is made for its prompt: one token is the least that can be asked for, and nobody sees it. */
const shortest: JsonObject = { max_output_tokens: 1, store: false };

function toItems(input: Json | undefined): Json[] {
  if (Array.isArray(input)) return input;
  return typeof input === "string" ? [{ type: "message", role: "user", content: input }] : [];
}
