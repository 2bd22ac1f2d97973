/** What an agent is doing now, for its status line. */
export interface AgentReport {
  /** `connected`: at least one connection stands. `offline`: none does. */
  readonly phase: "offline" | "connected" | "draining" | "closed";
  /** Whether the runtime answered when it was last asked, and how many models it listed. */
  readonly ready: boolean;
  readonly models: number;
  /** Why it is not ready. */
  readonly problem?: string;
  /** Calls under way now. */
  readonly underWay: number;
  /** Of all connections since the start: calls that are over, tokens of their answers as far as these tell, bytes of their replies. */
  readonly calls: number;
  readonly tokens: number;
  readonly bytes: number;
  /** One for each connection that is to stand, and one for each that still finishes its calls. */
  readonly connections: readonly ConnectionReport[];
}

export type ConnectionReport =
  | {
      readonly state: "waiting";
      /** Milliseconds since 1970: when the next attempt comes. */
      readonly until: number;
      /** Why the last attempt failed, or the last connection ended. */
      readonly failure?: string;
    }
  | { readonly state: "dialling"; readonly failure?: string }
  | {
      /** `leaving`: the relay has asked for another one in its place, or it takes no further calls and ends with its last. */
      readonly state: "connected" | "leaving";
      /** Milliseconds since 1970. */
      readonly since: number;
      readonly transport: "upgrade" | "ws";
      /** The name by which the relay knows this agent, and the relay's version: once it has said so. */
      readonly agent?: string;
      readonly relayVersion?: string;
      /** Milliseconds; once it was measured. */
      readonly roundTrip?: number;
      /** Calls under way on it, and calls that are over. */
      readonly underWay: number;
      readonly calls: number;
    };
