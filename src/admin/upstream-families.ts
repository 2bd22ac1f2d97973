import type { UpstreamState } from "../core/upstream-state.ts";
import { counter, type Family, gauge, type Sample } from "./exposition.ts";

/** What a gateway knows of its upstreams. */
export function upstreamFamilies(upstreams: readonly UpstreamState[]): Family[] {
  const each = (value: (upstream: UpstreamState) => number): Sample[] =>
    upstreams.map((upstream) => ({ labels: { upstream: upstream.name }, value: value(upstream) }));
  return [
    gauge(
      "lair_upstream_healthy",
      "1 while the upstream answers when it is asked how it is.",
      each(({ healthy }) => Number(healthy)),
    ),
    gauge(
      "lair_upstream_circuit_open",
      "1 while the upstream gets no calls, for it failed again and again; 0.5 while single calls try it.",
      each(({ circuit }) => ({ closed: 0, "half-open": 0.5, open: 1 })[circuit]),
    ),
    gauge(
      "lair_upstream_models",
      "Models that it lists.",
      each(({ models }) => models.length),
    ),
    gauge(
      "lair_upstream_in_flight",
      "Calls under way.",
      each(({ inFlight }) => inFlight),
    ),
    counter(
      "lair_upstream_calls_total",
      "Calls sent to it.",
      each(({ calls }) => calls),
    ),
    counter(
      "lair_upstream_failures_total",
      "Calls that failed by its fault.",
      each(({ failures }) => failures),
    ),
    counter(
      "lair_upstream_passed_on_total",
      "Calls that went on to another target because it failed or refused them.",
      each(({ passedOn }) => passedOn),
    ),
  ];
}
