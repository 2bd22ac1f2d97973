import { sessionOf } from "../../core/affinity.ts";
import { collect, isStream } from "../../core/bytes.ts";
import type { Call, Reply } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import type { Json } from "../../core/json.ts";
import { type CarriedRequest, CarryFailure } from "../calls/carry.ts";
import { contentLength } from "../../wire/onward-headers.ts";
import { readToldFailure } from "../../wire/told-failure.ts";
import { lost, toAnswer } from "./answer.ts";
import { choose } from "./choice.ts";
import type { Channel } from "./channel.ts";
import { type NamedBody, renamedBody } from "./named-body.ts";
import type { RemoteAgent } from "./remote-agent.ts";
import type { Route } from "./resolution.ts";

/** Whole events that tell a caller of a failure within a stream, in the dialect of the call's path. */
export type ErrorEvents = (path: string, error: ApiError) => string;

/** A call on the way to one of its route's agents. */
export interface Dispatch {
  readonly call: Call;
  readonly route: Route;
  readonly body: NamedBody | undefined;
  readonly errorEvents: ErrorEvents;
}

/** Attempts to find a channel that takes a call; each costs a round trip. */
const mostTries = 8;
/** Bytes of a refusal that is read to see whether it says that the model is unknown. */
const mostRefusal = 64 * 1024;

/**
 * Sends the call. Before the first byte of a reply another channel or agent is tried, where the call can be sent again
 * and its caller did not name the agent that had begun it; after the first byte none is. Throws `agent_offline` and
 * `agent_lost`; undefined: every agent of a guessed route says that it does not know the model.
 */
export async function dispatch(job: Dispatch): Promise<Reply | undefined> {
  const attempts = new Attempts(job);
  for (let tries = 0; tries < mostTries; tries++) {
    const channel = attempts.next();
    if (channel === undefined) break;
    if (channel.refusal() !== undefined) continue;
    const reply = await attempts.attempt(channel);
    if (reply !== undefined) return reply;
  }
  return attempts.giveUp();
}

/** The channels that were tried for one call, and what came of it. */
class Attempts {
  readonly #job: Dispatch;
  readonly #session: string | undefined;
  readonly #tried = new Set<Channel>();
  /** Which of those that are left are better for the next attempt. */
  #preferred: ((channel: Channel) => boolean) | undefined;
  #failure: ApiError | undefined;
  #unknown = false;

  constructor(job: Dispatch) {
    this.#job = job;
    this.#session = sessionOf(job.call.headers);
  }

  /** The channel to try now, if any is left. */
  next(): Channel | undefined {
    const { agents } = this.#job.route;
    const session = this.#session;
    const preferred = this.#preferred;
    const usable = (channel: Channel): boolean => this.#isUsable(channel);
    const best = preferred && choose({ agents, session, usable: (one) => usable(one) && preferred(one) });
    return best ?? choose({ agents, session, usable });
  }

  /** The reply as its caller gets it; undefined: another channel may do better. */
  async attempt(channel: Channel): Promise<Reply | undefined> {
    const { call, route, errorEvents } = this.#job;
    const { model, requested } = route;
    const agent = route.agents.find(({ name }) => name === channel.agent) as RemoteAgent;
    call.target = { provider: agent, model, requested };
    const sent = await this.#send(channel, agent);
    if (sent === undefined) return undefined;
    const refusal = route.by === "guessed" && sent.status === 404;
    const reply = refusal ? await readRefusal(sent, channel) : sent;
    const unknown = refusal && isUnknownModel(reply);
    this.#unknown ||= unknown;
    const failed = reply.status >= 502 && reply.status <= 504;
    if ((failed && this.#hasAnother(channel)) || (unknown && this.#canRepeat)) {
      if (isStream(reply.body)) reply.body.cancel();
      channel.release();
      this.#skipInstance(channel, agent);
      return undefined;
    }
    return toAnswer(reply, {
      agent,
      channel,
      model,
      requested,
      errorEvents: (error) => errorEvents(call.path, error),
    });
  }

  /** What to say when no attempt has brought a reply. */
  giveUp(): undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#unknown) return undefined;
    throw busy(this.#job.route.agents);
  }

  async #send(channel: Channel, agent: RemoteAgent): Promise<Reply | undefined> {
    const { call, body } = this.#job;
    agent.calls++;
    try {
      return await channel.carry(call, this.#toRequest());
    } catch (error) {
      if (!(error instanceof CarryFailure)) throw error;
      this.#note(error, channel, agent);
      return undefined;
    } finally {
      agent.bytesIn += body === undefined ? 0 : (body.rest?.size ?? body.held.length);
    }
  }

  /** Throws where no other attempt may follow. */
  #note(failure: CarryFailure, channel: Channel, agent: RemoteAgent): void {
    const refused = failure.stage === "refused";
    const { instance } = channel;
    // That it may have been begun is what its caller must know, whatever came of later attempts.
    if (!refused) this.#failure = lost(agent, failure);
    else this.#failure ??= busy([agent]);
    agent.failures++;
    this.#tried.add(channel);
    if (!this.#canRepeat || (!refused && this.#job.route.by === "named")) throw this.#failure;
    // One channel that takes no more says nothing against the agent; one that broke may be all of it.
    this.#preferred = (other) => (other.instance === instance) === refused;
  }

  get #canRepeat(): boolean {
    return this.#job.body?.rest?.started !== true;
  }

  #isUsable(channel: Channel): boolean {
    const { listed, model } = this.#job.route;
    return !this.#tried.has(channel) && (!listed || channel.models.has(model));
  }

  /** Whether another process answers, so that a failed reply need not be this call's. */
  #hasAnother({ instance }: Channel): boolean {
    const { by, agents } = this.#job.route;
    if (by === "named" || !this.#canRepeat) return false;
    return agents.some(({ channels }) =>
      channels.some((one) => one.instance !== instance && one.open && one.ready && this.#isUsable(one)),
    );
  }

  /** All channels of a process lead to the same runtime. */
  #skipInstance({ instance }: Channel, agent: RemoteAgent): void {
    for (const one of agent.channels) if (one.instance === instance) this.#tried.add(one);
  }

  #toRequest(): CarriedRequest {
    const { call, body, route } = this.#job;
    const { headers, path, search } = call;
    const request = { path: path + search, headers };
    if (body === undefined) return { ...request, body: null };
    const held = renamedBody(body, route.model);
    if (body.rest === undefined) return { ...request, body: held };
    const length = contentLength(headers);
    return {
      ...request,
      body: body.rest.behind(held),
      ...(length === undefined ? {} : { length: length - body.held.length + held.length }),
    };
  }
}

/** The reply with its body read. Throws `upstream_error` when that breaks, or is too long to be a refusal. */
async function readRefusal(reply: Reply, channel: Channel): Promise<Reply> {
  if (!isStream(reply.body)) return reply;
  try {
    return { ...reply, body: await collect(reply.body, mostRefusal, () => new Error("it is too long")) };
  } catch (error) {
    channel.release();
    if (error instanceof ApiError) throw error;
    const provider = channel.agent;
    throw new ApiError("upstream_error", `the agent '${provider}' did not finish its refusal`, {
      provider,
      cause: error,
    });
  }
}

function isUnknownModel({ headers, body }: Reply): boolean {
  if (body === null || isStream(body)) return false;
  try {
    return readToldFailure(JSON.parse(body.toString()) as Json, headers).code === "model_not_found";
  } catch {
    return false;
  }
}

function busy(agents: readonly RemoteAgent[]): ApiError {
  const sole = agents.length === 1 ? agents[0]?.name : undefined;
  const who = sole === undefined ? "the agents take" : `the agent '${sole}' takes`;
  return new ApiError(
    "agent_offline",
    `${who} no calls at this moment: they are leaving, or as many are under way as fit`,
    sole === undefined ? {} : { provider: sole },
  );
}
