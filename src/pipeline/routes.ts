import { type Call, type Handler, jsonReply, type Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import { type Log, silent } from "../core/log.ts";
import { checkModelName, missingModel } from "../core/model-name.ts";
import { modelInPath } from "../core/model-path.ts";
import type { Endpoint } from "../core/provider.ts";
import { encodeModel } from "../dialects/model-card.ts";
import type { Catalog, ListedModel } from "./catalog.ts";
import { hopelessOverflow } from "../dialects/overflow.ts";
import { deleteRoute, pullRoute } from "./model-stock.ts";

/** Answers of the server itself rather than of a model, e.g. `/health`. */
export type OwnRoutes = Readonly<Record<string, Handler>>;

/** What a path answers, by method. */
type Route = Readonly<Record<string, Handler>>;

/** The product in one table: every path that is answered, and by whom. `log` is told of failures that no middleware sees. */
export function routes(catalog: Catalog, own: OwnRoutes, log: Log = silent): Handler {
  const infer = toModel(catalog);
  const table: Record<string, Route> = {
    "/v1/models": { GET: (call) => listModels(catalog, call) },
    "/v1/chat/completions": { POST: infer("/v1/chat/completions") },
    "/v1/completions": { POST: infer("/v1/completions") },
    "/infill": { POST: infer("/infill") },
    "/v1/embeddings": { POST: infer("/v1/embeddings") },
    "/v1/responses": { POST: infer("/v1/responses") },
    "/v1/responses/compact": { POST: infer("/v1/responses/compact") },
    "/v1/responses/input_tokens": { POST: infer("/v1/responses/input_tokens") },
    "/v1/messages": { POST: infer("/v1/messages") },
    "/v1/messages/count_tokens": { POST: infer("/v1/messages/count_tokens") },
    "/api/chat": { POST: infer("/api/chat") },
    "/api/generate": { POST: infer("/api/generate") },
    "/api/embed": { POST: infer("/api/embed") },
    "/api/embeddings": { POST: infer("/api/embeddings") },
    "/api/pull": { POST: pullRoute(catalog, log) },
    "/api/delete": { DELETE: deleteRoute(catalog) },
    "/v1/rerank": { POST: infer("/v1/rerank") },
    "/rerank": { POST: infer("/v1/rerank") },
    "/apply-template": { POST: infer("/apply-template") },
    "/tokenize": { POST: infer("/tokenize") },
    "/detokenize": { POST: infer("/detokenize") },
  };
  for (const [path, handler] of Object.entries(own)) table[path] = { GET: handler };
  return (call) => {
    const route = find(table, call.path, catalog);
    if (route === undefined) {
      throw new ApiError(
        "unknown_url",
        `there is nothing at ${call.method} ${call.path.slice(0, 200)}; this server answers ${Object.keys(table).join(", ")}`,
      );
    }
    const handler = route[call.method === "HEAD" ? "GET" : call.method];
    if (handler !== undefined) return handler(call);
    const allow = Object.keys(route).join(", ");
    throw new ApiError("method_not_allowed", `${call.path} takes ${allow}, not ${call.method}`, { headers: { allow } });
  };
}

function find(table: Readonly<Record<string, Route>>, path: string, catalog: Catalog): Route | undefined {
  if (Object.hasOwn(table, path)) return table[path];
  if (path.startsWith("/v1/models/")) return { GET: (call) => showModel(catalog, call) };
  return path.length > 1 && path.endsWith("/") ? find(table, path.slice(0, -1), catalog) : undefined;
}

/** The handler that finds the body's `model` and hands the call to its provider. */
function toModel(catalog: Catalog): (endpoint: Endpoint) => Handler {
  return (endpoint) => async (call) => {
    const body = await call.json();
    if (!isObject(body)) throw new ApiError("invalid_type", "the request body must be a JSON object");
    const { model } = body;
    if (model === undefined || model === null) throw missingModel();
    if (typeof model !== "string") throw new ApiError("invalid_type", "model must be a string", { param: "model" });
    if (model === "")
      throw new ApiError("invalid_value", "model is empty: name one that GET /v1/models lists", { param: "model" });
    checkModelName(model);
    const target = catalog.resolve(model);
    call.target = target;
    try {
      return await target.provider.handle(call.path === endpoint ? call : call.with({ path: endpoint }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code !== "model_not_found") throw hopelessOverflow(error, body) ?? error;
      // So that the answer can name what is there.
      await catalog.list(call.signal);
      throw catalog.notFound(model, { provider: target.provider.name, cause: error });
    }
  };
}

async function listModels(catalog: Catalog, call: Call): Promise<Reply> {
  const models = await catalog.list(call.signal);
  return jsonReply(200, { object: "list", data: models.map(toJson) });
}

async function showModel(catalog: Catalog, call: Call): Promise<Reply> {
  const name = modelInPath(call.path);
  const found = await catalog.find(catalog.resolve(name), call.signal);
  if (found === undefined) throw catalog.notFound(name);
  return jsonReply(200, { ...toJson(found), id: name });
}

function toJson({ name, provider, model }: ListedModel): JsonObject {
  return encodeModel(model, { name, provider: provider.name, kind: provider.kind });
}
