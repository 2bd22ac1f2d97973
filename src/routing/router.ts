import { sessionOf } from "../core/affinity.ts";
import { type Call, type Handler, jsonReply, type Reply } from "../core/call.ts";
import { type Clock, systemClock } from "../core/clock.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import { missingModel } from "../core/model-name.ts";
import { modelInPath } from "../core/model-path.ts";
import type { Health, Provider } from "../core/provider.ts";
import type { UpstreamState } from "../core/upstream-state.ts";
import { endpointOf, readDemand } from "../dialects/demand.ts";
import { hopelessOverflow } from "../dialects/overflow.ts";
import { hopsOf } from "../wire/onward-headers.ts";
import { Backend } from "./backend.ts";
import { dispatch } from "./dispatch.ts";
import { findCard, listCards } from "./listing.ts";
import { Names } from "./names.ts";
import { Planner } from "./plan.ts";

/** One of a gateway's upstreams. */
export interface RoutedUpstream {
  readonly provider: Provider;
  /** Its share of the calls among those that have the same model, > 0. */
  readonly weight: number;
}

export interface RouterSettings {
  /** Their providers' names differ. */
  readonly upstreams: readonly RoutedUpstream[];
  /** Virtual models: name → targets in order, each `upstream/model`, a name that upstreams list, or another virtual model. */
  readonly models: Readonly<Record<string, readonly string[]>>;
  /** Milliseconds that an upstream may take to list its models or to tell how it is. */
  readonly probeTimeout: number;
  readonly log: Log;
  readonly clock?: Clock;
}

/** What a gateway answers with: upstreams, by the model's name. */
export interface Router {
  /** Answers `/v1/models`, and sends calls that name a model to an upstream. Throws `ApiError`. */
  readonly handler: Handler;
  /** The cards of all models, an upstream that is away with those that it listed last. */
  models(): Promise<JsonObject[]>;
  /** Ok while a call could be sent to an upstream that has answered before. */
  health(): Promise<Health>;
  states(): UpstreamState[];
  /** Ends the health checks; the providers stay open. */
  close(): void;
}

/** Most gateways that a call may pass. */
const mostHops = 8;
/** Milliseconds for which a list of models is new enough for whoever asks for it. */
const listAge = 3000;

/** Sends calls to upstreams, and looks after these from now on. Throws `Error` for virtual models that make no sense. */
export function createRouter(settings: RouterSettings): Router {
  const { probeTimeout, log, clock = idleClock } = settings;
  const backends = settings.upstreams.map((upstream) => new Backend({ ...upstream, probeTimeout, log, clock }));
  const routing = new Routing(backends, settings.models);
  for (const backend of backends) backend.start();
  return {
    handler: (call) => routing.handle(call),
    models: () => routing.models(),
    health: () => Promise.resolve(healthOf(backends)),
    states: () => backends.map((backend) => backend.state()),
    close: () => {
      for (const backend of backends) backend.close();
    },
  };
}

/** Looking after upstreams keeps no process alive. */
const idleClock: Clock = {
  ...systemClock,
  after(milliseconds, task) {
    const timer = setTimeout(task, milliseconds).unref();
    return () => clearTimeout(timer);
  },
};

class Routing {
  readonly #names: Names;
  readonly #planner = new Planner();

  constructor(backends: readonly Backend[], models: RouterSettings["models"]) {
    this.#names = new Names(backends, models);
  }

  async handle(call: Call): Promise<Reply> {
    checkHops(call);
    const path = withoutSlash(call.path);
    if (path === "/v1/models" || path.startsWith("/v1/models/")) return this.#showModels(call, path);
    if (endpointOf({ method: "POST", path }) === undefined) throw unknown(call);
    if (call.method !== "POST")
      throw new ApiError("method_not_allowed", `${path} takes POST, not ${call.method}`, {
        headers: { allow: "POST" },
      });
    const asked = withPath(call, path === "/rerank" ? "/v1/rerank" : path);
    try {
      return await this.#ask(asked);
    } finally {
      call.target = asked.target;
    }
  }

  /** An upstream that did not answer when it was asked last is not waited for. */
  async models(): Promise<JsonObject[]> {
    const asked = [...this.#names.backends.values()].map(({ list }) => ({
      failed: list.failed,
      done: list.refresh(listAge),
    }));
    await Promise.all(asked.flatMap(({ failed, done }) => (failed ? [] : [done])));
    return listCards(this.#names);
  }

  async #showModels(call: Call, path: string): Promise<Reply> {
    if (call.method !== "GET" && call.method !== "HEAD")
      throw new ApiError("method_not_allowed", `${path.slice(0, 200)} takes GET, not ${call.method}`, {
        headers: { allow: "GET" },
      });
    const cards = await this.models();
    if (path === "/v1/models") return jsonReply(200, { object: "list", data: cards });
    const name = modelInPath(path);
    await this.#names.resolve(name, call.principal?.allows);
    const card = findCard(this.#names, name);
    if (card === undefined) throw this.#names.notFound(name, call.principal?.allows);
    return jsonReply(200, card);
  }

  async #ask(call: Call): Promise<Reply> {
    const demand = call.demand ?? (await readDemand(call));
    const requested = demand === undefined || demand.model === "" ? await nameIn(call) : demand.model;
    const known = this.#names.find(requested);
    const stages = known.length > 0 ? known : await this.#names.resolve(requested, call.principal?.allows);
    const session = sessionOf(call.headers);
    const targets = this.#planner.plan({ stages, session, demand }).filter(({ backend }) => takes(backend, call));
    if (targets.length === 0) throw unspoken(call, requested);
    try {
      return await dispatch({ call, requested, targets, demand });
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "context_length_exceeded") throw error;
      const body = await call.json();
      throw isObject(body) ? (hopelessOverflow(error, body) ?? error) : error;
    }
  }
}

function withoutSlash(path: string): string {
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}

function withPath(call: Call, path: string): Call {
  return call.path === path ? call : call.with({ path });
}

/** Our own servers judge paths themselves; others are asked what they are known to speak. */
function takes({ provider }: Backend, { path }: Call): boolean {
  return provider.kind === "lair" || provider.speaks.has(path as never);
}

function unspoken({ path }: Call, model: string): ApiError {
  return new ApiError(
    "unsupported_capability",
    `no upstream that has the model '${model.slice(0, 200)}' answers ${path}`,
    { param: "model" },
  );
}

/** Throws where the body names no model. */
async function nameIn(call: Call): Promise<string> {
  const body = await call.json();
  if (!isObject(body)) throw new ApiError("invalid_type", "the request body must be a JSON object");
  const { model } = body;
  if (typeof model === "string" && model !== "") return model;
  if (model === undefined || model === null || model === "") throw missingModel();
  throw new ApiError("invalid_type", "model must be a string", { param: "model" });
}

function checkHops({ headers }: Call): void {
  if (hopsOf(headers) <= mostHops) return;
  throw new ApiError(
    "invalid_request",
    `this call has passed more than ${mostHops} gateways: one of them has itself, or one that comes before it, among its upstreams (gateway.upstreams)`,
  );
}

function unknown({ method, path }: Call): ApiError {
  return new ApiError(
    "unknown_url",
    `there is nothing at ${method} ${path.slice(0, 200)}; this gateway answers /v1/models, /v1/chat/completions, /v1/responses and the other calls that name a model`,
  );
}

function healthOf(backends: readonly Backend[]): Health {
  const usable = ({ healthy, breaker, list }: Backend): boolean => healthy && breaker.circuit !== "open" && list.known;
  if (backends.some(usable)) return { ok: true };
  const names = backends.map(({ name }) => name).join(", ");
  return { ok: false, detail: names === "" ? "there is no upstream" : `no upstream answers: ${names}` };
}
