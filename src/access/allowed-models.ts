import type { Principal } from "../core/access.ts";
import { isStream, collect } from "../core/bytes.ts";
import { type Call, type Handler, jsonReply, type Middleware, type Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { checkModelKey } from "../core/model-name.ts";
import { parseJson } from "../core/parse-json.ts";
import { ModelScanner } from "../wire/model-scanner.ts";

/**
 * Throws for a model that the caller may not use: `model_not_found`, in OpenAI's words for both cases, so that nobody
 * learns which models there are; `missing_required_parameter` where none is named ("").
 */
export function checkModel(principal: Principal | undefined, model: string): void {
  const allows = principal?.allows;
  if (allows === undefined) return;
  if (model === "")
    throw new ApiError(
      "missing_required_parameter",
      "model is missing: this key may use certain models only, so name one that GET /v1/models lists",
      { param: "model" },
    );
  if (allows(model)) return;
  throw new ApiError(
    "model_not_found",
    `the model '${model.slice(0, 200)}' does not exist, or this key may not use it; GET /v1/models lists those that it may use`,
    { param: "model" },
  );
}

/** Lists of models, OpenAI's and Ollama's: path → where the list is in the reply, and the fields that name a model. */
const lists: Readonly<Record<string, { readonly list: string; readonly names: readonly string[] }>> = {
  "/v1/models": { list: "data", names: ["id"] },
  "/api/tags": { list: "models", names: ["name", "model"] },
  "/api/ps": { list: "models", names: ["name", "model"] },
};

/**
 * Keeps callers whose key is for certain models to those: lists hold no others, and whatever is asked of a model must
 * name one of them, on every path.
 */
export const withAllowedModels: Middleware = (call, next) => {
  const { principal } = call;
  if (principal?.allows === undefined) return next(call);
  return guarded(call, principal, next);
};

async function guarded(call: Call, principal: Principal, next: Handler): Promise<Reply> {
  const path = call.path.endsWith("/") ? call.path.slice(0, -1) : call.path;
  if (call.method === "POST" && call.body !== null) {
    const json = await call.json();
    if (isObject(json)) checkModelKey(json);
    if (isObject(json) && path.startsWith("/api/")) checkModelKey(json, "name");
    await checkNamedOnce(call);
    checkModel(principal, isObject(json) ? namedModel(json, path) : "");
    return next(call);
  }
  if (Object.hasOwn(lists, path)) return filtered(await next(call), path, principal);
  if (path.startsWith("/v1/models/")) checkModel(principal, decodedName(path.slice("/v1/models/".length)));
  return next(call);
}

/** Of a key that stands twice, some readers believe the first, and some the last. */
async function checkNamedOnce(call: Call): Promise<void> {
  const scanner = new ModelScanner();
  scanner.push(await call.bytes());
  if (scanner.occurrences > 1)
    throw new ApiError("invalid_value", "model stands twice in the request body; name one", { param: "model" });
}

/** `name` is how older clients of Ollama's say it; elsewhere it means something else, or nothing. */
function namedModel({ model, name }: JsonObject, path: string): string {
  const named = path.startsWith("/api/") ? (model ?? name) : model;
  return typeof named === "string" ? named : "";
}

async function filtered(reply: Reply, path: string, { allows }: Principal): Promise<Reply> {
  const { list, names } = lists[path] as (typeof lists)[string];
  if (reply.status !== 200 || reply.body === null || allows === undefined) return reply;
  const json = await readReply(reply);
  const entries = isObject(json) ? json[list] : undefined;
  if (!isObject(json) || !Array.isArray(entries)) throw unreadable();
  const mayUse = (entry: Json): boolean =>
    isObject(entry) &&
    names.some((name) => typeof entry[name] === "string") &&
    names.every((name) => entry[name] === undefined || allows(String(entry[name])));
  const { "content-length": _, ...headers } = reply.headers;
  return jsonReply(200, { ...json, [list]: entries.filter(mayUse) }, headers);
}

/** Bytes of a list that is read. */
const longestList = 16 * 1024 * 1024;

async function readReply({ body, encoding }: Reply): Promise<Json> {
  if (body === null) return null;
  if (Buffer.isBuffer(body)) return parseJson(body);
  return parseJson(isStream(body) ? await collect(body, longestList, unreadable) : Buffer.from(body, encoding));
}

function unreadable(): ApiError {
  return new ApiError(
    "upstream_error",
    "the list of models could not be read, so it cannot be told which of them this key may use",
  );
}

function decodedName(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
