import type { AgentReport, ConnectionReport } from "../agent.ts";
import type { Status } from "./status-line.ts";

type Standing = Extract<ConnectionReport, { readonly since: number }>;

/** What an agent reports, as its status line tells it. `now` in milliseconds since 1970. */
export function toStatus(report: AgentReport | undefined, relay: string, now: number): Status {
  if (report === undefined) return { ...nothing, relay };
  const standing = report.connections.filter(
    (one): one is Standing => one.state === "connected" || one.state === "leaving",
  );
  const waiting = report.connections.filter((one) => one.state === "waiting");
  const trips = standing.flatMap(({ roundTrip }) => roundTrip ?? []);
  const connected = report.phase === "connected";
  return {
    relay,
    phase: report.phase === "offline" ? "connecting" : connected ? "connected" : "draining",
    name: standing.find((one) => one.agent !== undefined)?.agent,
    connectedFor: standing.length === 0 ? 0 : Math.max(now - Math.min(...standing.map(({ since }) => since)), 0),
    roundTrip: trips.length === 0 ? undefined : Math.min(...trips),
    problem: connected ? troubleOf(report, standing.length) : failureOf(report.connections),
    retryIn: waiting.length === 0 ? undefined : Math.max(Math.min(...waiting.map(({ until }) => until)) - now, 0),
    callsNow: report.underWay,
    callsTotal: report.calls,
    tokens: report.tokens,
  };
}

const nothing: Omit<Status, "relay"> = {
  phase: "connecting",
  name: undefined,
  connectedFor: 0,
  roundTrip: undefined,
  problem: undefined,
  retryIn: undefined,
  callsNow: 0,
  callsTotal: 0,
  tokens: 0,
};

function troubleOf(report: AgentReport, standing: number): string | undefined {
  if (!report.ready) return "the runtime does not answer";
  return standing < report.connections.length ? `${standing} of ${report.connections.length} connections` : undefined;
}

function failureOf(connections: readonly ConnectionReport[]): string | undefined {
  for (const one of connections)
    if ((one.state === "waiting" || one.state === "dialling") && one.failure !== undefined) return one.failure;
  return undefined;
}
