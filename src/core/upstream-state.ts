/** An upstream as its gateway sees it. Times are milliseconds since 1970. */
export interface UpstreamState {
  readonly name: string;
  readonly kind: string;
  readonly weight: number;
  /** By its health checks: an unhealthy one is chosen last. */
  readonly healthy: boolean;
  /** `closed`: calls go through. `open`: it failed again and again, and gets none. `half-open`: one call at a time tries it. */
  readonly circuit: "closed" | "half-open" | "open";
  /** When that circuit last changed. */
  readonly since: number;
  /** When an open circuit lets the next call through; null: it is not open. */
  readonly retryAt: number | null;
  /** Until when others are preferred, for it has asked to be left alone; null: it has not. */
  readonly avoidedUntil: number | null;
  readonly lastFailure: { readonly at: number; readonly message: string } | null;
  readonly inFlight: number;
  /** Calls sent to it, and those that failed by its fault, since this gateway runs. */
  readonly calls: number;
  readonly failures: number;
  /** Calls that went on to another target because it failed or refused them. */
  readonly passedOn: number;
  readonly models: readonly string[];
}
