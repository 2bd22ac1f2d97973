import type { AgentRecords } from "./agent-records.ts";
import type { FileWatch } from "./file-watch.ts";

/** What is made of the list of agents, and what whoever changes it wants to know of that. May be asked more than once. */
export type AgentChange<Result> = (agents: AgentRecords) => { readonly agents: AgentRecords; readonly result: Result };

/** Where the list of agents is kept, which several processes read and change. */
export interface AgentPlace {
  /** For messages: what it is, and where. */
  readonly name: string;
  /** What is there, as far as can be told without waiting. Throws `AgentFileError` for what cannot be understood. */
  read(): AgentRecords;
  /** Changes follow one another, whichever process makes them. Throws what `change` throws, and where it cannot be written. */
  change<Result>(change: AgentChange<Result>): Promise<Result>;
  /** Reads it anew, where that takes waiting; what is read is kept. Never rejects. */
  refresh?(): Promise<void>;
  /** Calls back when it was changed. */
  watch(onChange: () => void): FileWatch;
}
