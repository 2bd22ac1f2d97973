import type { Call, Headers, Reply, Target } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import type { Model } from "../core/model.ts";
import { endpoints, type Provider } from "../core/provider.ts";
import { hopsHeader, hopsOf, requestHeaders } from "../wire/onward-headers.ts";
import { spliceFields } from "../wire/splice.ts";
import { listCards, probe, toModel } from "./openai-models.ts";
import { mostWhole, passReply } from "./passed-reply.ts";
import type { ProviderSettings, ProviderTools } from "./settings.ts";
import { Upstream } from "./upstream.ts";
import { upstreamError } from "./upstream-error.ts";

/**
 * Another runtime, relay or gateway, which speaks every dialect itself: path, query and bytes pass untouched both ways
 * but for the model's name, errors as they are. What is between the two of us stays there: keys, addresses, limits.
 */
export function remote(name: string, settings: Omit<ProviderSettings, "kind">, { log }: ProviderTools): Provider {
  const upstream = new Upstream(name, { ...settings, discreet: true }, log);
  return {
    name,
    kind: "lair",
    speaks: new Set(endpoints),
    handle: (call) => forward(call, upstream),
    models: (signal) => listModels(upstream, signal),
    health: (signal) => probe(upstream, "/health", signal),
    close: () => upstream.close(),
  };
}

async function forward(call: Call, upstream: Upstream): Promise<Reply> {
  const { target } = call;
  if (target === undefined) throw new TypeError("the call has no target");
  const path = call.path + call.search;
  // Written into a request line as it is: whatever could end it must not be there.
  if (!/^\/[\x21-\x7e]*$/.test(path))
    throw new ApiError("invalid_request", "this is not a request that can be carried on to another server");
  const reply = await upstream.send({
    method: "POST",
    path,
    ...(await toBody(call, target)),
    headers: onward(call),
    signal: call.leaving,
  });
  if (isOurs(reply.status))
    throw upstreamError(upstream.name, reply.status, await reply.bytes(mostWhole), reply.headers);
  return passReply(reply, call.path, target);
}

async function toBody(
  call: Call,
  { model, requested }: Target,
): Promise<{ body: Buffer | string; encoding?: "latin1" }> {
  if (model === requested) return { body: await call.bytes() };
  return { body: spliceFields(await call.latin1(), { model }), encoding: "latin1" };
}

function onward(call: Call): Headers {
  const headers = requestHeaders(call.headers);
  headers["x-request-id"] = call.id;
  headers[hopsHeader] = String(hopsOf(call.headers) + 1);
  return headers;
}

/** Replies that mean something to our owner, and would mislead the caller: redirections, never followed, and refusals of our key. */
function isOurs(status: number): boolean {
  return (status >= 300 && status < 400) || status === 401 || status === 403;
}

async function listModels(upstream: Upstream, signal: AbortSignal | undefined): Promise<Model[]> {
  const cards = await listCards(upstream, signal);
  return cards.map((card) => ({ ...toModel(card), card }));
}
