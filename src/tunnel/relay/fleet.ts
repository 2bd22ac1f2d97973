import { randomUUID } from "node:crypto";
import type { AgentState } from "../../core/agent-state.ts";
import type { Call, Handler, Reply } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { Health } from "../../core/provider.ts";
import type { Arrival } from "../handshake/door.ts";
import { allowedCall } from "../calls/paths.ts";
import type { Channel } from "./channel.ts";
import { AgentConnection } from "./connection.ts";
import { dispatch, type ErrorEvents } from "./dispatch.ts";
import { Elsewhere, type SharingSettings } from "./elsewhere.ts";
import type { FarChannel } from "./hop.ts";
import { hopDoor } from "./hop-door.ts";
import { hopHeader } from "./hop-signature.ts";
import { listModels, showModel } from "./model-list.ts";
import { missingModel, type NamedBody, readNamedBody } from "./named-body.ts";
import { RemoteAgent } from "./remote-agent.ts";
import { notFound, resolve, resolveUnnamed, type Roll, type Route } from "./resolution.ts";

export interface FleetSettings {
  readonly log: Log;
  /** Version of this program, told to agents. */
  readonly version: string;
  readonly errorEvents: ErrorEvents;
  /** Whether an agent may connect under this name, so that one that is away is not taken for one that does not exist. */
  readonly knows?: (name: string) => boolean;
  /** Milliseconds for which calls wait for an agent that has just left, as it comes back by itself; default 0. */
  readonly patience?: number;
  /** Other relays, whose agents answer calls that come here, and the other way round. */
  readonly sharing?: SharingSettings;
}

/** Connections of one agent, those that have not introduced themselves counted. */
const mostConnections = 16;
/** Agents that are away and still remembered. */
const mostAbsent = 1000;

/** The agents that are connected to this relay, or to one that shares its own, and the calls that they answer. */
export class Fleet {
  /** Answers calls that other relays send on, where agents are shared. */
  readonly hops: Handler | undefined;
  readonly #settings: FleetSettings;
  /** Tells agents this relay from others behind the same address. */
  readonly #id = randomUUID();
  readonly #agents = new Map<string, RemoteAgent>();
  readonly #connections = new Set<AgentConnection>();
  readonly #roll: Roll;
  readonly #elsewhere: Elsewhere | undefined;
  #inOrder: readonly RemoteAgent[] = [];
  #closing = false;
  #onIdle: (() => void)[] = [];
  /** `performance.now()` of the last time that an agent has left. */
  #missedSince = Number.NEGATIVE_INFINITY;
  /** Resolves when an agent comes (true), or has not come in time; shared by all calls that wait. */
  #coming: { readonly promise: Promise<boolean>; readonly resolve: (came: boolean) => void } | undefined;

  constructor(settings: FleetSettings) {
    this.#settings = settings;
    const inOrder = (): readonly RemoteAgent[] => this.#inOrder;
    this.#roll = {
      get agents() {
        return inOrder();
      },
      find: (name) => this.#agents.get(name),
      knows: (name) => settings.knows?.(name) === true,
    };
    const { sharing, log } = settings;
    if (sharing === undefined) return;
    const { secret } = sharing;
    this.hops = hopDoor({ relay: this.#id, secret, find: (session) => this.#here(session), log });
    this.#elsewhere = new Elsewhere(sharing, log, {
      onCome: (channel) => this.#come(channel),
      onGo: (channel) => this.#go(channel),
      onTurn: (channel) => (channel.open ? this.#coming?.resolve(true) : this.#miss(channel.agent)),
    });
    this.#elsewhere.open(this.#id, inOrder);
  }

  /** Takes in a connection that the door has let through. */
  admit(arrival: Arrival): void {
    const { identity, link } = arrival;
    const fields = describe(arrival);
    const own = [...this.#connections].filter((one) => one.arrival.identity.name === identity.name);
    if (this.#closing || identity.refusal() !== undefined || own.length >= mostConnections) {
      this.#settings.log.warn({ ...fields, connections: own.length }, "a connection of an agent is not taken");
      link.destroy();
      return;
    }
    const told = { version: this.#settings.version, relay: this.#id };
    const connection = new AgentConnection(arrival, told, {
      onReady: (one) => this.#welcome(one),
      onLoad: () => this.#elsewhere?.touch(),
      onLeaving: (one) => this.#leave(one),
      onIdle: () => this.#tellIdle(),
      onClose: (one, error) => this.#forget(one, error),
    });
    this.#connections.add(connection);
  }

  /** Answers `/v1/models` itself, and sends every other allowed call to an agent. Throws `ApiError`. */
  readonly handler: Handler = async (call) => {
    const { method, path, search } = call;
    if (method === "GET" || method === "HEAD") {
      if (path === "/v1/models" || path === "/v1/models/") return listModels(this.#roll);
      // Names hold slashes, which clients encode: in a path that is sent on, that is not allowed.
      if (path.startsWith("/v1/models/")) return showModel(this.#roll, call);
    }
    const problem = call.headers[hopHeader] === undefined ? allowedCall(method, path, search) : strayHop();
    if (problem !== undefined) throw problem;
    const body = call.body === null ? undefined : await readNamedBody(call);
    try {
      return await this.#patiently(call, body);
    } finally {
      // Nobody has come to read it: what still arrives must not keep the connection waiting.
      if (body?.rest?.started === false) body.rest.cancel();
    }
  };

  /** Every agent that is here or at a relay that shares its own, or was since this relay runs, by name. */
  agents(): AgentState[] {
    return this.#inOrder.map((agent) => agent.state());
  }

  /** Asks every identity whether it may still be used, and cuts those that may not. */
  recheck(): void {
    for (const connection of this.#connections) {
      const refusal = connection.arrival.identity.refusal();
      if (refusal === undefined) continue;
      this.#settings.log.warn({ ...describe(connection.arrival), refusal }, "an agent may not stay");
      connection.revoke(refusal);
    }
  }

  /** Ok when an agent is connected whose runtime answers. */
  health(): Promise<Health> {
    const ready = this.#inOrder.filter((agent) => agent.ready);
    if (ready.length > 0) return Promise.resolve({ ok: true });
    const here = this.#inOrder.some(({ open }) => open);
    const detail = here ? "agents are connected, but the runtime behind none of them answers" : "no agent is connected";
    return Promise.resolve({ ok: false, detail });
  }

  /** Tells every agent to connect elsewhere, and resolves when no call is under way. Calls are still answered. */
  drain(): Promise<void> {
    this.#closing = true;
    this.#coming?.resolve(false);
    for (const connection of this.#connections) connection.drain();
    const idle = new Promise<void>((resolve) => this.#onIdle.push(resolve));
    this.#tellIdle();
    return idle;
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#coming?.resolve(false);
    for (const connection of this.#connections) connection.cut();
    await this.#elsewhere?.close();
  }

  #route(call: Call, body: NamedBody | undefined): Route {
    if (body?.model !== undefined) return resolve(this.#roll, body.model);
    return resolveUnnamed(this.#roll, () =>
      body === undefined || call.method !== "POST" ? severalAgents(call) : missingModel(body),
    );
  }

  /** The answer; where no agent can take the call, but one is expected, the answer when one has come. */
  async #patiently(call: Call, body: NamedBody | undefined): Promise<Reply> {
    for (;;) {
      try {
        return await this.#send(call, this.#route(call, body), body);
      } catch (error) {
        const absent = error instanceof ApiError && error.code === "agent_offline" && body?.rest?.started !== true;
        if (!absent || !(await this.#nextAgent())) throw error;
      }
    }
  }

  #nextAgent(): Promise<boolean> {
    const left = this.#missedSince + (this.#settings.patience ?? 0) - performance.now();
    if (left <= 0 || this.#closing) return Promise.resolve(false);
    if (this.#coming !== undefined) return this.#coming.promise;
    let tell: (came: boolean) => void = () => undefined;
    const promise = new Promise<boolean>((resolve) => (tell = resolve));
    const timer = setTimeout(() => this.#coming?.resolve(false), left);
    const resolve = (came: boolean): void => {
      clearTimeout(timer);
      this.#coming = undefined;
      tell(came);
    };
    this.#coming = { promise, resolve };
    return promise;
  }

  async #send(call: Call, route: Route, body: NamedBody | undefined): Promise<Reply> {
    // Too large to be held, it can be sent once, and so must not be sent to whoever may not know its model.
    if (route.by === "guessed" && body?.rest !== undefined) throw notFound(this.#roll, route.requested);
    const reply = await dispatch({ call, route, body, errorEvents: this.#settings.errorEvents });
    if (reply === undefined) throw notFound(this.#roll, route.requested);
    return reply;
  }

  #welcome(connection: AgentConnection): void {
    const here = this.#come(connection).channels.some((one) => !one.far && one !== connection);
    if (this.#closing) connection.drain();
    this.#elsewhere?.touch();
    const { log } = this.#settings;
    const fields = { ...describe(connection.arrival), models: connection.models.list.length, ready: connection.ready };
    if (here) log.debug(fields, "an agent has another connection");
    else log.info(fields, "an agent is connected");
  }

  #leave({ agent, arrival }: AgentConnection): void {
    this.#elsewhere?.touch();
    // An agent that may not come is not expected back.
    if (arrival.identity.refusal() === undefined) this.#miss(agent);
  }

  #forget(connection: AgentConnection, error: Error | undefined): void {
    this.#connections.delete(connection);
    const agent = this.#agents.get(connection.agent);
    agent?.remove(connection);
    this.#leave(connection);
    const fields = { ...describe(connection.arrival), ...(error === undefined ? {} : { error: error.message }) };
    const { log } = this.#settings;
    if (agent?.channels.some(({ far }) => !far) === true) log.debug(fields, "an agent has one connection less");
    else if (error === undefined) log.info(fields, "an agent has left");
    else log.warn(fields, "an agent is lost");
  }

  /** An agent can be reached in one more way. */
  #come(channel: Channel): RemoteAgent {
    let agent = this.#agents.get(channel.agent);
    if (agent === undefined) {
      agent = new RemoteAgent(channel.agent, this.handler);
      this.#agents.set(agent.name, agent);
      this.#forgetOldest();
      this.#inOrder = [...this.#agents.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    }
    agent.add(channel);
    this.#coming?.resolve(true);
    return agent;
  }

  #go(channel: FarChannel): void {
    const { agent, session } = channel;
    this.#agents.get(agent)?.remove(channel);
    // One that was removed, or lost its key there, is not expected back.
    if (session.keyId === null || this.#settings.knows?.(agent) !== false) this.#miss(agent);
  }

  /** An agent that takes no calls any more is expected back. */
  #miss(agent: string): void {
    if (this.#agents.get(agent)?.open === false) this.#missedSince = performance.now();
  }

  /** The connections here of the session of that id. */
  #here(session: string): readonly Channel[] {
    const [relay, name = "", instance] = session.split("/");
    const channels = relay === this.#id ? this.#agents.get(name)?.channels : undefined;
    return channels?.filter((one) => !one.far && one.instance === instance && one.open) ?? [];
  }

  #forgetOldest(): void {
    const absent = [...this.#agents.values()].filter(({ left }) => left !== undefined);
    if (absent.length <= mostAbsent) return;
    const oldest = absent.reduce((first, one) => ((one.left ?? 0) < (first.left ?? 0) ? one : first));
    this.#agents.delete(oldest.name);
  }

  #tellIdle(): void {
    if (this.#onIdle.length === 0) return;
    for (const { inFlight } of this.#connections) if (inFlight > 0) return;
    for (const tell of this.#onIdle.splice(0)) tell();
  }
}

function describe({ identity, instance, address, transport, version }: Arrival): object {
  return { agent: identity.name, key: identity.keyId, instance, address, transport, version };
}

/** A hop never ends where another could begin. */
function strayHop(): ApiError {
  return new ApiError(
    "misdirected_request",
    `a call of another relay has come to the port for callers; there, relay.internal.url must name the internal one (header ${hopHeader})`,
  );
}

function severalAgents({ method, path }: Call): ApiError {
  return new ApiError(
    "missing_required_parameter",
    `several agents are connected, and ${method} ${path.slice(0, 200)} names no model by which one of them could be chosen`,
  );
}
