import { type Call, type Handler, jsonReply, type Reply, type Target } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import { checkModelName } from "../core/model-name.ts";
import type { Provider, PullProgress } from "../core/provider.ts";
import { encodePull } from "../dialects/ollama/pull-lines.ts";
import { streamReply, whileHere } from "../dialects/stream-reply.ts";
import { linesHeaders } from "../wire/headers.ts";
import type { Catalog } from "./catalog.ts";

/** `POST /api/pull`: the provider that the model's name means fetches it; lines tell how far it is, unless `stream` is false. */
export function pullRoute(catalog: Catalog, log: Log): Handler {
  return async (call) => {
    const body = await bodyOf(call);
    const { provider, model } = namedIn(body, catalog);
    if (provider.pullModel === undefined) throw cannot("fetch", "pullModel", provider, catalog);
    const controller = new AbortController();
    const stop = (): void => controller.abort();
    call.signal.addEventListener("abort", stop);
    const progress = provider.pullModel(model, controller.signal);
    if (body.stream !== false) return streamed(progress, { call, log, stop });
    try {
      await whileHere(drained(progress), call.signal);
    } finally {
      stop();
    }
    return jsonReply(200, { status: "success" });
  };
}

/** `DELETE /api/delete`: a model that a provider may delete is gone from its disk. */
export function deleteRoute(catalog: Catalog): Handler {
  return async (call) => {
    const { provider, model } = namedIn(await bodyOf(call), catalog);
    if (provider.deleteModel === undefined) throw cannot("delete", "deleteModel", provider, catalog);
    await provider.deleteModel(model, call.signal);
    return { status: 200, headers: {}, body: null };
  };
}

interface Pulling {
  readonly call: Call;
  readonly log: Log;
  readonly stop: () => void;
}

/** Milliseconds: until then a failure has a status of its own. */
const headDelay = 2000;
/** Milliseconds after which the last line is said again. */
const heartbeatInterval = 10_000;

function streamed(progress: AsyncIterable<PullProgress>, { call, log, stop }: Pulling): Promise<Reply> {
  return streamReply(progress, {
    signal: call.signal,
    stop,
    // Said before anybody was asked.
    isWaiting: ({ status }) => status === "pulling manifest",
    isAccepted: () => false,
    headers: linesHeaders,
    encode: encodePull,
    onFailure: (error) => log.warn({ id: call.id, code: error.code, err: error }, "a model could not be fetched"),
    headDelay,
    heartbeatInterval,
  });
}

async function drained(progress: AsyncIterable<PullProgress>): Promise<void> {
  for await (const _ of progress);
}

async function bodyOf(call: Call): Promise<JsonObject> {
  const body = await call.json();
  if (isObject(body)) return body;
  throw new ApiError("invalid_type", "the request body must be a JSON object");
}

/** Older clients say `name`. */
function namedIn({ model, name }: JsonObject, catalog: Catalog): Target {
  const named = model ?? name;
  if (typeof named !== "string" || named === "")
    throw new ApiError("missing_required_parameter", "model is missing: name the model", { param: "model" });
  checkModelName(named);
  return catalog.resolve(named);
}

function cannot(what: string, method: "pullModel" | "deleteModel", provider: Provider, catalog: Catalog): ApiError {
  const able = [...catalog.providers.values()].filter((one) => one[method] !== undefined).map(({ name }) => name);
  const advice =
    able.length === 0 ? "no provider here does" : `write the name of one that does before it: ${able.join(", ")}`;
  return new ApiError("unsupported_capability", `${provider.name} does not ${what} models; ${advice}`, {
    param: "model",
    provider: provider.name,
  });
}
