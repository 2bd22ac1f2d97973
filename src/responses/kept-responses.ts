import { randomBytes } from "node:crypto";
import type { Call, Handler, Middleware, Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import { type ResponseStore, StateError } from "../state/state.ts";
import { Archive } from "./archive.ts";
import { type AskedTurn, readTurn } from "./asked-turn.ts";
import { BackgroundResponses } from "./background.ts";
import { type Keeping, keepReply } from "./keep-reply.ts";
import { type StoredResponses, storedRoute } from "./stored-routes.ts";

export interface KeptResponsesSettings {
  readonly store: ResponseStore;
  /** Milliseconds for which a response is kept. */
  readonly lifetime: number;
  readonly log: Log;
}

export interface KeptResponses {
  readonly middleware: Middleware;
  /** Gives up what is made in the background, and says so where it is kept. */
  close(): Promise<void>;
}

/** The paths whose bodies may go on from a kept response; only the first makes one that is kept. */
const paths = /^\/v1\/responses(\/compact|\/input_tokens)?\/?$/;

/**
 * What the Responses API keeps between calls: answers by their id, conversations that go on from one, answers that are
 * made in the background. Whoever comes after it sees each call complete: its whole `input`, and `store: false`.
 */
export function keptResponses({ store, lifetime, log }: KeptResponsesSettings): KeptResponses {
  const archive = new Archive(store, lifetime);
  const background = new BackgroundResponses(archive, log);
  const stored: StoredResponses = { archive, background };
  return {
    middleware: (call, next) => {
      if (!call.path.startsWith("/v1/responses")) return next(call);
      return whileKept(() => route(stored, call, next, log));
    },
    close: () => background.close(),
  };
}

async function route(stored: StoredResponses, call: Call, next: Handler, log: Log): Promise<Reply> {
  const about = storedRoute(stored, call);
  if (about !== undefined) return about(call);
  const [matched, beside] = paths.exec(call.path) ?? [];
  if (matched === undefined || call.method !== "POST") return next(call);
  const body = await call.json();
  if (!isObject(body)) return next(call);
  const turn = await readTurn(stored.archive, call, body);
  const isWhole = turn.body === undefined || turn.body["input"] === body["input"];
  if (beside !== undefined) return next(isWhole ? call : call.with({ json: withoutState(turn) }));
  return turn.body === undefined ? next(call) : answer(stored, { call, body, turn, log }, next);
}

interface Asked {
  readonly call: Call;
  /** As it came. */
  readonly body: JsonObject;
  readonly turn: AskedTurn;
  readonly log: Log;
}

async function answer({ archive, background }: StoredResponses, asked: Asked, next: Handler): Promise<Reply> {
  const { call, body, turn, log } = asked;
  const json = turn.body ?? body;
  const id = newId();
  const told = {
    ...(turn.stored ? { id, store: true } : {}),
    previous_response_id: body["previous_response_id"] ?? null,
    background: turn.background,
  };
  const rewrite = (response: JsonObject): JsonObject => ({ ...response, ...told });
  const toKept = (response: JsonObject): ReturnType<Archive["continue"]> =>
    archive.continue(response, turn.items, turn.previous);
  if (turn.background) {
    const queued = toKept(rewrite(toQueued(body)));
    return background.start({ call, body: json, queued, rewrite }, next);
  }
  const keeping: Keeping = {
    rewrite,
    finish: async (response) => {
      if (!turn.stored) return response;
      try {
        await archive.keep(call.principal?.id ?? "", toKept(response));
        return response;
      } catch (err) {
        log.warn({ id: call.id, err }, "a response could not be kept");
        return { ...response, store: false };
      }
    },
  };
  const inner = call.with({ json });
  try {
    return await keepReply(await next(inner), keeping);
  } finally {
    // What the log says of the call was found out about its copy.
    call.target = inner.target;
  }
}

/**
 * An id that nobody can guess, whatever ids the callers give their calls. Of letters only: opencode takes digits such as
 * 429 in a message for a status.
 */
function newId(): string {
  return `resp_${randomBytes(24)
    .toString("hex")
    .replace(/\d/g, (digit) => "ghijklmnop".charAt(Number(digit)))}`;
}

/** A body for a path that keeps nothing and takes no `store`. */
function withoutState({ body }: AskedTurn): JsonObject {
  const { store: _store, ...rest } = body ?? {};
  return rest;
}

/** A response of which nothing is known but what was asked. */
function toQueued(body: JsonObject): JsonObject {
  const text = (key: string): string | null => (typeof body[key] === "string" ? body[key] : null);
  const number = (key: string): number | null => (typeof body[key] === "number" ? body[key] : null);
  return {
    object: "response",
    created_at: Math.floor(Date.now() / 1000),
    status: "queued",
    error: null,
    incomplete_details: null,
    instructions: text("instructions"),
    max_output_tokens: number("max_output_tokens"),
    model: text("model"),
    output: [],
    parallel_tool_calls: body["parallel_tool_calls"] ?? true,
    temperature: number("temperature"),
    tool_choice: body["tool_choice"] ?? "auto",
    tools: body["tools"] ?? [],
    top_p: number("top_p"),
    metadata: body["metadata"] ?? {},
  };
}

/** Throws `service_unavailable` where the state cannot be reached. */
async function whileKept(work: () => Promise<Reply>): Promise<Reply> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    throw new ApiError("service_unavailable", "kept responses cannot be reached now", { cause: error });
  }
}
