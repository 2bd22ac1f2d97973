import { type PinnedOptions, readPinnedOptions } from "../support/options.ts";

export const contenderNames = ["nginx", "portkey", "bare", "lair", "redis"] as const;
export type ContenderName = (typeof contenderNames)[number];

export const measureNames = ["requests", "latency", "paced", "burst", "full", "soak"] as const;
export type MeasureName = (typeof measureNames)[number];

export type Options = PinnedOptions<MeasureName, ContenderName>;

export const usage = `usage: npm run bench:gateway -- [options]

  --quick            one short round, a small state and half a minute of soak: a look, not a result
  --only A,B         what to measure: ${contenderNames.join(", ")} (default: all)
  --measure A,B      the figures: ${measureNames.join(", ")} (default: all)
  --rounds N         rounds over all contenders (default 5)
  --json FILE        write everything as JSON too
  --runtime FILE     the program's built main file (default: dist/cli/main.js)
  --cores P,L        cores of what is measured, and of the upstream and the clients (default 1,0)
  --help

bare is lair gateway without a state (no key, no limit, no record), redis is lair gateway over a Redis of its own.

Exit status: 0 every "must" that was measured is reached; 1 one is missed; 2 the bench could not run.`;

/** Reads the command line. Returns null where only the usage was asked for. Throws `CannotRun`. */
export function readOptions(args: string[]): Options | null {
  return readPinnedOptions(args, usage, { measures: measureNames, contenders: contenderNames });
}
