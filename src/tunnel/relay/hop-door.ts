import { isStream } from "../../core/bytes.ts";
import { type Call, errorReply, type Handler, jsonReply, type Reply, whenReplyIsOver } from "../../core/call.ts";
import { ApiError, toApiError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { type CarriedRequest, CarryFailure } from "../calls/carry.ts";
import { contentLength } from "../../wire/onward-headers.ts";
import { allowedCall } from "../calls/paths.ts";
import type { Channel } from "./channel.ts";
import { HopGuard, type HopTarget } from "./hop-signature.ts";
import { stageHeader } from "./hop.ts";
import { pingPath } from "./neighbour.ts";

export interface HopDoorSettings {
  /** This relay's id. */
  readonly relay: string;
  readonly secret: Buffer;
  /** The tunnel connections that end here of the session of that id; none: it is not here. */
  readonly find: (session: string) => readonly Channel[];
  readonly log: Log;
}

/** Bodies up to this many bytes are held whole, so that they can be sent over another connection of the agent. */
const mostHeld = 1024 * 1024;

/**
 * Answers calls of other relays over the tunnels that end here, and over no others. Failures are marked with where the
 * call was: whoever has sent it may try elsewhere what was not begun.
 */
export function hopDoor(settings: HopDoorSettings): Handler {
  const guard = new HopGuard(settings.secret);
  return async (call) => {
    try {
      return await answer(call, guard.check(call), settings);
    } catch (error) {
      return refuse(call, error, settings.log);
    }
  };
}

async function answer(call: Call, target: HopTarget, { relay, find }: HopDoorSettings): Promise<Reply> {
  if (target.relay !== relay) throw astray();
  if (target.session === "" && call.path === pingPath) return jsonReply(200, { relay });
  const problem = allowedCall(call.method, call.path, call.search);
  if (problem !== undefined) throw problem;
  const request = await toRequest(call);
  const tried = new Set<Channel>();
  let failure: CarryFailure | undefined;
  for (;;) {
    const channel = leastBusy(find(target.session).filter((one) => !tried.has(one)));
    if (channel === undefined) throw failure ?? astray();
    tried.add(channel);
    if (channel.refusal() !== undefined) continue;
    try {
      const reply = await channel.carry(call, request);
      // A runtime must not be able to say it.
      delete reply.headers[stageHeader];
      return whenReplyIsOver(reply, () => channel.release());
    } catch (error) {
      if (!(error instanceof CarryFailure) || error.stage !== "refused" || isStream(request.body)) throw error;
      failure = error;
    }
  }
}

function leastBusy(channels: readonly Channel[]): Channel | undefined {
  return channels.reduce<Channel | undefined>(
    (best, one) => (best === undefined || one.inFlight < best.inFlight ? one : best),
    undefined,
  );
}

async function toRequest(call: Call): Promise<CarriedRequest> {
  const { path, search, headers, body } = call;
  const request = { path: path + search, headers };
  const length = contentLength(headers);
  if (body === null || (length !== undefined && length <= mostHeld)) {
    const held = await call.bytes();
    return { ...request, body: body === null ? null : held };
  }
  return { ...request, body, ...(length === undefined ? {} : { length }) };
}

function refuse(call: Call, error: unknown, log: Log): Reply {
  // Nobody reads it any more; left unread, it would keep the connection waiting.
  if (isStream(call.body)) call.body.cancel();
  const stage = error instanceof CarryFailure ? error.stage : error instanceof Astray ? "astray" : "refused";
  const told =
    error instanceof CarryFailure
      ? new ApiError(stage === "refused" ? "agent_offline" : "agent_lost", error.message)
      : toApiError(error);
  const level = told.status === 500 ? "error" : told.status === 401 ? "warn" : "debug";
  log[level]({ id: call.id, code: told.code, error: told.cause ?? told.message }, "a call of another relay is refused");
  return errorReply(told, { [stageHeader]: stage });
}

/** A call for an agent, or a relay, that is not here. */
class Astray extends ApiError {}

function astray(): Astray {
  return new Astray("misdirected_request", "the agent is not connected to this relay any more");
}
