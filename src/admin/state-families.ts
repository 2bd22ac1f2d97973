import type { StateHealth } from "../state/state.ts";
import type { JournalHealth } from "../usage/journal.ts";
import { counter, type Family, gauge } from "./exposition.ts";

/** What is asked of the state and of those who live by it, at each reading. */
export interface StateSources {
  readonly state: { health(): StateHealth };
  /** Whether limits are kept here alone. */
  readonly limiter: { readonly local: boolean };
  readonly journal: { health(): JournalHealth };
}

/** Whether the state answers, and what waits for it. */
export function stateFamilies({ state, limiter, journal }: StateSources): Family[] {
  const { ok, backlog, lost } = journal.health();
  return [
    gauge("lair_state_up", "1 while the state answers.", [{ value: Number(state.health().ok) }]),
    gauge("lair_limits_local", "1 while limits are kept by this process alone, for the state is away.", [
      { value: Number(limiter.local) },
    ]),
    gauge("lair_usage_journal_up", "1 while usage goes into the journal's files, and from there into the state.", [
      { value: Number(ok) },
    ]),
    gauge("lair_usage_backlog_records", "Usage records that wait to be carried into the state.", [{ value: backlog }]),
    counter("lair_usage_lost_total", "Usage records that reached neither the state nor a file that is kept.", [
      { value: lost },
    ]),
  ];
}
