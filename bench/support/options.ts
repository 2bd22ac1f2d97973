import { type ParseArgsConfig, parseArgs } from "node:util";

/** A reason not to run that the user can mend: printed without a stack, exit status 2. */
export class CannotRun extends Error {}

/** What every bench can be told. */
export interface BenchOptions<Measure extends string> {
  readonly quick: boolean;
  readonly rounds: number;
  readonly measures: readonly Measure[];
  /** Where the JSON goes. */
  readonly json: string | undefined;
  /** The built main file of the runtime to measure, e.g. of another checkout; undefined: this one's. */
  readonly runtime: string | undefined;
}

/** Which cores processes are pinned to. */
export interface Cores {
  readonly proxy: string;
  readonly load: string;
}

/** The flags of `BenchOptions`, and `--help`. */
export const benchFlags = {
  quick: { type: "boolean", default: false },
  measure: { type: "string" },
  rounds: { type: "string" },
  json: { type: "string" },
  runtime: { type: "string" },
  help: { type: "boolean", default: false },
} as const satisfies ParseArgsConfig["options"];

/** What a bench can be told that pins its processes and counts within windows. */
export interface PinnedOptions<Measure extends string, Contender extends string> extends BenchOptions<Measure> {
  /** Length of one counting window, in seconds. */
  readonly seconds: number;
  /** Requests to each contender before anything is counted. */
  readonly warmup: number;
  readonly only: readonly Contender[];
  readonly cores: Cores;
}

const pinnedFlags = {
  ...benchFlags,
  only: { type: "string" },
  cores: { type: "string", default: "1,0" },
} as const satisfies ParseArgsConfig["options"];

/** The command line's flags. Throws `CannotRun` for others than `flags`. */
export function readFlags<const Flags extends NonNullable<ParseArgsConfig["options"]>>(
  args: string[],
  flags: Flags,
  usage: string,
) {
  try {
    return parseArgs({ args, options: flags }).values;
  } catch (error) {
    throw new CannotRun(`${(error as Error).message}\n\n${usage}`);
  }
}

/** What the flags of every bench say; one round where it shall be quick, else 5. Throws `CannotRun`. */
export function readBenchOptions<Measure extends string>(
  values: {
    quick: boolean;
    measure?: string | undefined;
    rounds?: string | undefined;
    json?: string | undefined;
    runtime?: string | undefined;
  },
  measures: readonly Measure[],
): BenchOptions<Measure> {
  return {
    quick: values.quick,
    rounds: toNumber("--rounds", values.rounds ?? (values.quick ? "1" : "5"), 1),
    measures: choose("--measure", values.measure, measures),
    json: values.json,
    runtime: values.runtime,
  };
}

/** The command line of a bench that pins its processes; null where only the usage was asked for. Throws `CannotRun`. */
export function readPinnedOptions<Measure extends string, Contender extends string>(
  args: string[],
  usage: string,
  { measures, contenders }: { readonly measures: readonly Measure[]; readonly contenders: readonly Contender[] },
): PinnedOptions<Measure, Contender> | null {
  const values = readFlags(args, pinnedFlags, usage);
  if (values.help) return null;
  return {
    ...readBenchOptions(values, measures),
    seconds: values.quick ? 1 : 2,
    warmup: values.quick ? 2000 : 6000,
    only: choose("--only", values.only, contenders),
    cores: readCores(values.cores),
  };
}

/** `P,L`. Throws `CannotRun` for anything but two numbers. */
function readCores(text: string): Cores {
  const [proxy, load] = text.split(",");
  if (!/^\d+$/.test(proxy ?? "") || !/^\d+$/.test(load ?? ""))
    throw new CannotRun(`--cores wants two numbers, not "${text}"`);
  return { proxy: proxy!, load: load! };
}

/** A whole number. Throws `CannotRun` for another, or one below `least`. */
export function toNumber(flag: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least)
    throw new CannotRun(`${flag} wants a whole number from ${least}, not "${text}"`);
  return value;
}

/** The names of a list separated by commas; all that are allowed where there is none. Throws `CannotRun` for others. */
function choose<Name extends string>(
  flag: string,
  value: string | undefined,
  allowed: readonly Name[],
): readonly Name[] {
  if (value === undefined) return allowed;
  const chosen = value.split(",");
  const unknown = chosen.find((name) => !allowed.includes(name as Name));
  if (unknown !== undefined) throw new CannotRun(`${flag}: "${unknown}" is none of ${allowed.join(", ")}`);
  return allowed.filter((name) => chosen.includes(name));
}
