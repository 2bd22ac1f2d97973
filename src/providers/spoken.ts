import type { Call, Headers, Reply, Target } from "../core/call.ts";
import { isObject } from "../core/json.ts";
import type { Endpoint, Provider, TranslatedPath } from "../core/provider.ts";
import { encodeWaiting, hasEvents } from "../dialects/error-events.ts";
import { requestHeaders } from "../wire/onward-headers.ts";
import { spliceFields } from "../wire/splice.ts";
import { delegate } from "./gate.ts";
import { orHeartbeats } from "./passthrough.ts";
import { mostWhole, passReply } from "./passed-reply.ts";
import type { ProviderKind } from "./settings.ts";
import { upstreamError } from "./upstream-error.ts";
import type { Upstream } from "./upstream.ts";

/**
 * The formats that the servers of a kind are trusted with unasked; all others are made of their chat here. Read from
 * their sources in August 2026.
 */
export const trusted: Readonly<Record<Exclude<ProviderKind, "lair">, readonly TranslatedPath[]>> = {
  // Its /v1/messages has no count_tokens and takes no tool_choice, its /v1/responses is without `truncation`.
  ollama: [],
  // /v1/messages wants the header `anthropic-version`; /v1/responses refuses `input_image` and the reasoning that it was given.
  lmdeploy: [],
  // /v1/messages tells a usage of 0 and 0.
  mnn: [],
  // /v1/responses keeps what it keeps in memory that is never given back, and `tool_choice` is what its flags allow.
  vllm: [],
  // Any server at all.
  openai: [],
};

interface SpokenSettings {
  readonly upstream: Upstream;
  readonly paths: ReadonlySet<Endpoint>;
  /** Milliseconds of silence after which a stream gets a sign of life. */
  readonly heartbeat?: number;
}

/** The provider, with these paths' calls passed through to its server: only the model's name changes on the way. */
export function speaking(provider: Provider, settings: SpokenSettings): Provider {
  const { paths } = settings;
  if (paths.size === 0) return provider;
  return {
    ...delegate(provider),
    speaks: new Set([...provider.speaks, ...paths]),
    handle: (call) => (paths.has(call.path as Endpoint) ? pass(call, settings) : provider.handle(call)),
  };
}

async function pass(call: Call, settings: SpokenSettings): Promise<Reply> {
  const { target } = call;
  if (target === undefined) throw new TypeError("the call has no target");
  const asked = await call.json();
  const isStream = isObject(asked) && asked.stream === true;
  const pending = exchange(call, target, settings);
  return isStream && hasEvents(call.path) ? orHeartbeats(pending, call.path, settings) : pending;
}

async function exchange(call: Call, target: Target, { upstream, heartbeat = 15_000 }: SpokenSettings): Promise<Reply> {
  const { model, requested } = target;
  const text = await call.latin1();
  const reply = await upstream.send({
    method: "POST",
    path: call.path,
    body: model === requested ? text : spliceFields(text, { model }),
    encoding: "latin1",
    headers: onward(call),
    signal: call.leaving,
  });
  if (reply.status < 200 || reply.status > 299)
    throw upstreamError(upstream.name, reply.status, await reply.bytes(mostWhole), reply.headers);
  return passReply(reply, call.path, target, { interval: heartbeat, events: () => encodeWaiting(call.path, "ping") });
}

/** LMDeploy answers 400 to Anthropic's format without its header, which few but Anthropic's own clients send. */
const anthropicVersion = "2023-06-01";

function onward(call: Call): Headers {
  const headers = requestHeaders(call.headers);
  headers["x-request-id"] = call.id;
  headers["content-type"] = "application/json";
  if (call.path.startsWith("/v1/messages")) headers["anthropic-version"] ??= anthropicVersion;
  return headers;
}
