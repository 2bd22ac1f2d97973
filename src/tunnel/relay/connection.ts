import type { AgentConnectionState } from "../../core/agent-state.ts";
import type { Call, Reply } from "../../core/call.ts";
import type { JsonObject } from "../../core/json.ts";
import { carry, type CarriedRequest } from "../calls/carry.ts";
import { type AgentMessage, agentMessages, controlPath, encodeMessage, protocolVersion } from "../control.ts";
import type { Arrival } from "../handshake/door.ts";
import { Http2Session } from "../http2/session.ts";
import type { Http2Stream } from "../http2/stream.ts";
import type { Channel } from "./channel.ts";
import { ModelCards } from "./model-cards.ts";

/** What a connection tells. */
export interface ConnectionEvents {
  /** Its agent has introduced itself: calls may be sent. */
  readonly onReady: (connection: AgentConnection) => void;
  /** Its models are others, or its runtime has come or gone. */
  readonly onLoad: (connection: AgentConnection) => void;
  /** It takes no further calls, for its agent is about to leave. */
  readonly onLeaving: (connection: AgentConnection) => void;
  /** The last of its calls is over. */
  readonly onIdle: () => void;
  /** It is gone; comes once. `error`: why, unless it was meant. */
  readonly onClose: (connection: AgentConnection, error: Error | undefined) => void;
}

/** Milliseconds: for the agent's first words, between two pings, and for a sign of life after one. */
const helloDeadline = 5000;
const pingInterval = 4000;
const pingDeadline = 5000;

/** What an agent may say about itself in `allowancePeriod` milliseconds, in messages and bytes: two full lists of models fit. */
const allowancePeriod = 10_000;
const mostMessages = 40;
const mostBytes = 9 * 1024 * 1024;

/**
 * One tunnel connection of an agent, seen from the relay: its session, its control stream, its signs of life. An agent
 * that is silent, talks too much or talks nonsense is cut.
 */
export class AgentConnection implements Channel {
  readonly arrival: Arrival;
  readonly agent: string;
  readonly instance: string;
  readonly far = false;
  readonly since = Date.now();
  capacity = 1;
  /** Whether the runtime behind it answers. */
  ready = false;
  models = new ModelCards([]);
  inFlight = 0;
  roundTrip: number | undefined;
  /** When it was last chosen, in an order without gaps; see `choose`. */
  chosen = 0;
  readonly #session: Http2Session;
  readonly #control: Http2Stream;
  readonly #events: ConnectionEvents;
  readonly #told: { readonly version: string; readonly relay: string };
  readonly #reader = agentMessages();
  readonly #deadline: NodeJS.Timeout;
  #pulse: NodeJS.Timeout | undefined;
  #greeted = false;
  #draining = false;
  #closed = false;
  #problem: Error | undefined;
  #allowanceFrom = 0;
  #messages = 0;
  #bytes = 0;

  /** `told`: to the agent, the version of this program and the relay's id. */
  constructor(arrival: Arrival, told: { readonly version: string; readonly relay: string }, events: ConnectionEvents) {
    this.arrival = arrival;
    this.agent = arrival.identity.name;
    this.instance = arrival.instance;
    this.#told = told;
    this.#events = events;
    this.#session = new Http2Session(arrival.link, {
      role: "client",
      onGoaway: () => this.#leave(),
      onClose: (error) => this.#onClose(error),
    });
    this.#control = this.#session.open(
      { ":method": "POST", ":scheme": "http", ":authority": "agent", ":path": controlPath },
      {
        onHead: (headers) => {
          if (headers[":status"] !== "200") this.cut(new Error("the agent has no control stream"));
        },
        onData: (chunk) => this.#read(chunk),
        onEnd: () => this.#onControlEnd(),
        onReset: (reason) => this.cut(new Error(`the control stream ended: ${reason.message}`)),
      },
      false,
    );
    this.#deadline = setTimeout(
      () => this.cut(new Error(`the agent said nothing for ${helloDeadline / 1000} s`)),
      helloDeadline,
    );
  }

  /** Whether a call may be sent over it now. */
  get open(): boolean {
    return this.#greeted && !this.#draining && !this.#closed && this.#session.accepting;
  }

  /** Whether the agent has answered lately. */
  get alive(): boolean {
    return performance.now() - this.#session.lastHeard < 2 * pingInterval;
  }

  refusal(): string | undefined {
    const refusal = this.arrival.identity.refusal();
    if (refusal !== undefined) this.revoke(refusal);
    return refusal;
  }

  async carry(call: Call, request: CarriedRequest): Promise<Reply> {
    this.inFlight++;
    try {
      return await carry(this.#session, call, request);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  release(): void {
    if (--this.inFlight === 0) this.#events.onIdle();
  }

  /** Asks the agent to connect elsewhere. Calls are still sent until it leaves. */
  drain(): void {
    if (this.#greeted && !this.#closed) this.#control.write(encodeMessage({ type: "drain" }));
  }

  /** Tells the agent that its key is not good any more, and cuts it with all that is under way. */
  revoke(reason: string): void {
    if (this.#closed) return;
    this.#draining = true;
    this.#control.write(encodeMessage({ type: "revoke", reason: reason.slice(0, 500) }));
    // The session sends what one turn has brought when that turn is over.
    setImmediate(() => setImmediate(() => this.cut(new Error(reason))));
  }

  /** Ends it now; calls under way fail. */
  cut(error?: Error): void {
    if (this.#closed) return;
    this.#problem ??= error;
    this.#session.destroy(error);
  }

  state(): AgentConnectionState {
    const { instance, version, address, transport, identity } = this.arrival;
    return {
      instance,
      version,
      address,
      transport,
      keyId: identity.keyId ?? null,
      since: this.since,
      roundTrip: this.roundTrip === undefined ? null : Math.round(this.roundTrip * 100) / 100,
      inFlight: this.inFlight,
      ready: this.ready,
      draining: this.#draining,
    };
  }

  #read(chunk: Buffer): void {
    if (this.#closed) return;
    try {
      this.#spend(0, chunk.length);
      for (const message of this.#reader.push(chunk)) {
        this.#spend(1, 0);
        this.#take(message);
      }
    } catch (error) {
      this.cut(error as Error);
    }
  }

  #spend(messages: number, bytes: number): void {
    const now = performance.now();
    if (now - this.#allowanceFrom > allowancePeriod) {
      this.#allowanceFrom = now;
      this.#messages = 0;
      this.#bytes = 0;
    }
    this.#messages += messages;
    this.#bytes += bytes;
    if (this.#messages > mostMessages || this.#bytes > mostBytes)
      throw new Error(
        `the agent says more about itself than ${mostMessages} messages or ${mostBytes} bytes in ${allowancePeriod / 1000} s`,
      );
  }

  #take(message: AgentMessage): void {
    if (message.type === "hello") this.#greet(message);
    else if (!this.#greeted) throw new Error(`the agent began with ${message.type} instead of hello`);
    else if (message.type === "load") {
      if (message.ready !== undefined) this.ready = message.ready;
      if (message.models !== undefined) this.models = new ModelCards(message.models);
      this.#events.onLoad(this);
    } else {
      // Every call that was sent stands before these words on the wire, and none follows them.
      this.#leave();
      this.#control.write(encodeMessage({ type: "drained" }));
    }
  }

  #greet(hello: Extract<AgentMessage, { type: "hello" }>): void {
    if (this.#greeted) throw new Error("the agent said hello twice");
    if (hello.protocol !== protocolVersion)
      throw new Error(
        `the agent speaks version ${hello.protocol} of the tunnel and this relay ${protocolVersion}: update the older of the two`,
      );
    clearTimeout(this.#deadline);
    this.#greeted = true;
    this.capacity = hello.capacity;
    this.ready = hello.ready;
    this.models = new ModelCards(hello.models as readonly JsonObject[]);
    this.#control.write(encodeMessage({ type: "welcome", agent: this.agent, ...this.#told }));
    this.#pulse = setInterval(() => this.#beat(), pingInterval);
    this.#events.onReady(this);
    this.#beat();
  }

  #beat(): void {
    // A key may expire while nobody calls.
    if (this.refusal() !== undefined) return;
    const asked = performance.now();
    this.#session.ping().then(
      (roundTrip) => (this.roundTrip = roundTrip),
      () => undefined,
    );
    const late = (): void => {
      if (!this.#closed && this.#session.lastHeard < asked)
        this.cut(new Error(`the agent gave no sign of life for ${pingDeadline / 1000} s`));
    };
    // What has come while this process was busy is read before it is judged.
    setTimeout(() => setImmediate(late), pingDeadline).unref();
  }

  #leave(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#events.onLeaving(this);
  }

  /** An agent that leaves ends its half when its calls are over. */
  #onControlEnd(): void {
    if (this.#draining) this.#control.end();
    else this.cut(new Error("the agent ended its control stream"));
  }

  #onClose(error: Error | undefined): void {
    this.#closed = true;
    clearTimeout(this.#deadline);
    clearInterval(this.#pulse);
    this.#events.onClose(this, this.#problem ?? error);
  }
}
