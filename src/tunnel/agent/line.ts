import type { Log } from "../../core/log.ts";
import { type Dialled, DialRefused } from "../handshake/dial.ts";
import { isRefusedKey, pauseAfter } from "./backoff.ts";
import type { Clock } from "../../core/clock.ts";
import type { Connection, ConnectionEvents } from "./connection.ts";
import type { ConnectionReport } from "./report.ts";

export interface LineSettings {
  readonly dial: (signal: AbortSignal) => Promise<Dialled>;
  readonly connect: (dialled: Dialled, events: ConnectionEvents) => Connection;
  readonly clock: Clock;
  readonly log: Log;
  /** A connection stands: the first time, and whenever one does again. */
  readonly onStand: () => void;
  readonly onChange: () => void;
}

type State =
  | { readonly name: "idle" }
  | { readonly name: "waiting"; readonly until: number; readonly stop: () => void }
  | Dialling;

interface Dialling {
  readonly name: "dialling";
  readonly abort: AbortController;
  /** Only a connection to another relay than this one is wanted, and none is missed. */
  elsewhere: string | undefined;
}

/** A connection that has lasted so long, in milliseconds, was a good one: the next failure is the first again. */
const healthyAfter = 30_000;
const keyPause = 60_000;

/** Keeps one connection standing: dials, and dials again whenever it is lost, refused, or about to leave. */
export class Line {
  readonly #settings: LineSettings;
  /** What is done to get a connection, beside what stands. */
  #state: State = { name: "idle" };
  #current: Connection | undefined;
  /** Asked to leave by the relay, or replaced: they end with their last call. */
  readonly #leaving = new Set<Connection>();
  #failures = 0;
  #failure: string | undefined;
  #stopped = false;

  constructor(settings: LineSettings) {
    this.#settings = settings;
  }

  /** Those that stand, for whatever time. */
  get connections(): Connection[] {
    return [...(this.#current === undefined ? [] : [this.#current]), ...this.#leaving];
  }

  /** The relay that it leads to now; undefined while it does not stand, or where the relay does not tell. */
  get relay(): string | undefined {
    return this.#current?.relay;
  }

  report(): ConnectionReport[] {
    const failure = this.#failure === undefined ? {} : { failure: this.#failure };
    const next: ConnectionReport[] =
      this.#state.name === "waiting"
        ? [{ state: "waiting", until: this.#state.until, ...failure }]
        : this.#state.name === "dialling" && this.#state.elsewhere === undefined
          ? [{ state: "dialling", ...failure }]
          : [];
    return [...next, ...this.connections.map((connection) => connection.report)];
  }

  start(): void {
    if (!this.#stopped && this.#state.name === "idle" && this.#current === undefined) this.#dial();
  }

  /** Dials once more, and moves if that leads to another relay. */
  seek(): void {
    if (!this.#stopped && this.#state.name === "idle" && this.relay !== undefined) this.#dial(this.relay);
  }

  beat(): void {
    for (const connection of this.connections) connection.beat();
  }

  /** The machine has slept: what is there is doubted, and nothing is waited for. */
  wake(): void {
    for (const connection of this.connections) connection.wake();
    const { name } = this.#state;
    const seeking = this.#state.name === "dialling" && this.#state.elsewhere !== undefined;
    this.#rest();
    if (name !== "idle" && !seeking) this.#dial();
  }

  /** Connects anew at once, for the credentials have changed; what stands serves until the new connection does. */
  renew(): void {
    const begun = this.#current !== undefined || this.#state.name === "waiting";
    if (this.#stopped || !begun || this.#state.name === "dialling") return;
    this.#rest();
    this.#failures = 0;
    this.#dial();
  }

  /** Dials no more; what stands goes on. */
  stop(): void {
    this.#stopped = true;
    this.#rest();
    this.#settings.onChange();
  }

  #rest(): void {
    const before = this.#state;
    // First of all: what is given up must not be taken for a failure.
    this.#state = { name: "idle" };
    if (before.name === "waiting") before.stop();
    else if (before.name === "dialling") before.abort.abort();
  }

  #dial(elsewhere?: string): void {
    const attempt: Dialling = { name: "dialling", abort: new AbortController(), elsewhere };
    this.#state = attempt;
    this.#settings.onChange();
    this.#settings.dial(attempt.abort.signal).then(
      (dialled) => (this.#state === attempt ? this.#meet(dialled, attempt) : dialled.link.destroy()),
      (error: unknown) => {
        if (this.#state === attempt) this.#failed(error, attempt);
      },
    );
  }

  /** Over the link that was dialled: waits to be welcomed. */
  #meet(dialled: Dialled, attempt: Dialling): void {
    let welcomed = false;
    const connection = this.#settings.connect(dialled, {
      welcomed: () => {
        if (welcomed || this.#state !== attempt) return;
        welcomed = true;
        if (attempt.elsewhere !== undefined && connection.relay === attempt.elsewhere) this.#discard(connection);
        else this.#stand(connection);
      },
      drain: () => this.#replace(connection),
      revoked: (reason) => this.#revoked(connection, reason),
      closed: (error) =>
        welcomed ? this.#lost(connection, error) : this.#state === attempt && this.#failed(error, attempt),
    });
    attempt.abort.signal.addEventListener("abort", () => welcomed || connection.destroy());
  }

  #stand(connection: Connection): void {
    const before = this.#current;
    this.#state = { name: "idle" };
    this.#current = connection;
    this.#failure = undefined;
    const { agent, relayVersion, transport } = connection;
    this.#settings.log.info({ agent, relayVersion, transport }, "connected to the relay");
    if (before !== undefined) {
      this.#leaving.add(before);
      void before.finish();
    }
    this.#settings.onStand();
    this.#settings.onChange();
  }

  /** It leads where we were: calls that it has got meanwhile end on it. */
  #discard(connection: Connection): void {
    this.#state = { name: "idle" };
    this.#leaving.add(connection);
    void connection.drain().then(() => connection.finish());
  }

  /** The relay asks for another connection; the old one serves until that stands. */
  #replace(connection: Connection): void {
    if (connection !== this.#current || this.#stopped) return;
    this.#settings.log.info({}, "the relay is about to leave: connecting anew");
    this.#failures = 0;
    if (this.#state.name === "dialling") this.#state.elsewhere = undefined;
    else if (this.#state.name === "idle") this.#dial();
  }

  #lost(connection: Connection, error: Error | undefined): void {
    if (this.#leaving.delete(connection) || connection !== this.#current) return this.#settings.onChange();
    this.#current = undefined;
    const healthy = this.#settings.clock.now() - connection.since >= healthyAfter;
    if (healthy) this.#failures = 0;
    const problem = error?.message ?? "the relay closed the connection";
    this.#failure = problem;
    if (this.#stopped) return this.#settings.onChange();
    this.#settings.log.warn({ problem }, "the connection to the relay is lost");
    // The relay had said that it would leave, and has left: whoever takes its place may be there any moment.
    if (this.#state.name === "waiting") {
      this.#rest();
      this.#failures = 0;
    }
    if (this.#state.name === "dialling") this.#state.elsewhere = undefined;
    if (this.#state.name === "idle") this.#wait(pauseAfter(error, ++this.#failures, this.#settings.clock));
    else this.#settings.onChange();
  }

  #failed(error: unknown, attempt: Dialling): void {
    if (attempt.elsewhere !== undefined) {
      this.#state = { name: "idle" };
      return;
    }
    const problem = error instanceof Error ? error.message : "the relay closed the connection at once";
    this.#failure = problem;
    const pause = pauseAfter(error, ++this.#failures, this.#settings.clock);
    const fields = { problem, ...(error instanceof DialRefused ? { status: error.status } : {}), pause };
    if (isRefusedKey(error))
      this.#settings.log.error(fields, "the relay refuses this agent: check its key and its name");
    else this.#settings.log.warn(fields, "cannot connect to the relay");
    this.#wait(pause);
  }

  #revoked(connection: Connection, reason: string): void {
    this.#settings.log.error({ reason }, "the relay has revoked this agent's key: give it another one");
    this.#failure = reason;
    if (connection === this.#current) this.#current = undefined;
    this.#leaving.delete(connection);
    this.#rest();
    connection.destroy();
    if (!this.#stopped) this.#wait(keyPause);
  }

  #wait(pause: number): void {
    const { clock } = this.#settings;
    const stop = clock.after(pause, () => this.#dial());
    this.#state = { name: "waiting", until: clock.now() + pause, stop };
    this.#settings.onChange();
  }
}
