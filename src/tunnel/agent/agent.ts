import type { Call, Handler } from "../../core/call.ts";
import type { Log } from "../../core/log.ts";
import type { Outcome } from "../../core/outcome.ts";
import type { Dialled } from "../dial.ts";
import type { AgentReport } from "./report.ts";

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
}

/** Keeps connections to a relay and answers its calls, until it is closed. */
export class Agent {
  constructor(_settings: AgentSettings) {}

  start(): void {
    throw new Error("not built yet");
  }

  state(): AgentReport {
    throw new Error("not built yet");
  }

  /** Takes no further calls, lets those under way finish for at most `grace` milliseconds, then closes. */
  drain(_grace: number): Promise<void> {
    return Promise.reject(new Error("not built yet"));
  }

  /** Closes now; calls under way are lost. */
  close(): Promise<void> {
    return Promise.reject(new Error("not built yet"));
  }
}
