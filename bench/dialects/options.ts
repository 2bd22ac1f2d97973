import { type PinnedOptions, readPinnedOptions } from "../support/options.ts";
import { type KindName, kindNames } from "./pairs.ts";

export const measureNames = ["burst", "paced", "requests", "history", "heads"] as const;
export type MeasureName = (typeof measureNames)[number];

export type Options = PinnedOptions<MeasureName, KindName>;

export const usage = `usage: npm run bench:dialects -- [options]

  --quick            one short round: a look, not a result
  --only A,B         kinds of upstreams: ${kindNames.join(", ")} (default: all)
  --measure A,B      the figures: ${measureNames.join(", ")} (default: all)
  --rounds N         rounds over all pairs (default 5)
  --json FILE        write everything as JSON too
  --runtime FILE     the program's built main file (default: dist/cli/main.js)
  --cores P,L        cores of what is measured, and of the upstream and the clients (default 1,0)
  --help

Exit status: 0 every "must" that was measured is reached; 1 one is missed; 2 the bench could not run.`;

/** Reads the command line. Returns null where only the usage was asked for. Throws `CannotRun`. */
export function readOptions(args: string[]): Options | null {
  return readPinnedOptions(args, usage, { measures: measureNames, contenders: kindNames });
}
