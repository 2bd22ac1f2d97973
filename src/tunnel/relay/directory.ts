import type { AgentSession } from "../../core/agent-session.ts";

/**
 * Which agents are connected to which relays. What the others have is held in memory, so that no call waits for the
 * place where it is kept; what is here is told to them, and told again every few seconds.
 */
export interface Directory {
  /** Sessions at other relays as last heard, by id; those that are not heard of any more are gone after a while. */
  readonly sessions: ReadonlyMap<string, AgentSession>;
  /** Begins to tell what `own` gives, now, after each `touch` and every few seconds, and to hear of the others. `relay` is the id of this one. */
  open(relay: string, own: () => readonly AgentSession[], onChange: () => void): void;
  /** What `own` gives has changed. */
  touch(): void;
  /** These are not there any more: takes them out for every relay, unless their own has told anew of them. */
  drop(sessions: readonly AgentSession[]): void;
  /** Reads all of it once more; resolves when that is done, or cannot be soon. */
  reread(): Promise<void>;
  /** Takes out what is here, and ends. */
  close(): Promise<void>;
}
