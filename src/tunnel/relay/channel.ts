import type { AgentConnectionState } from "../../core/agent-state.ts";
import type { Call, Reply } from "../../core/call.ts";
import type { CarriedRequest } from "../calls/carry.ts";
import type { ModelCards } from "./model-cards.ts";

/** What leads calls to a process of an agent: a tunnel connection that ends here, or a hop to the relay where one does. */
export interface Channel {
  readonly agent: string;
  /** Random, one per process of the agent: channels of one process lead to the same runtime. */
  readonly instance: string;
  /** Whether the tunnel ends at another relay. */
  readonly far: boolean;
  /** Whether a call may be sent over it now. */
  readonly open: boolean;
  /** Whether the runtime behind it answers. */
  readonly ready: boolean;
  readonly models: ModelCards;
  /** Calls at a time that the process answers well, and those under way over this channel. */
  readonly capacity: number;
  readonly inFlight: number;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Milliseconds of the last ping, where it is known. */
  readonly roundTrip: number | undefined;
  /** When it was last chosen, in an order without gaps; see `choose`. */
  chosen: number;
  /** Why it may not be used any more; it is closed then. */
  refusal(): string | undefined;
  /** Sends a call, see `carry`. It counts as in flight until `release`. */
  carry(call: Call, request: CarriedRequest): Promise<Reply>;
  /** A call whose reply `carry` gave is over. */
  release(): void;
  /** Ends it now; calls under way fail. */
  cut(): void;
  state(): AgentConnectionState;
}
