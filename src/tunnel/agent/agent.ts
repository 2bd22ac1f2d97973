import type { Call, Handler } from "../../core/call.ts";
import type { Log } from "../../core/log.ts";
import type { Outcome } from "../../core/outcome.ts";
import { type AgentMessage, protocolVersion } from "../control.ts";
import type { Dialled } from "../handshake/dial.ts";
import type { Load, ServedOutcome } from "../calls/serve.ts";
import { type Clock, systemClock } from "../../core/clock.ts";
import { Connection, sleptFor } from "./connection.ts";
import { Line } from "./line.ts";
import { type Offer, OfferWatch } from "./offer.ts";
import type { AgentReport } from "./report.ts";
import { Spread } from "./spread.ts";

export interface AgentSettings {
  /** Opens one connection to the relay. Throws `DialRefused` where the relay itself says no. */
  readonly dial: (signal: AbortSignal) => Promise<Dialled>;
  /** Answers the calls, and `GET /v1/models` for the agent itself. */
  readonly handler: Handler;
  /** Connections kept at a time, 1 to 4. */
  readonly connections: number;
  /** Calls at a time that the runtime answers well: what the relay weighs agents by. */
  readonly capacity: number;
  readonly version: string;
  /** Random, one per process. */
  readonly instance: string;
  readonly log: Log;
  /** Told of every call when it is over. */
  readonly onOutcome?: (call: Call, outcome: Outcome) => void;
  /** Something in `state` but a count or a time has changed. */
  readonly onChange?: () => void;
  /** Largest body of a call, in bytes; default 64 MB. */
  readonly bodyLimit?: number;
  readonly clock?: Clock;
}

/** Calls under way beyond which the relay is told to ask another agent. */
const mostCalls = 4096;
const defaultBodyLimit = 64 * 1024 * 1024;
/** Milliseconds between two looks at the connections: no sleep of the machine stays unnoticed longer. */
const beatInterval = 1000;
/** How long a hello waits for the runtime's first word. */
const hellosPatience = 3000;

/** Keeps connections to a relay and answers its calls, until it is closed. */
export class Agent {
  readonly #settings: AgentSettings;
  readonly #clock: Clock;
  readonly #watch: OfferWatch;
  readonly #lines: Line[];
  readonly #load: Load = { underWay: 0, bytes: 0, most: mostCalls };
  readonly #totals = { calls: 0, tokens: 0 };
  readonly #spread: Spread;
  #phase: "running" | "draining" | "closed" = "running";
  #stopBeat: () => void = () => undefined;
  #offerKnown: (() => void)[] = [];

  constructor(settings: AgentSettings) {
    this.#settings = settings;
    this.#clock = settings.clock ?? systemClock;
    this.#watch = new OfferWatch({
      handler: settings.handler,
      clock: this.#clock,
      progress: () => this.#load.bytes,
      onChange: (offer, before) => this.#offers(offer, before),
    });
    this.#lines = Array.from({ length: settings.connections }, (_one, index) => this.#line(index));
    this.#spread = new Spread(this.#lines, this.#clock);
  }

  start(): void {
    this.#watch.ask();
    this.#lines[0]?.start();
    this.#beatAt(this.#clock.now() + beatInterval);
  }

  state(): AgentReport {
    const stands = this.#lines.some((line) => line.connections.length > 0);
    const { ready = false, models = [], problem } = this.#watch.offer ?? {};
    return {
      phase: this.#phase !== "running" ? this.#phase : stands ? "connected" : "offline",
      ready,
      models: models.length,
      ...(problem === undefined ? {} : { problem }),
      underWay: this.#load.underWay,
      ...this.#totals,
      bytes: this.#load.bytes,
      connections: this.#lines.flatMap((line) => line.report()),
    };
  }

  /** Connects anew with what the credentials are now; no call is lost. */
  renew(): void {
    for (const line of this.#lines) line.renew();
  }

  /** Takes no further calls, lets those under way finish for at most `grace` milliseconds, then closes. */
  async drain(grace: number): Promise<void> {
    if (this.#phase !== "running") return this.close();
    this.#phase = "draining";
    for (const line of this.#lines) line.stop();
    const leave = async (connection: Connection): Promise<void> => {
      await connection.drain();
      await connection.finish();
    };
    let stop = (): void => undefined;
    const late = new Promise<void>((resolve) => (stop = this.#clock.after(grace, resolve)));
    const over = Promise.all(this.#lines.flatMap((line) => line.connections.map(leave)));
    await Promise.race([over, late]);
    stop();
    await this.close();
  }

  /** Closes now; calls under way are lost. */
  async close(): Promise<void> {
    this.#phase = "closed";
    this.#stopBeat();
    this.#watch.stop();
    for (const line of this.#lines) {
      line.stop();
      for (const connection of line.connections) connection.destroy();
    }
    this.#settings.onChange?.();
  }

  /** Each line but the first begins when the one before it stands. */
  #line(index: number): Line {
    return new Line({
      dial: this.#settings.dial,
      connect: (dialled, events) =>
        new Connection(
          dialled,
          {
            handler: this.#settings.handler,
            serve: {
              log: this.#settings.log,
              bodyLimit: this.#settings.bodyLimit ?? defaultBodyLimit,
              load: this.#load,
              onOutcome: (call, outcome) => this.#count(call, outcome),
            },
            clock: this.#clock,
            hello: () => this.#hello(),
          },
          events,
        ),
      clock: this.#clock,
      log: this.#settings.log,
      onStand: () => {
        this.#lines[index + 1]?.start();
        this.#spread.look();
      },
      onChange: () => this.#settings.onChange?.(),
    });
  }

  #count(call: Call, outcome: ServedOutcome): void {
    this.#totals.calls++;
    this.#totals.tokens += outcome.tokens;
    // A runtime that is gone is not waited for until it is asked the next time.
    if (outcome.status === 502 && this.#watch.offer?.ready === true) this.#watch.ask();
    this.#settings.onOutcome?.(call, outcome);
  }

  async #hello(): Promise<AgentMessage> {
    if (this.#watch.offer === undefined) await this.#firstOffer();
    const { capacity, version, instance } = this.#settings;
    const { ready = false, models = [] } = this.#watch.offer ?? {};
    return { type: "hello", protocol: protocolVersion, version, instance, capacity, ready, models };
  }

  #firstOffer(): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.#clock.after(hellosPatience, resolve);
      this.#offerKnown.push(() => {
        stop();
        resolve();
      });
    });
  }

  #offers(offer: Offer, before: Offer | undefined): void {
    const { log } = this.#settings;
    for (const tell of this.#offerKnown.splice(0)) tell();
    if (before?.ready !== offer.ready) {
      if (offer.ready) log.info({ models: offer.models.length }, "the runtime answers");
      else log.warn({ problem: offer.problem }, "the runtime does not answer");
    }
    const { ready, models } = offer;
    // A hello that could wait no longer has said so already.
    if (before === undefined && !ready) return this.#settings.onChange?.();
    const changed: AgentMessage = models === before?.models ? { type: "load", ready } : { type: "load", ready, models };
    for (const line of this.#lines) for (const connection of line.connections) connection.say(changed);
    this.#settings.onChange?.();
  }

  #beatAt(due: number): void {
    this.#stopBeat = this.#clock.after(due - this.#clock.now(), () => {
      const slept = this.#clock.now() - due > sleptFor;
      for (const line of this.#lines) {
        if (slept) line.wake();
        else line.beat();
      }
      this.#spread.look();
      this.#beatAt(this.#clock.now() + beatInterval);
    });
  }
}
