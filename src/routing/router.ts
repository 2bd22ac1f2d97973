import type { Clock } from "../core/clock.ts";
import type { Handler } from "../core/call.ts";
import type { Log } from "../core/log.ts";
import type { Health, Provider } from "../core/provider.ts";
import type { UpstreamState } from "../core/upstream-state.ts";

/** One of a gateway's upstreams. */
export interface RoutedUpstream {
  readonly provider: Provider;
  /** Its share of the calls among those that have the same model, > 0. */
  readonly weight: number;
}

export interface RouterSettings {
  /** Their providers' names differ. */
  readonly upstreams: readonly RoutedUpstream[];
  /** Virtual models: name → targets in order, each `upstream/model`, a name that upstreams list, or another virtual model. */
  readonly models: Readonly<Record<string, readonly string[]>>;
  /** Milliseconds that an upstream may take to list its models or to tell how it is. */
  readonly probeTimeout: number;
  readonly log: Log;
  readonly clock?: Clock;
}

/** What a gateway answers with: upstreams by the model's name. */
export interface Router {
  /** Answers `/v1/models`, and sends calls that name a model to an upstream. Throws `ApiError`. */
  readonly handler: Handler;
  /** Ok while an upstream may be asked. */
  health(): Promise<Health>;
  states(): UpstreamState[];
  /** Ends the health checks; the providers stay open. */
  close(): void;
}

export function createRouter(_settings: RouterSettings): Router {
  throw new Error("not built yet");
}
