import { ApiError } from "../../core/errors.ts";
import { nearNames } from "../../core/near-names.ts";
import type { RemoteAgent } from "./remote-agent.ts";

/** Who may answer a call. */
export interface Route {
  /** The model's name as the caller wrote it; empty when the call names none. */
  readonly requested: string;
  /** The name by which the agents' runtimes know it. */
  readonly model: string;
  readonly agents: readonly RemoteAgent[];
  /**
   * `named`: the caller named the agent. `listed`: all of them list the model. `sole`: nobody does, but there is no other
   * agent. `guessed`: nobody does, and any may have it all the same.
   */
  readonly by: "named" | "listed" | "sole" | "guessed";
  /** Only connections whose runtime lists the model are meant. */
  readonly listed: boolean;
}

/** The agents by name, in the order of their names. */
export interface Roll {
  readonly agents: readonly RemoteAgent[];
  find(name: string): RemoteAgent | undefined;
  /** Whether it may connect, here or not. */
  knows(name: string): boolean;
}

/** How long an agent that is away is waited for by those who ask for its models, in milliseconds. */
const longestAbsence = 10 * 60_000;

/**
 * Which agents a model's name means: `agent/model` that one, where it lists the model; a listed name all who list it;
 * `agent/anything` that one, which then answers itself; any other name the sole agent, or each in turn. Throws
 * `agent_offline` when those are away.
 */
export function resolve(roll: Roll, name: string): Route {
  const here = roll.agents.filter(({ open }) => open);
  const slash = name.indexOf("/");
  const prefix = slash === -1 ? "" : name.slice(0, slash);
  const rest = name.slice(slash + 1);
  const named = prefix === "" || rest === "" ? undefined : roll.find(prefix);
  const own = { requested: name, model: rest, by: "named" } as const;
  if (named?.open === true && named.lists(rest)) return { ...own, agents: [named], listed: true };
  const listing = here.filter((agent) => agent.lists(name));
  if (listing.length > 0) return { requested: name, model: name, agents: listing, by: "listed", listed: true };
  if (named?.open === true) return { ...own, agents: [named], listed: false };
  if (rest !== "" && prefix !== "" && (named !== undefined || roll.knows(prefix))) throw away(prefix);
  const absent = roll.agents.find((agent) => !agent.open && isExpected(agent) && agent.lists(name));
  if (absent !== undefined) throw away(absent.name, name);
  if (here.length === 0) throw nobody();
  const by = here.length === 1 ? "sole" : "guessed";
  return { requested: name, model: name, agents: here, by, listed: false };
}

/** The route of a call that names no model. Throws where there is a choice, or nobody. */
export function resolveUnnamed(roll: Roll, missing: () => ApiError): Route {
  const here = roll.agents.filter(({ open }) => open);
  if (here.length === 0) throw nobody();
  if (here.length > 1) throw missing();
  return { requested: "", model: "", agents: here, by: "sole", listed: false };
}

/** The error for a name that no agent has. */
export function notFound(roll: Roll, name: string): ApiError {
  const known = roll.agents.flatMap((agent) => {
    const ids = agent.cards().map(({ id }) => id as string);
    return name.startsWith(`${agent.name}/`) ? ids.map((id) => `${agent.name}/${id}`) : ids;
  });
  return new ApiError(
    "model_not_found",
    `the model '${name.slice(0, 200)}' does not exist; ${nearNames(name, [...new Set(known)])}`,
    { param: "model" },
  );
}

/** The error for calls while no agent is connected. */
export function nobody(): ApiError {
  return new ApiError(
    "agent_offline",
    "no agent is connected to this relay; start one beside the runtime: lair agent --cloud <address of this relay> --key <what `lair cloud agents add NAME` prints>",
    { retryAfter: 5 },
  );
}

function away(agent: string, model?: string): ApiError {
  const what = model === undefined ? "" : `, which has the model '${model.slice(0, 200)}',`;
  return new ApiError(
    "agent_offline",
    `the agent '${agent}'${what} is not connected now; it comes back by itself when \`lair agent\` runs there`,
    { provider: agent, retryAfter: 2 },
  );
}

function isExpected({ left }: RemoteAgent): boolean {
  return left === undefined || Date.now() - left < longestAbsence;
}
