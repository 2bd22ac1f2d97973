import { openAgentDocument } from "./agent-document.ts";
import { agentFile } from "./agent-file.ts";
import type { AgentPlace } from "./agent-place.ts";
import type { State } from "./state.ts";

/** Where the list of agents is: in the state, or without one in the file. Throws `StateError`. */
export async function openAgentPlace(state: State | undefined, file: string): Promise<AgentPlace> {
  return state === undefined ? agentFile(file) : openAgentDocument(state);
}
