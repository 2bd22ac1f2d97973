import { afterPoll } from "../../core/after-poll.ts";
import type { Handler, Headers } from "../../core/call.ts";
import { type AgentMessage, controlPath, type RelayMessage } from "../control.ts";
import type { Dialled } from "../handshake/dial.ts";
import { errorCodes } from "../http2/errors.ts";
import { Http2Session } from "../http2/session.ts";
import type { Http2Stream, StreamHandler } from "../http2/stream.ts";
import { serveCalls, type ServeSettings } from "../calls/serve.ts";
import type { Clock } from "../../core/clock.ts";
import { ControlStream } from "./control-stream.ts";
import type { ConnectionReport } from "./report.ts";

export interface ConnectionSettings {
  readonly handler: Handler;
  readonly serve: ServeSettings;
  readonly clock: Clock;
  /** The first words on the control stream, once they are known. */
  readonly hello: () => Promise<AgentMessage>;
}

/** What a connection tells whoever keeps it. After `closed`, nothing more. */
export interface ConnectionEvents {
  /** The relay has taken the agent in: calls may come. */
  welcomed(): void;
  /** The relay wants to leave: another connection, please, then `finish`. */
  drain(): void;
  revoked(reason: string): void;
  closed(error: Error | undefined): void;
}

/** Silence after which the relay is asked whether it is there, and how long it may take to answer: together less than the 10 s in which a frozen one is to be found. */
const heartbeat = 4000;
const patience = 5000;
/** After sleep the way to the relay is mostly gone: to know soon is worth a wrong guess. */
const patienceAfterSleep = 2000;
/** A timer this late, in milliseconds, has slept with the machine: what it was to find out is asked anew. */
export const sleptFor = 3000;
const welcomePatience = 15_000;
const drainedPatience = 5000;
const controlPatience = 10_000;

/** One tunnel that stands: its session, its control stream, and whether the relay is still there. */
export class Connection {
  readonly since: number;
  readonly transport: Dialled["transport"];
  /** Said by the relay's welcome. */
  agent: string | undefined;
  relayVersion: string | undefined;
  /** Which relay it leads to. */
  relay: string | undefined;
  readonly #session: Http2Session;
  readonly #settings: ConnectionSettings;
  readonly #events: ConnectionEvents;
  readonly #serve: (stream: Http2Stream, headers: Headers, ended: boolean) => StreamHandler;
  #control: ControlStream | undefined;
  #roundTrip: number | undefined;
  #calls = 0;
  #underWay = 0;
  #checked: number;
  #leaving = false;
  #closed = false;
  /** A question is out that must be answered in time. */
  #asking = false;
  #stopCheck: () => void = () => undefined;
  readonly #stopWelcome: () => void;
  /** Called at every change that somebody may wait for: a call's end, `drained`, the connection's end. */
  #waiting: (() => void)[] = [];
  #drained = false;

  constructor(dialled: Dialled, settings: ConnectionSettings, events: ConnectionEvents) {
    const { clock, serve, handler } = settings;
    this.transport = dialled.transport;
    this.since = clock.now();
    this.#checked = this.since;
    this.#settings = settings;
    this.#events = events;
    this.#serve = serveCalls(handler, {
      ...serve,
      onBegin: () => void this.#underWay++,
      onOutcome: (call, outcome) => {
        this.#calls++;
        this.#underWay--;
        serve.onOutcome?.(call, outcome);
        this.#tell();
      },
    });
    this.#stopWelcome = clock.after(welcomePatience, () =>
      this.destroy(new Error(`the relay has not welcomed the agent within ${welcomePatience / 1000} s`)),
    );
    this.#session = new Http2Session(dialled.link, {
      role: "server",
      onStream: (stream, headers, ended) => this.#take(stream, headers, ended),
      onClose: (error) => this.#gone(error),
    });
  }

  get report(): ConnectionReport {
    return {
      state: this.#leaving ? "leaving" : "connected",
      since: this.since,
      transport: this.transport,
      ...(this.agent === undefined ? {} : { agent: this.agent }),
      ...(this.relayVersion === undefined ? {} : { relayVersion: this.relayVersion }),
      ...(this.#roundTrip === undefined ? {} : { roundTrip: this.#roundTrip }),
      underWay: this.#underWay,
      calls: this.#calls,
    };
  }

  say(message: AgentMessage): void {
    this.#control?.say(message);
  }

  /** Asks the relay whether it is there if it is time to; called every second or so. */
  beat(): void {
    if (!this.#asking && this.#settings.clock.now() - this.#checked >= heartbeat) this.#check(patience);
  }

  /** The machine has slept: asks at once. */
  wake(): void {
    this.#check(patienceAfterSleep);
  }

  /** Asks the relay to send no more calls; resolves when it has agreed, is gone, or lets wait too long. */
  async drain(): Promise<void> {
    this.#leaving = true;
    this.say({ type: "drain" });
    await this.#until(() => this.#drained || this.#control === undefined, drainedPatience);
  }

  /** Takes no more calls, lets those under way end, and closes; resolves when it is closed. */
  async finish(): Promise<void> {
    this.#leaving = true;
    if (this.#closed) return;
    this.#session.goaway();
    await this.#until(() => this.#underWay === 0);
    this.#control?.end();
    const stop = this.#settings.clock.after(controlPatience, () => this.#control?.reset());
    await this.#session.finish().catch(() => undefined);
    stop();
    // Its last bytes may still be on their way.
    await this.#until(() => this.#closed, controlPatience);
    this.destroy();
  }

  /** Closes now. */
  destroy(error?: Error): void {
    this.#session.destroy(error);
  }

  #take(stream: Http2Stream, headers: Headers, ended: boolean): StreamHandler {
    return headers[":path"] === controlPath ? this.#takeControl(stream, headers) : this.#serve(stream, headers, ended);
  }

  #takeControl(stream: Http2Stream, headers: Headers): StreamHandler {
    if (this.#control !== undefined || headers[":method"] !== "POST") {
      stream.reset(errorCodes.refusedStream);
      return { onData() {}, onEnd() {}, onReset() {} };
    }
    const control = new ControlStream(stream, {
      message: (message) => this.#hear(message),
      over: (problem) => this.#leaving || this.destroy(new Error(problem)),
    });
    this.#control = control;
    void this.#settings.hello().then((hello) => control.say(hello));
    return control;
  }

  #hear(message: RelayMessage): void {
    switch (message.type) {
      case "welcome":
        this.agent = message.agent;
        this.relayVersion = message.version;
        this.relay = message.relay;
        this.#stopWelcome();
        return this.#events.welcomed();
      case "drain":
        this.#leaving = true;
        return this.#events.drain();
      case "drained":
        this.#drained = true;
        return this.#tell();
      case "revoke":
        return this.#events.revoked(message.reason);
    }
  }

  #check(within: number): void {
    const { clock } = this.#settings;
    if (this.#closed) return;
    this.#stopCheck();
    this.#asking = true;
    const asked = clock.now();
    this.#checked = asked;
    const heard = this.#session.lastHeard;
    this.#session.ping().then(
      (roundTrip) => {
        this.#roundTrip = roundTrip;
        if (asked !== this.#checked) return;
        this.#asking = false;
        this.#stopCheck();
      },
      () => undefined,
    );
    this.#stopCheck = clock.after(within, () => {
      const late = clock.now() - asked - within;
      // What has come meanwhile is read first.
      afterPoll(() => this.#judge(within, { heard, late, asked }));
    });
  }

  #judge(within: number, { heard, late, asked }: { heard: number; late: number; asked: number }): void {
    if (this.#closed || !this.#asking || asked !== this.#checked) return;
    this.#asking = false;
    // Whatever it was that came, who sends it is alive.
    if (this.#session.lastHeard !== heard) return;
    if (late > sleptFor) return this.wake();
    this.destroy(new Error(`the relay has been silent for ${within / 1000} s when asked for an answer`));
  }

  #gone(error: Error | undefined): void {
    this.#closed = true;
    this.#stopCheck();
    this.#stopWelcome();
    this.#tell();
    this.#events.closed(error);
  }

  /** Resolves when the condition holds, the connection is closed, or, if a time is given, that is over. */
  #until(condition: () => boolean, limit?: number): Promise<void> {
    return new Promise((resolve) => {
      let late = false;
      const stop =
        limit === undefined
          ? undefined
          : this.#settings.clock.after(limit, () => {
              late = true;
              this.#tell();
            });
      const look = (): void => {
        if (!late && !this.#closed && !condition()) return void this.#waiting.push(look);
        stop?.();
        resolve();
      };
      look();
    });
  }

  #tell(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const look of waiting) look();
  }
}
