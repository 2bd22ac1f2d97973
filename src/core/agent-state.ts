/** The id of the request by which an agent asks its runtime, every few seconds, which models there are. */
export const agentQuestion = "agent-models";

/** One tunnel connection as the relay sees it, or a session that other relays have with a process of the agent. */
export interface AgentConnectionState {
  /** Where the other relay takes calls for it; absent: it ends here. */
  readonly relay?: string;
  /** Random, one per process of the agent. */
  readonly instance: string;
  /** Version of the agent's program. */
  readonly version: string;
  readonly address: string;
  /** `hop`: by way of another relay. */
  readonly transport: "upgrade" | "ws" | "hop";
  /** Which key it showed; null: admitted without one. */
  readonly keyId: string | null;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Milliseconds of the last ping; null: none has come back yet. */
  readonly roundTrip: number | null;
  readonly inFlight: number;
  /** Whether the runtime behind it answers. */
  readonly ready: boolean;
  /** It takes no further calls and leaves when those under way are over. */
  readonly draining: boolean;
}

/** An agent as the relay sees it: connected now, or away after it was. */
export interface AgentState {
  readonly name: string;
  /** Whether a call sent now would find a runtime that answers. */
  readonly ready: boolean;
  /** Milliseconds since 1970: when its oldest present connection came; null: it is away. */
  readonly since: number | null;
  /** When it was last here, in milliseconds since 1970; null: it is here. */
  readonly left: number | null;
  /** Calls at a time that it answers well, all its processes together. */
  readonly capacity: number;
  readonly inFlight: number;
  /** Counted since this relay runs. */
  readonly calls: number;
  /** Calls that it lost or refused, whether another agent could take them or not. */
  readonly failures: number;
  /** Bytes of bodies towards the agent, and back. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Milliseconds, the best of its connections; null: none is known. */
  readonly roundTrip: number | null;
  readonly models: readonly string[];
  readonly connections: readonly AgentConnectionState[];
}
