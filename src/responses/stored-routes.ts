import { type Call, type Handler, jsonReply, type Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { encodeBrokenStream } from "../dialects/error-events.ts";
import { eventStreamHeaders } from "../wire/headers.ts";
import { LateStream } from "../wire/late-stream.ts";
import type { Archive } from "./archive.ts";
import type { BackgroundResponses } from "./background.ts";
import { encodeEvent, EventBlocks, readEvent } from "./event-blocks.ts";
import { idOf, isUnderWay, type KeptResponse } from "./kept-response.ts";

/** What answers below `/v1/responses/`. */
export interface StoredResponses {
  readonly archive: Archive;
  readonly background: BackgroundResponses;
}

/** Milliseconds between two looks at a response that another process is at work on, and how long a cancellation waits for it. */
const lookInterval = 250;
const longestWait = 5000;
/** Milliseconds between comments to whoever waits for such a response. */
const heartbeat = 10_000;

type Action = (stored: StoredResponses, call: Call, id: string) => Promise<Reply>;

const onItself: Readonly<Record<string, Action>> = { GET: show, DELETE: remove };
const below: Readonly<Record<string, Readonly<Record<string, Action>>>> = {
  input_items: { GET: listInput },
  cancel: { POST: cancel },
};

const path = /^\/v1\/responses\/(?!(?:compact|input_tokens)?\/?$)([^/]+)(?:\/([^/]+))?\/?$/;

/** What answers a call about one kept response; undefined: the call is about none. Throws `unknown_url` and `method_not_allowed`. */
export function storedRoute(stored: StoredResponses, call: Call): Handler | undefined {
  const [matched, id = "", part] = path.exec(call.path) ?? [];
  if (matched === undefined) return undefined;
  const actions = part === undefined ? onItself : Object.hasOwn(below, part) ? below[part] : undefined;
  if (actions === undefined)
    throw new ApiError("unknown_url", `there is nothing at ${call.method} ${call.path.slice(0, 200)}`);
  const action = actions[call.method === "HEAD" ? "GET" : call.method];
  if (action !== undefined) return (asked) => action(stored, asked, id);
  const allow = Object.keys(actions).join(", ");
  throw new ApiError("method_not_allowed", `${call.path.slice(0, 200)} takes ${allow}, not ${call.method}`, {
    headers: { allow },
  });
}

async function show(stored: StoredResponses, call: Call, id: string): Promise<Reply> {
  const query = new URLSearchParams(call.search);
  const kept = await find(stored, call, id);
  if (query.get("stream") !== "true") return jsonReply(200, kept.response);
  const after = readAfter(query.get("starting_after"));
  const principal = principalOf(call);
  const work = stored.background.find(principal, id);
  if (isUnderWay(kept) && kept.streamed !== true)
    throw new ApiError("invalid_value", "this response is made without stream: true, so its events cannot be read", {
      param: "stream",
    });
  if (work?.events !== undefined)
    return { status: 200, headers: eventStreamHeaders, body: work.events.read(after ?? -1) };
  if (!isUnderWay(kept)) return replay(stored.archive, principal, kept, after);
  return { status: 200, headers: eventStreamHeaders, body: replayLater(stored, call, id, after) };
}

/** The events of a finished response: as they were, where they were kept, else its beginning and its end. */
async function replay(archive: Archive, principal: string, kept: KeptResponse, after = -1): Promise<Reply> {
  const { response } = kept;
  const told = await archive.readEvents(principal, idOf(kept));
  const events =
    told === undefined
      ? [
          {
            type: "response.created",
            response: { ...response, status: "in_progress", output: [] },
            sequence_number: 0,
          },
          { type: `response.${String(response["status"])}`, response, sequence_number: Math.max(1, after + 1) },
        ]
      : readEvents(told);
  const wanted = events.filter(({ sequence_number: sequence }) => Number(sequence) > after);
  return { status: 200, headers: eventStreamHeaders, body: Buffer.concat(wanted.map(encodeEvent)) };
}

function readEvents(text: string): JsonObject[] {
  const blocks = new EventBlocks().push(Buffer.from(text).toString("latin1"));
  return blocks.map(readEvent).filter((event) => event !== undefined);
}

/** Of a response that another process is at work on: its events when it is done. */
function replayLater(stored: StoredResponses, call: Call, id: string, after: number | undefined): LateStream {
  const leaving = new AbortController();
  const done = untilDone(stored, call, id, { give: leaving.signal });
  const reply = done.then((kept) => replay(stored.archive, principalOf(call), kept, after));
  return new LateStream(reply, {
    heartbeat,
    comment: () => ": waiting\n\n",
    encodeError: (error) => encodeBrokenStream("/v1/responses", error),
    onCancel: () => leaving.abort(),
  });
}

async function remove(stored: StoredResponses, call: Call, id: string): Promise<Reply> {
  const principal = principalOf(call);
  await stored.background.find(principal, id)?.forget();
  if (!(await stored.archive.remove(principal, id))) throw notFound(id);
  return jsonReply(200, { id, object: "response", deleted: true });
}

async function cancel(stored: StoredResponses, call: Call, id: string): Promise<Reply> {
  const kept = await find(stored, call, id);
  if (kept.owner === undefined)
    throw new ApiError("invalid_request", "only a response that was asked for with background: true can be cancelled");
  if (!isUnderWay(kept)) return jsonReply(200, kept.response);
  const principal = principalOf(call);
  const work = stored.background.find(principal, id);
  if (work === undefined) await stored.archive.askToCancel(principal, id);
  else await work.cancel();
  const give = AbortSignal.timeout(longestWait);
  return jsonReply(200, (await untilDone(stored, call, id, { give })).response);
}

/** The response when it is done, or as it is when it is given up. */
async function untilDone(
  stored: StoredResponses,
  call: Call,
  id: string,
  { give }: { readonly give: AbortSignal },
): Promise<KeptResponse> {
  for (;;) {
    const kept = await find(stored, call, id);
    if (!isUnderWay(kept) || give.aborted || call.leaving.aborted) return kept;
    await new Promise((resolve) => setTimeout(resolve, lookInterval));
  }
}

async function listInput({ archive, background }: StoredResponses, call: Call, id: string): Promise<Reply> {
  const principal = principalOf(call);
  const kept = background.find(principal, id)?.kept ?? (await archive.find(principal, id));
  if (kept === undefined) throw notFound(id);
  const query = new URLSearchParams(call.search);
  const limit = readLimit(query.get("limit"));
  const items = await archive.inputOf(principal, kept);
  if (readOrder(query.get("order")) === "desc") items.reverse();
  const after = query.get("after");
  const at = after === null ? -1 : items.findIndex((item) => item["id"] === after);
  if (after !== null && at === -1)
    throw new ApiError("invalid_value", "after names no item of this response's input", { param: "after" });
  const page = items.slice(at + 1, at + 1 + limit).map(toListed);
  return jsonReply(200, {
    object: "list",
    data: page,
    first_id: page[0]?.["id"] ?? "",
    last_id: page.at(-1)?.["id"] ?? "",
    has_more: at + 1 + limit < items.length,
  });
}

/** An item of an input as it is listed: messages with their parts, where their caller wrote a mere text. */
function toListed(item: JsonObject): JsonObject {
  const { type, role, content } = item;
  if ((type ?? "message") !== "message") return item;
  const status = item["status"] ?? "completed";
  if (typeof content !== "string") return { ...item, type: "message", status };
  const part: JsonObject =
    role === "assistant"
      ? { type: "output_text", text: content, annotations: [] }
      : { type: "input_text", text: content };
  return { ...item, type: "message", status, content: [part] };
}

/** Throws `response_not_found`, the same for those that are another principal's. */
async function find({ archive, background }: StoredResponses, call: Call, id: string): Promise<KeptResponse> {
  const principal = principalOf(call);
  const work = background.find(principal, id);
  if (work !== undefined && !work.isForgotten) return work.kept;
  const kept = await archive.find(principal, id);
  if (kept === undefined) throw notFound(id);
  return background.settle(principal, kept);
}

function notFound(id: string): ApiError {
  return new ApiError(
    "response_not_found",
    `Response with id '${id.slice(0, 100)}' not found: it has expired, was not stored, or is another key's`,
  );
}

function principalOf(call: Call): string {
  return call.principal?.id ?? "";
}

function readAfter(text: string | null): number | undefined {
  if (text === null) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw invalid("starting_after", "the number of an event, 0 or more");
  return Number(text);
}

function readLimit(text: string | null): number {
  const limit = text === null ? 20 : Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= 100) return limit;
  throw invalid("limit", "a whole number from 1 to 100");
}

function readOrder(text: string | null): "asc" | "desc" {
  if (text === null || text === "desc" || text === "asc") return text ?? "desc";
  throw invalid("order", "asc or desc");
}

function invalid(param: string, what: string): ApiError {
  return new ApiError("invalid_value", `${param} must be ${what}`, { param });
}
