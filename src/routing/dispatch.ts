import { isStream, type StreamEnd, whenOver } from "../core/bytes.ts";
import type { Call, Headers, Reply } from "../core/call.ts";
import type { Demand } from "../core/demand.ts";
import { ApiError } from "../core/errors.ts";
import type { Passage } from "./breaker.ts";
import { cardOf, type RouteTarget, suits } from "./plan.ts";
import { nameOf, readSetback, remedy, type Setback, toSetback, troubleOf } from "./setback.ts";

/** A call and where it may go, first choice first. */
export interface Dispatch {
  readonly call: Call;
  /** The model's name as the caller wrote it. */
  readonly requested: string;
  readonly targets: readonly RouteTarget[];
  readonly demand: Demand | undefined;
}

/** Of each reply: who gave it. */
const targetHeader = "x-lair-target";

/** A target that did not answer. */
interface Tried {
  readonly target: RouteTarget;
  readonly setback: Setback;
}

/**
 * Sends the call to the first target that answers. The next one is tried while nothing of an answer has come: where the
 * one before refused the connection, broke it, was silent for too long, has too much to do, failed, or turned out not to
 * have the model, or the room or skill for the call. Throws `ApiError`: the last failure, with who was tried.
 */
export async function dispatch(job: Dispatch): Promise<Reply> {
  const { call, requested, targets } = job;
  const tried: Tried[] = [];
  for (const target of targets) {
    if (!mayDoBetter(target, tried.at(-1), job.demand)) continue;
    if (call.leaving.aborted) throw left();
    const passage = target.backend.breaker.enter();
    if (passage === undefined) continue;
    const before = tried.at(-1);
    if (before !== undefined) before.target.backend.passedOn++;
    call.target = { provider: target.backend.provider, model: target.model, requested };
    const answer = await attempt(call, target, passage);
    if (!("setback" in answer)) return answer;
    tried.push(answer);
    if (remedy(answer.setback) === undefined) break;
  }
  return giveUp(tried, targets);
}

/** The answer, or what came instead of one. */
async function attempt(call: Call, target: RouteTarget, passage: Passage): Promise<Reply | Tried> {
  const { backend } = target;
  const over = backend.begin();
  try {
    const reply = await backend.provider.handle(call);
    const setback = readSetback(reply);
    if (setback === undefined) return toAnswer(reply, { target, passage, over });
    over();
    note(target, passage, setback);
    return { target, setback };
  } catch (error) {
    over();
    if (!(error instanceof ApiError) || error.code === "client_closed_request") {
      passage.leave();
      throw error;
    }
    const setback = toSetback(error);
    note(target, passage, setback);
    return { target, setback };
  }
}

/** Under way to its caller. */
interface Answering {
  readonly target: RouteTarget;
  readonly passage: Passage;
  readonly over: () => void;
}

function toAnswer(reply: Reply, answering: Answering): Reply {
  const { target, passage, over } = answering;
  const headers = { ...reply.headers, ...headersOf(target) };
  const { body } = reply;
  if (!isStream(body)) {
    over();
    passage.succeed();
    return { ...reply, headers };
  }
  // A stream may last for minutes: that it began is enough for others to be let through.
  if (passage.trial) passage.succeed();
  return { ...reply, headers, body: whenOver(body, (end) => noteEnd(end, answering)) };
}

function noteEnd(end: StreamEnd, { target, passage, over }: Answering): void {
  over();
  if (end === "complete") passage.succeed();
  else if (end === "left" || (end instanceof ApiError && end.code === "client_closed_request")) passage.leave();
  else target.backend.fail(passage, "failing", end.message);
}

function note({ backend, model }: RouteTarget, passage: Passage, setback: Setback): void {
  const trouble = troubleOf(setback);
  if (trouble === undefined) passage.succeed();
  else backend.fail(passage, trouble, setback.message);
  const { status, code, elsewhere, retryAfter } = setback;
  // 529 is Anthropic's 503.
  if ((status === 429 || status === 503 || status === 529) && !elsewhere && retryAfter !== undefined)
    backend.avoid(retryAfter);
  if (code === "model_not_found" && backend.list.find(model) !== undefined) void backend.list.refresh();
}

/** Whether a target can be what the one before was not. */
function mayDoBetter(target: RouteTarget, last: Tried | undefined, demand: Demand | undefined): boolean {
  if (last === undefined || remedy(last.setback) !== "abler") return true;
  const card = cardOf(target);
  if (demand !== undefined && !suits(card, demand)) return false;
  if (last.setback.code !== "context_length_exceeded") return true;
  const before = cardOf(last.target)?.contextLength;
  return card?.contextLength === undefined || before === undefined || card.contextLength > before;
}

/** Tells of the last failure that may pass, else of the last one. */
function giveUp(tried: readonly Tried[], targets: readonly RouteTarget[]): Reply {
  const told = tried.findLast(({ setback }) => setback.status === 429 || setback.status >= 500) ?? tried.at(-1);
  if (told === undefined) throw closed(targets);
  const names = tried.map(({ target, setback }) => `${toName(target)}: ${nameOf(setback)}`);
  const remark = tried.length > 1 ? ` (tried ${names.join(", ")})` : "";
  return told.setback.toReply(remark, headersOf(told.target));
}

/** Why nobody was asked: all of them have failed again and again. */
function closed(targets: readonly RouteTarget[]): ApiError {
  const said = targets.map(({ backend }) => {
    const { name, breaker, lastFailure } = backend;
    const since = new Date(breaker.since).toISOString();
    return `'${name}' gets no calls since ${since}, for it failed again and again${lastFailure === null ? "" : ` (${lastFailure.message})`}`;
  });
  const waits = targets.map(({ backend }) => backend.breaker.wait);
  return new ApiError("service_unavailable", [...new Set(said)].join("; "), {
    retryAfter: Math.max(1, Math.ceil(Math.min(...waits) / 1000)),
  });
}

function headersOf(target: RouteTarget): Headers {
  return { [targetHeader]: toName(target) };
}

/** Goes into a header: whatever is not visible ASCII is percent-encoded. */
function toName({ backend, model }: RouteTarget): string {
  const name = `${backend.name}/${model.slice(0, 200)}`;
  return /^[\x21-\x7e]*$/.test(name) ? name : name.replace(/[^\x21-\x7e]/gu, percentEncoded);
}

function percentEncoded(character: string): string {
  return Array.from(Buffer.from(character), (byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
}

function left(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}
