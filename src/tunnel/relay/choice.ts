import { affinity } from "../../core/affinity.ts";
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

/** An instance with a connection that may be taken. */
interface Candidate {
  readonly instance: Instance;
  readonly ready: boolean;
  readonly inFlight: number;
  /** The last time that one of its connections was chosen. */
  readonly chosen: number;
}

let choices = 0;

/**
 * The connection for a call: of those whose runtime answers, else of all. A session keeps to one agent, and there to one
 * process, as long as that has room, or nobody has; any other call goes where the fewest calls are under way for each
 * that the process answers well, and of equals to the one that was chosen longest ago. Undefined: none is usable.
 */
export function choose({ agents, session, usable }: Choosing): AgentConnection | undefined {
  const instances = instancesOf(agents);
  const chosen = leastUsed(instances.length === 1 ? instances[0] : chooseInstance(instances, session, usable), usable);
  if (chosen !== undefined) chosen.chosen = ++choices;
  return chosen;
}

function instancesOf(agents: readonly RemoteAgent[]): readonly Instance[] {
  return agents.length === 1 && agents[0] !== undefined ? agents[0].instances : agents.flatMap((one) => one.instances);
}

type Usable = Choosing["usable"];

function leastUsed(instance: Instance | undefined, usable: Usable): AgentConnection | undefined {
  let best: AgentConnection | undefined;
  for (const one of instance?.connections ?? []) {
    if (!one.open || !usable(one)) continue;
    if (best === undefined || isBefore(one, best, 1, 1)) best = one;
  }
  return best;
}

function chooseInstance(
  instances: readonly Instance[],
  session: string | undefined,
  usable: Usable,
): Instance | undefined {
  const all = instances.flatMap((instance) => toCandidates(instance, usable));
  const answering = all.filter(({ ready }) => ready);
  const candidates = answering.length > 0 ? answering : all;
  if (candidates.length === 0) return undefined;
  return (sticky(candidates, session) ?? leastBusy(candidates)).instance;
}

function toCandidates(instance: Instance, usable: Usable): Candidate[] {
  const connections = instance.connections.filter((connection) => connection.open && usable(connection));
  if (connections.length === 0) return [];
  return [
    {
      instance,
      ready: connections.some(({ ready }) => ready),
      inFlight: instance.connections.reduce((sum, { inFlight }) => sum + inFlight, 0),
      chosen: Math.max(...connections.map(({ chosen }) => chosen)),
    },
  ];
}

/** The session's own candidate; undefined when it has more to do than it does well, and another has not. */
function sticky(candidates: readonly Candidate[], session: string | undefined): Candidate | undefined {
  if (session === undefined) return undefined;
  const names = [...new Set(candidates.map(({ instance }) => instance.agent))];
  const agent = highest(names, (one) => affinity(session, one.name, one.capacity));
  const own = candidates.filter(({ instance }) => instance.agent === agent);
  // Ids of processes change with every start, names do not: they only part the processes of one agent.
  const found = highest(own, ({ instance }) => affinity(session, instance.id, instance.capacity));
  return found === undefined || (isFull(found) && candidates.some((other) => !isFull(other))) ? undefined : found;
}

function isFull({ inFlight, instance }: Candidate): boolean {
  return inFlight >= instance.capacity;
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
  return candidates.reduce((best, one) =>
    isBefore(one, best, one.instance.capacity, best.instance.capacity) ? one : best,
  );
}

interface Burden {
  readonly inFlight: number;
  readonly chosen: number;
}

function isBefore(one: Burden, other: Burden, capacity: number, otherCapacity: number): boolean {
  const difference = one.inFlight * otherCapacity - other.inFlight * capacity;
  return difference !== 0 ? difference < 0 : one.chosen < other.chosen;
}
