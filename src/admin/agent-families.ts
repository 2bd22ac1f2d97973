import type { AgentState } from "../core/agent-state.ts";
import { counter, type Family, gauge, type Sample } from "./exposition.ts";

/** What a relay knows of its agents. */
export function agentFamilies(agents: readonly AgentState[]): Family[] {
  const each = (value: (agent: AgentState) => number): Sample[] =>
    agents.map((agent) => ({ labels: { agent: agent.name }, value: value(agent) }));
  const roundTrips = agents.flatMap(({ name, roundTrip }): Sample[] =>
    roundTrip === null ? [] : [{ labels: { agent: name }, value: roundTrip / 1000 }],
  );
  return [
    gauge(
      "lair_agent_ready",
      "1 while the agent is connected and its runtime answers.",
      each(({ ready }) => Number(ready)),
    ),
    gauge(
      "lair_agent_connections",
      "Tunnel connections.",
      each(({ connections }) => connections.length),
    ),
    gauge(
      "lair_agent_capacity",
      "Calls at a time that it answers well, by its own word.",
      each(({ capacity }) => capacity),
    ),
    gauge(
      "lair_agent_models",
      "Models that it lists.",
      each(({ models }) => models.length),
    ),
    gauge(
      "lair_agent_in_flight",
      "Calls under way.",
      each(({ inFlight }) => inFlight),
    ),
    gauge("lair_agent_round_trip_seconds", "Round trip of the last ping.", roundTrips),
    counter(
      "lair_agent_calls_total",
      "Calls sent to it.",
      each(({ calls }) => calls),
    ),
    counter(
      "lair_agent_failures_total",
      "Calls that it lost or refused.",
      each(({ failures }) => failures),
    ),
    counter(
      "lair_agent_sent_bytes_total",
      "Bytes of bodies sent to it.",
      each(({ bytesIn }) => bytesIn),
    ),
    counter(
      "lair_agent_received_bytes_total",
      "Bytes of bodies that it sent.",
      each(({ bytesOut }) => bytesOut),
    ),
  ];
}
