/** What a caller may do: use models; manage keys, and see agents and usage; read the metrics. */
export const roles = ["inference", "admin", "metrics"] as const;
export type Role = (typeof roles)[number];

/** Most that one caller may use; an absent one does not bound. Money is in the currency of the configured prices. */
export interface CallerLimits {
  readonly requestsPerMinute?: number;
  /** Prompt and answer together, as all token limits. */
  readonly tokensPerMinute?: number;
  /** Calls under way at a time, streams until their end. */
  readonly concurrent?: number;
  /** By the day and month of UTC. */
  readonly tokensPerDay?: number;
  readonly tokensPerMonth?: number;
  readonly spendPerDay?: number;
  readonly spendPerMonth?: number;
}

/** Who calls; set by authentication. */
export interface Principal {
  /** For logs, limits and usage; never the credential itself: a key's id, `token-1` of the configured ones, "" where none is asked for. */
  readonly id: string;
  /** What its owner calls it. */
  readonly name: string;
  readonly roles: ReadonlySet<Role>;
  /** Whether it may use the model of this name; absent: every one. */
  readonly allows?: (model: string) => boolean;
  readonly limits: CallerLimits;
}
