import type { Handler } from "../core/call.ts";
import type { Endpoint } from "../core/provider.ts";
import type { Source } from "./source.ts";

/** How many tokens a prompt has, in the words of each API: `/v1/messages/count_tokens`, `/v1/responses/input_tokens`. */
export function countRoutes(_source: Source): Map<Endpoint, Handler> {
  return new Map();
}
