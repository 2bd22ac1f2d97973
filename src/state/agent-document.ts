import type { AgentPlace } from "./agent-place.ts";
import { AgentFileError, type AgentRecords, decodeAgents, encodeAgents } from "./agent-records.ts";
import { type State, StateError } from "./state.ts";

const documentName = "agents";

/** The list of agents in a state that processes share. Throws `StateError` where that cannot be read. */
export async function openAgentDocument({ documents, place }: Pick<State, "documents" | "place">): Promise<AgentPlace> {
  let text = await documents.read(documentName);
  let known: AgentRecords | undefined;
  const take = (changed: string | undefined): void => {
    if (changed !== text) known = undefined;
    text = changed;
  };
  const look = async (): Promise<void> => {
    try {
      const found = await documents.read(documentName);
      // Nobody deletes it: a state that has lost it must not lock every agent out. Whoever still has it puts it back.
      if (found !== undefined || text === undefined) take(found);
      else take(await documents.change(documentName, (other) => other ?? (text as string)));
    } catch (error) {
      // The state is away and says so itself; what is known goes on, and it tells again when it is back.
      if (!(error instanceof StateError)) throw error;
    }
  };
  let looking: Promise<void> | undefined;
  return {
    name: `list of agents in ${place}`,
    read: () => (known ??= decode(text, place)),
    async change(change) {
      let result: ReturnType<typeof change>["result"];
      take(
        await documents.change(documentName, (current) => {
          const changed = change(decode(current, place));
          result = changed.result;
          return encodeAgents(changed.agents);
        }),
      );
      return result!;
    },
    refresh: () => (looking ??= look().finally(() => (looking = undefined))),
    watch(onChange) {
      const end = documents.watch(documentName, () => void look().then(onChange));
      return { look: () => undefined, close: end };
    },
  };
}

function decode(text: string | undefined, place: string): AgentRecords {
  if (text === undefined) return new Map();
  try {
    return decodeAgents(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new AgentFileError(`the list of agents in ${place} cannot be used, and no agent may connect: ${reason}`, {
      cause: error,
    });
  }
}
