import type { AgentConnectionState } from "../../core/agent-state.ts";
import type { AgentSession } from "../../core/agent-session.ts";
import { type ByteSink, type ByteStream, isStream } from "../../core/bytes.ts";
import type { Call, Reply } from "../../core/call.ts";
import { Departure } from "../../core/departure.ts";
import { ApiError } from "../../core/errors.ts";
import { type CarriedRequest, CarryFailure, type CarryStage } from "../calls/carry.ts";
import { replyHeaders, requestHeaders } from "../../wire/onward-headers.ts";
import type { Channel } from "./channel.ts";
import { ModelCards } from "./model-cards.ts";
import type { Neighbour, NeighbourFailure, NeighbourReply } from "./neighbour.ts";

/** By which a relay tells another one where a call was when it failed: a `CarryStage`, or that it was sent astray. */
export const stageHeader = "x-lair-stage";

/** A process of an agent at another relay, reached by one hop. */
export class FarChannel implements Channel {
  readonly far = true;
  readonly neighbour: Neighbour;
  chosen = 0;
  #session: AgentSession;
  #models: ModelCards;
  #underWay = 0;
  /** What the session's own relay has said not to be there. */
  #denied = 0;
  #cut = false;
  readonly #onAstray: (session: AgentSession) => Promise<void>;

  /** `onAstray`: the session is not at its relay any more; resolves when it may be known where it is. */
  constructor(session: AgentSession, neighbour: Neighbour, onAstray: (session: AgentSession) => Promise<void>) {
    this.#session = session;
    this.#models = new ModelCards(session.models);
    this.neighbour = neighbour;
    this.#onAstray = onAstray;
  }

  get session(): AgentSession {
    return this.#session;
  }

  set session(session: AgentSession) {
    if (session.epoch !== this.#session.epoch) this.#models = new ModelCards(session.models);
    this.#session = session;
  }

  get agent(): string {
    return this.#session.agent;
  }

  get instance(): string {
    return this.#session.instance;
  }

  get open(): boolean {
    return this.neighbour.up && !this.#cut && this.#denied < this.#session.epoch;
  }

  get ready(): boolean {
    return this.#session.ready;
  }

  get models(): ModelCards {
    return this.#models;
  }

  get capacity(): number {
    return this.#session.capacity;
  }

  /** What the other relay told last, which may be some seconds old, and never less than what has come from here. */
  get inFlight(): number {
    return Math.max(this.#session.inFlight, this.#underWay);
  }

  get since(): number {
    return this.#session.since;
  }

  get roundTrip(): undefined {
    return undefined;
  }

  /** Asked at the relay where the tunnel ends. */
  refusal(): undefined {
    return undefined;
  }

  async carry(call: Call, request: CarriedRequest): Promise<Reply> {
    this.#underWay++;
    try {
      return await this.#hop(call, request);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  release(): void {
    this.#underWay--;
  }

  cut(): void {
    this.#cut = true;
  }

  state(): AgentConnectionState {
    const { instance, version, address, keyId, since, ready } = this.#session;
    const { inFlight, open } = this;
    const { url: relay } = this.neighbour;
    const who = { relay, instance, version, address, transport: "hop", keyId, since } as const;
    return { ...who, roundTrip: null, inFlight, ready, draining: !open };
  }

  async #hop(call: Call, request: CarriedRequest): Promise<Reply> {
    if (call.leaving.aborted) throw departed();
    const session = this.#session;
    const hop = new Hop(call, this.neighbour);
    let reply: NeighbourReply;
    try {
      reply = await this.neighbour.send({ ...toRequest(call, request), session: session.id, signal: hop.departure });
    } catch (error) {
      hop.over();
      throw hop.toFailure(error as Error, "before-head");
    }
    const stage = reply.headers[stageHeader];
    if (stage === undefined) return hop.toReply(reply);
    reply.body.cancel();
    hop.over();
    if (reply.status === 401)
      this.neighbour.distrust("it refuses the signature: secret or clock differ from those here");
    if (stage !== "astray")
      throw new CarryFailure(isStage(stage) ? stage : "before-head", `its relay lost it (${stage})`);
    this.#denied = session.epoch;
    await this.#onAstray(session);
    throw new CarryFailure("refused", "it is not at the relay where it was");
  }
}

/** One call at another relay: ends when its caller leaves, or that relay is lost. The reply's body, and its sink. */
class Hop implements ByteStream, ByteSink {
  readonly departure = new Departure();
  readonly #call: Call;
  readonly #neighbour: Neighbour;
  #source!: ByteStream;
  #sink: ByteSink | undefined;
  readonly #leave = (): void => this.departure.leave();

  constructor(call: Call, neighbour: Neighbour) {
    this.#call = call;
    this.#neighbour = neighbour;
    call.leaving.addEventListener("abort", this.#leave);
    neighbour.enter(this.departure);
  }

  over(): void {
    this.#call.leaving.removeEventListener("abort", this.#leave);
    this.#neighbour.over(this.departure);
  }

  /** What a failure means for the call. */
  toFailure(error: Error, stage: CarryStage): Error {
    if (this.#call.leaving.aborted) return departed();
    // The request's own body is what failed.
    if (error.cause instanceof ApiError) return error.cause;
    const refused = stage === "before-head" && (error as NeighbourFailure).failure === "refused";
    return new CarryFailure(refused ? "refused" : stage, `the relay at ${this.#neighbour.url}: ${error.message}`);
  }

  toReply({ status, headers, body }: NeighbourReply): Reply {
    const onward = replyHeaders(headers);
    if (headers["content-length"] !== undefined) onward["content-length"] = headers["content-length"];
    this.#source = body;
    return { status, headers: onward, body: this };
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#source.start(this);
  }

  resume(): void {
    this.#source.resume();
  }

  cancel(): void {
    this.#sink = undefined;
    this.over();
    this.#source.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    return this.#sink?.write(chunk) ?? true;
  }

  end(): void {
    this.over();
    this.#sink?.end();
  }

  fail(error: Error): void {
    this.over();
    this.#sink?.fail(this.toFailure(error, "after-head"));
  }
}

type Onward = Omit<Parameters<Neighbour["send"]>[0], "session" | "signal">;

function toRequest(call: Call, { path, headers, body, length }: CarriedRequest): Onward {
  const { method, id } = call;
  return {
    // Of HEAD, the head of GET's reply is the answer.
    method: method === "HEAD" ? "GET" : (method as "GET" | "POST" | "DELETE"),
    path,
    headers: { ...requestHeaders(headers), "x-request-id": id, "accept-encoding": "identity" },
    body,
    length: isStream(body) ? length : undefined,
    firstByteTimeout: 0,
    idleTimeout: 0,
  };
}

function isStage(text: string): text is CarryStage {
  return text === "refused" || text === "before-head" || text === "after-head";
}

function departed(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}
