import { hash } from "node:crypto";
import type { Headers } from "../../core/call.ts";
import type { AgentConnection } from "./connection.ts";
import type { Instance, RemoteAgent } from "./remote-agent.ts";

/** What to choose from, and by what. */
export interface Choosing {
  readonly agents: readonly RemoteAgent[];
  /** The session that the call belongs to, if it tells: its agent has the beginning of the prompt in its cache. */
  readonly session: string | undefined;
  /** Whether a connection may be taken. */
  readonly usable: (connection: AgentConnection) => boolean;
}

/** Headers by which clients (opencode, Codex, Claude Code …) tell one conversation from another. */
const sessionHeaders = [
  "x-session-id",
  "x-session-affinity",
  "session_id",
  "session-id",
  "x-claude-code-session-id",
] as const;

/** The session that a request says it belongs to. */
export function sessionOf(headers: Headers): string | undefined {
  for (const name of sessionHeaders) {
    const value = headers[name];
    if (value !== undefined && value !== "") return value;
  }
  return undefined;
}

/** An instance as a candidate, with its usable connections. */
interface Candidate {
  readonly instance: Instance;
  readonly connections: readonly AgentConnection[];
  readonly inFlight: number;
}

let choices = 0;

/**
 * The connection for a call: of those whose runtime answers, else of all. A session keeps to one agent, and there to one
 * process, as long as that has room, or nobody has; any other call goes where the fewest calls are under way for each
 * that the process answers well, and of equals to the one that was chosen longest ago. Undefined: none is usable.
 */
export function choose({ agents, session, usable }: Choosing): AgentConnection | undefined {
  const all = agents.flatMap(({ instances }) => instances.flatMap((instance) => toCandidates(instance, usable)));
  const answering = all.filter(({ connections }) => connections.some(({ ready }) => ready));
  const candidates = answering.length > 0 ? answering : all;
  const [first] = candidates;
  if (first === undefined) return undefined;
  const candidate = candidates.length === 1 ? first : (sticky(candidates, session) ?? leastBusy(candidates));
  const chosen = candidate.connections.reduce((best, one) => (isBefore(one, best, 1, 1) ? one : best));
  chosen.chosen = ++choices;
  return chosen;
}

function toCandidates(instance: Instance, usable: (connection: AgentConnection) => boolean): Candidate[] {
  const connections = instance.connections.filter((connection) => connection.open && usable(connection));
  if (connections.length === 0) return [];
  return [{ instance, connections, inFlight: instance.connections.reduce((sum, { inFlight }) => sum + inFlight, 0) }];
}

/** The session's own candidate; undefined when it has more to do than it does well, and another has not. */
function sticky(candidates: readonly Candidate[], session: string | undefined): Candidate | undefined {
  if (session === undefined) return undefined;
  const names = [...new Set(candidates.map(({ instance }) => instance.agent))];
  const agent = highest(names, (one) => score(session, one.name, one.capacity));
  const own = candidates.filter(({ instance }) => instance.agent === agent);
  // Ids of processes change with every start, names do not: they only part the processes of one agent.
  const found = highest(own, ({ instance }) => score(session, instance.id, instance.capacity));
  return found === undefined || (isFull(found) && candidates.some((other) => !isFull(other))) ? undefined : found;
}

function isFull({ inFlight, instance }: Candidate): boolean {
  return inFlight >= instance.capacity;
}

/** Weighted rendezvous hashing: whoever comes or goes moves only the sessions that are or were its own. */
function score(session: string, name: string, weight: number): number {
  const digest = hash("sha256", `${name}\0${session}`, "buffer");
  const uniform = (digest.readUInt32BE(0) + 1) / 4_294_967_297;
  return weight / -Math.log(uniform);
}

function highest<Item>(items: readonly Item[], score: (item: Item) => number): Item | undefined {
  let best: Item | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const item of items) {
    const its = score(item);
    if (its <= bestScore) continue;
    best = item;
    bestScore = its;
  }
  return best;
}

function leastBusy(candidates: readonly Candidate[]): Candidate {
  return candidates.reduce((best, one) => {
    const there = { inFlight: one.inFlight, chosen: lastChosen(one) };
    const here = { inFlight: best.inFlight, chosen: lastChosen(best) };
    return isBefore(there, here, one.instance.capacity, best.instance.capacity) ? one : best;
  });
}

function lastChosen({ connections }: Candidate): number {
  return Math.max(...connections.map(({ chosen }) => chosen));
}

interface Burden {
  readonly inFlight: number;
  readonly chosen: number;
}

function isBefore(one: Burden, other: Burden, capacity: number, otherCapacity: number): boolean {
  const difference = one.inFlight * otherCapacity - other.inFlight * capacity;
  return difference !== 0 ? difference < 0 : one.chosen < other.chosen;
}
