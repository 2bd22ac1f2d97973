import { isStream } from "../core/bytes.ts";
import type { Call, Handler, Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";

const tag = ":latest";

/**
 * Clients of Ollama's write `name:latest` for `name`: where nobody has a model of that very name, the one without the tag
 * answers. A body that has gone on as it came cannot be sent again; then the first answer stands.
 */
export async function withDefaultTag(call: Call, next: Handler): Promise<Reply> {
  let reply: Reply | undefined;
  let failure: unknown;
  try {
    reply = await next(call);
    if (reply.status !== 404) return reply;
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "model_not_found") throw error;
    failure = error;
  }
  const bare = await withoutTag(call);
  const second = bare === undefined ? undefined : await again(bare, next);
  if (second === undefined) {
    if (reply === undefined) throw failure;
    return reply;
  }
  if (reply !== undefined && isStream(reply.body)) reply.body.cancel();
  call.target = bare?.target;
  call.demand = bare?.demand;
  return second;
}

/** Undefined: the name has no tag that could be left out. */
async function withoutTag(call: Call): Promise<Call | undefined> {
  if (!Buffer.isBuffer(call.body)) return undefined;
  const body = await call.json();
  if (!isObject(body) || typeof body.model !== "string" || !body.model.endsWith(tag)) return undefined;
  const bare = call.with({ json: { ...body, model: body.model.slice(0, -tag.length) } });
  bare.target = undefined;
  bare.demand = undefined;
  return bare;
}

/** Undefined: there is no such model either. */
async function again(call: Call, next: Handler): Promise<Reply | undefined> {
  try {
    const reply = await next(call);
    if (reply.status !== 404) return reply;
    if (isStream(reply.body)) reply.body.cancel();
    return undefined;
  } catch (error) {
    if (error instanceof ApiError && error.code === "model_not_found") return undefined;
    throw error;
  }
}
