import { affinity } from "../../core/affinity.ts";
import type { Channel } from "./channel.ts";
import type { Instance, RemoteAgent } from "./remote-agent.ts";

/** What to choose from, and by what. */
export interface Choosing {
  readonly agents: readonly RemoteAgent[];
  /** The session that the call belongs to, if it tells: its agent has the beginning of the prompt in its cache. */
  readonly session: string | undefined;
  /** Whether a channel may be taken. */
  readonly usable: (channel: Channel) => boolean;
}

/** An instance with a channel that may be taken. */
interface Candidate {
  readonly instance: Instance;
  readonly ready: boolean;
  /** Whether all of those channels lead by another relay. */
  readonly far: boolean;
  readonly inFlight: number;
  /** The last time that one of its channels was chosen. */
  readonly chosen: number;
}

let choices = 0;

/**
 * The channel for a call: of those whose runtime answers, else of all. A session keeps to one agent, and there to one
 * process, as long as that has room, or nobody has: a hop costs less than a prompt that is read anew. Any other call
 * stays at this relay while that leads to room, and goes where the fewest calls are under way for each that the process
 * answers well, and of equals to the one that was chosen longest ago. Undefined: none is usable.
 */
export function choose({ agents, session, usable }: Choosing): Channel | undefined {
  const instances = instancesOf(agents);
  const chosen = leastUsed(instances.length === 1 ? instances[0] : chooseInstance(instances, session, usable), usable);
  if (chosen !== undefined) chosen.chosen = ++choices;
  return chosen;
}

function instancesOf(agents: readonly RemoteAgent[]): readonly Instance[] {
  return agents.length === 1 && agents[0] !== undefined ? agents[0].instances : agents.flatMap((one) => one.instances);
}

type Usable = Choosing["usable"];

function leastUsed(instance: Instance | undefined, usable: Usable): Channel | undefined {
  let best: Channel | undefined;
  for (const one of instance?.channels ?? []) {
    if (!one.open || !usable(one)) continue;
    if (best === undefined || (one.far === best.far ? isBefore(one, best, 1, 1) : best.far)) best = one;
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
  const channels = instance.channels.filter((channel) => channel.open && usable(channel));
  if (channels.length === 0) return [];
  return [
    {
      instance,
      ready: channels.some(({ ready }) => ready),
      far: channels.every(({ far }) => far),
      inFlight: instance.channels.reduce((sum, { inFlight }) => sum + inFlight, 0),
      chosen: Math.max(...channels.map(({ chosen }) => chosen)),
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
  return candidates.reduce((best, one) => {
    const [rank, bestRank] = [rankOf(one), rankOf(best)];
    if (rank !== bestRank) return rank < bestRank ? one : best;
    return isBefore(one, best, one.instance.capacity, best.instance.capacity) ? one : best;
  });
}

/** Room first, and of those with room, or without, those that are here. */
function rankOf(candidate: Candidate): number {
  return (isFull(candidate) ? 2 : 0) + (candidate.far ? 1 : 0);
}

interface Burden {
  readonly inFlight: number;
  readonly chosen: number;
}

function isBefore(one: Burden, other: Burden, capacity: number, otherCapacity: number): boolean {
  const difference = one.inFlight * otherCapacity - other.inFlight * capacity;
  return difference !== 0 ? difference < 0 : one.chosen < other.chosen;
}
