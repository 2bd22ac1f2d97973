import { readBytes } from "../core/bytes.ts";
import { type Call, type Handler, jsonReply, type Middleware, type Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { checkModelKey } from "../core/model-name.ts";
import { parseJson } from "../core/parse-json.ts";
import { encodeRunning, encodeShow, encodeTags } from "../dialects/ollama/model-forms.ts";
import { withDefaultTag } from "./default-tag.ts";

/** What answers one path, by method; `next` is the server's own pipeline, which has the models. */
type Form = Readonly<Record<string, (call: Call, next: Handler) => Promise<Reply>>>;

/**
 * What clients of Ollama's ask about a server and its models, answered from its own `/v1/models`: so every role answers,
 * and each key sees the models that it may use. Beside it, `/api/v1/…` is taken for `/v1/…`, as the program did that
 * this one comes from.
 */
export function apiForms(version: string): Middleware {
  const forms = toForms(version);
  return (call, next: Handler) => {
    const path = withoutSlash(call.path);
    if (path !== "/" && !path.startsWith("/api/")) return next(call);
    if (path.startsWith("/api/v1/")) return asOwn(call, next);
    if (path === "/" && call.headers.accept?.includes("text/html") === true) return next(call);
    const form = Object.hasOwn(forms, path) ? forms[path] : undefined;
    if (form === undefined) return isMaking(path) ? Promise.reject(unmade(path)) : withDefaultTag(call, next);
    const answer = form[call.method === "HEAD" ? "GET" : call.method];
    if (answer !== undefined) return answer(call, next);
    const allow = Object.keys(form).join(", ");
    throw new ApiError("method_not_allowed", `${path} takes ${allow}, not ${call.method}`, { headers: { allow } });
  };
}

/**
 * The version whose API this is. GitHub Copilot refuses servers before 0.6.4, Open WebUI takes the number apart: our own
 * version has its own name.
 */
const spokenVersion = "0.32.15";

function toForms(version: string): Readonly<Record<string, Form>> {
  return {
    "/": { GET: () => Promise.resolve(banner) },
    "/api/version": { GET: () => Promise.resolve(jsonReply(200, { version: spokenVersion, lair: version })) },
    "/api/tags": { GET: async (call, next) => jsonReply(200, encodeTags(await cardsOf(call, next))) },
    "/api/ps": { GET: async (call, next) => jsonReply(200, encodeRunning(await cardsOf(call, next))) },
    "/api/show": { POST: show },
  };
}

/** What tells Ollama's clients that somebody is there. */
const banner: Reply = {
  status: 200,
  headers: { "content-type": "text/plain; charset=utf-8" },
  body: "Ollama is running",
};

async function show(call: Call, next: Handler): Promise<Reply> {
  const body = await call.json();
  if (!isObject(body)) throw new ApiError("invalid_type", "the request body must be a JSON object");
  checkModelKey(body);
  checkModelKey(body, "name");
  const name = body.model ?? body.name;
  if (typeof name !== "string" || name === "")
    throw new ApiError("missing_required_parameter", "model is missing: name one that GET /api/tags lists", {
      param: "model",
    });
  const tagless = name.replace(/:latest$/, "");
  const card = await cardOf(call, next, name).catch((error: unknown) => {
    if (tagless === name || !(error instanceof ApiError) || error.code !== "model_not_found") throw error;
    return cardOf(call, next, tagless);
  });
  return jsonReply(200, encodeShow(card));
}

async function cardsOf(call: Call, next: Handler): Promise<JsonObject[]> {
  const json = await ask(call, next, "/v1/models");
  return (isObject(json) && Array.isArray(json.data) ? json.data : []).filter(isObject);
}

async function cardOf(call: Call, next: Handler, name: string): Promise<JsonObject> {
  const json = await ask(call, next, `/v1/models/${encodeURIComponent(name)}`);
  return isObject(json) ? json : {};
}

/** Bytes of a list that is read. */
const longestList = 16 * 1024 * 1024;

/** What the server itself answers to a GET. */
async function ask(call: Call, next: Handler, path: string): Promise<Json> {
  const reply = await next(call.with({ method: "GET", path, search: "" }));
  if (reply.status !== 200 || reply.body === null) throw unread(path);
  return parseJson(await readBytes(reply, longestList, () => unread(path)));
}

function unread(path: string): ApiError {
  return new ApiError("upstream_error", `the models could not be read (${path})`);
}

async function asOwn(call: Call, next: Handler): Promise<Reply> {
  const own = call.with({ path: call.path.slice("/api".length) });
  try {
    return await next(own);
  } finally {
    call.target = own.target;
    call.demand = own.demand;
  }
}

function withoutSlash(path: string): string {
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}

/** What of Ollama's API makes models out of others, or publishes them. */
function isMaking(path: string): boolean {
  return path === "/api/create" || path === "/api/copy" || path === "/api/push" || path.startsWith("/api/blobs/");
}

function unmade(path: string): ApiError {
  return new ApiError(
    "unknown_url",
    `there is nothing at ${path.slice(0, 200)}: models are not made or published here; POST /api/pull and \`lair pull\` fetch them`,
  );
}
