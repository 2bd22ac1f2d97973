import {
  type BenchOptions,
  choose,
  type Cores,
  pinnedFlags,
  readBenchOptions,
  readCores,
  readFlags,
} from "../support/options.ts";

export const contenderNames = ["nginx", "ssh", "lair"] as const;
export type ContenderName = (typeof contenderNames)[number];

export const measureNames = [
  "latency",
  "requests",
  "paced",
  "burst",
  "upload",
  "delayed",
  "memory",
  "restart",
  "death",
] as const;
export type MeasureName = (typeof measureNames)[number];

export interface Options extends BenchOptions<MeasureName> {
  /** Length of one counting window, in seconds. */
  readonly seconds: number;
  /** Requests to each contender before anything is counted. */
  readonly warmup: number;
  readonly only: readonly ContenderName[];
  readonly cores: Cores;
}

export const usage = `usage: npm run bench:tunnel -- [options]

  --quick            one short round (about two minutes): a look, not a result
  --only A,B         what to measure: ${contenderNames.join(", ")} (default: all)
  --measure A,B      the figures: ${measureNames.join(", ")} (default: all)
  --rounds N         rounds over all contenders (default 5)
  --json FILE        write everything as JSON too
  --runtime FILE     the runtime's built main file (default: dist/cli/main.js)
  --cores P,L        cores of both ends of a tunnel, and of the runtime and the clients (default 1,0)
  --help

Exit status: 0 every "must" that was measured is reached; 1 one is missed; 2 the bench could not run.`;

/** Reads the command line. Returns null where only the usage was asked for. Throws `CannotRun`. */
export function readOptions(args: string[]): Options | null {
  const values = readFlags(args, pinnedFlags, usage);
  if (values.help) return null;
  return {
    ...readBenchOptions(values, measureNames),
    seconds: values.quick ? 1 : 2,
    warmup: values.quick ? 2000 : 6000,
    only: choose("--only", values.only, contenderNames),
    cores: readCores(values.cores),
  };
}
