import type { AgentState } from "../../core/agent-state.ts";
import type { Handler } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { Health } from "../../core/provider.ts";
import type { Arrival } from "../door.ts";

export interface FleetSettings {
  readonly log: Log;
  /** Version of this program, told to agents. */
  readonly version: string;
  /** Whole events that tell a caller of a failure within a stream, in the dialect of the call's path. */
  readonly errorEvents: (path: string, error: ApiError) => string;
  /** Whether an agent may connect under this name, so that one that is away is not taken for one that does not exist. */
  readonly knows?: (name: string) => boolean;
}

/** The agents that are connected to this relay, and the calls that they answer. */
export class Fleet {
  constructor(settings: FleetSettings) {
    void settings;
  }

  /** Takes in a connection that the door has let through. */
  admit(arrival: Arrival): void {
    arrival.link.destroy();
  }

  /** Answers `/v1/models` itself, and sends every other allowed call to an agent. Throws `ApiError`. */
  readonly handler: Handler = () => Promise.reject(new ApiError("agent_offline", "no agent is connected"));

  /** Every agent that is here, or was since this relay runs, by name. */
  agents(): AgentState[] {
    return [];
  }

  /** Asks every identity whether it may still be used, and cuts those that may not. */
  recheck(): void {}

  /** Ok when an agent is connected whose runtime answers. */
  health(): Promise<Health> {
    return Promise.resolve({ ok: false, detail: "no agent is connected" });
  }

  /** Tells every agent to connect elsewhere, and resolves when no call is under way. Calls are still answered. */
  drain(): Promise<void> {
    return Promise.resolve();
  }

  /** Cuts every connection. */
  async close(): Promise<void> {}
}
