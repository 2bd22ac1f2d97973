import { type Call, type Handler, type Middleware, type Reply, whenReplyIsOver } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import { patternTest } from "../core/name-pattern.ts";
import { readDemand, workOf } from "../dialects/demand.ts";
import { encodeFailedStream, encodeWaiting, hasEvents } from "../dialects/error-events.ts";
import { decodePriority } from "../dialects/priority.ts";
import { eventStreamHeaders } from "../wire/headers.ts";
import { LateStream } from "../wire/late-stream.ts";
import { type LineBounds, ModelLine, type Ticket } from "./model-line.ts";

export interface LineSettings extends LineBounds {
  /** Longest wait, in milliseconds. */
  readonly longest: number;
  /** Bounds of models whose name matches the pattern, in which `*` is any text; the first that matches counts. */
  readonly models: Readonly<Record<string, Partial<LineBounds>>>;
  /** Milliseconds between comments that keep a silent stream alive. */
  readonly heartbeat: number;
}

/**
 * Milliseconds that a streamed call waits before its head is sent and its place is told. Until then a failure has a
 * status of its own, and whoever asked may ask elsewhere; no client gives up so soon.
 */
const headDelay = 1000;

/** Characters of a model's name. */
const longestName = 500;

/**
 * A line for each model, by the name that callers write: of its calls at most `concurrent` are under way, and the
 * others wait, fair between principals. A streamed call that waits is told its place in comments.
 */
export function line(settings: LineSettings): Middleware {
  const boundsOf = readBounds(settings);
  if (boundsOf === undefined) return (call, next: Handler) => next(call);
  const lines = new Lines(boundsOf);
  return async (call, next) => {
    const demand = call.demand ?? (await readDemand(call));
    if (demand === undefined || workOf(demand.endpoint) === "nothing") return next(call);
    const queue = lines.of(demand.model);
    if (queue === undefined) return next(call);
    if (queue.enter()) return answer(queue, call, next);
    const later = await isLater(call);
    if (call.leaving.aborted) throw gone();
    // Another one than before if all have gone meanwhile.
    const current = lines.of(demand.model) ?? queue;
    if (current.enter()) return answer(current, call, next);
    const ticket = current.wait(call.principal?.id ?? "", later, settings.longest);
    return wait(call, ticket, settings.heartbeat, () => answer(current, call, next));
  };
}

/** The lines of the models that have calls under way. */
class Lines {
  readonly #boundsOf: (model: string) => LineBounds;
  readonly #lines = new Map<string, ModelLine>();

  constructor(boundsOf: (model: string) => LineBounds) {
    this.#boundsOf = boundsOf;
  }

  /** Undefined: calls of this model need not wait. */
  of(model: string): ModelLine | undefined {
    const known = this.#lines.get(model);
    if (known !== undefined) return known;
    // No model has such a name: who answers says so.
    if (model === "" || model.length > longestName) return undefined;
    const bounds = this.#boundsOf(model);
    if (bounds.concurrent === 0) return undefined;
    const queue = new ModelLine(model, bounds, () => this.#lines.delete(model));
    this.#lines.set(model, queue);
    return queue;
  }
}

/** The bounds by a model's name; undefined when there are none for any. */
function readBounds({ concurrent, waiting, models }: LineSettings): ((model: string) => LineBounds) | undefined {
  const usual = { concurrent, waiting };
  const special = Object.entries(models).map(([pattern, own]) => ({
    matches: patternTest([pattern]),
    bounds: { ...usual, ...own },
  }));
  if (concurrent === 0 && special.every(({ bounds }) => bounds.concurrent === 0)) return undefined;
  return (model) => special.find(({ matches }) => matches(model))?.bounds ?? usual;
}

/** The answer of a call that has a place, which is free again when the answer is over. */
async function answer(queue: ModelLine, call: Call, next: Handler): Promise<Reply> {
  try {
    return whenReplyIsOver(await next(call), () => queue.leave());
  } catch (error) {
    queue.leave();
    throw error;
  }
}

async function wait(call: Call, ticket: Ticket, heartbeat: number, proceed: () => Promise<Reply>): Promise<Reply> {
  const leave = (): void => ticket.leave(gone());
  call.leaving.addEventListener("abort", leave);
  const turn = ticket.turn.finally(() => call.leaving.removeEventListener("abort", leave));
  const path = call.path.endsWith("/") ? call.path.slice(0, -1) : call.path;
  const told = call.demand?.streamed === true && hasEvents(path);
  if (!told || (await comesSoon(turn))) {
    await turn;
    return proceed();
  }
  return waitingStream(ticket, path, { pending: turn.then(proceed), heartbeat });
}

/** Whether the turn comes before the head must be sent. Rejects when it will not come at all. */
async function comesSoon(turn: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, headDelay, false);
  });
  try {
    return await Promise.race([turn.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The head of a stream now, comments while the call waits, and the answer's own events when there are some. */
function waitingStream(
  ticket: Ticket,
  path: string,
  { pending, heartbeat }: { readonly pending: Promise<Reply>; readonly heartbeat: number },
): Reply {
  let waits = true;
  const body = new LateStream(pending, {
    heartbeat,
    comment: () =>
      encodeWaiting(path, waits ? `waiting in line, position ${ticket.position} of ${ticket.total}` : "ping"),
    encodeError: (error) => encodeFailedStream(path, error),
    onCancel: () => ticket.leave(gone()),
  });
  ticket.onMove = () => body.comment();
  const over = (): void => void (waits = false);
  ticket.turn.then(over, over);
  return { status: 200, headers: eventStreamHeaders, body };
}

async function isLater(call: Call): Promise<boolean> {
  const body = await call.json();
  return isObject(body) && decodePriority(body) === "background";
}

function gone(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}
