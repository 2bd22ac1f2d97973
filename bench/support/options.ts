import { parseArgs } from "node:util";

export const proxyNames = ["nginx", "portkey", "lair"] as const;
export type ProxyName = (typeof proxyNames)[number];

export const measureNames = ["memory", "requests", "paced", "burst", "latency"] as const;
export type MeasureName = (typeof measureNames)[number];

export interface Options {
  readonly quick: boolean;
  readonly rounds: number;
  /** Length of one counting window, in seconds. */
  readonly seconds: number;
  /** Requests to each proxy before anything is counted. */
  readonly warmup: number;
  readonly only: readonly ProxyName[];
  readonly measures: readonly MeasureName[];
  /** Where the JSON goes. */
  readonly json: string | undefined;
  /** The built main file of the runtime to measure, e.g. of another checkout; undefined: this one's. */
  readonly runtime: string | undefined;
  readonly cores: { readonly proxy: string; readonly load: string };
}

/** A reason not to run that the user can mend: printed without a stack, exit status 2. */
export class CannotRun extends Error {}

export const usage = `usage: npm run bench:proxy -- [options]

  --quick            one short round (about a minute): a look, not a result
  --only A,B         proxies to measure: ${proxyNames.join(", ")} (default: all)
  --measure A,B      what to measure: ${measureNames.join(", ")} (default: all)
  --rounds N         rounds over all proxies (default 5)
  --json FILE        write everything as JSON too
  --runtime FILE     the runtime's built main file (default: dist/cli/main.js)
  --cores P,L        cores of the proxy, and of the upstream and the clients (default 1,0)
  --help

Exit status: 0 every "must" that was measured is reached; 1 one is missed; 2 the bench could not run.`;

/** Reads the command line. Returns null where only the usage was asked for. Throws `CannotRun`. */
export function readOptions(args: string[]): Options | null {
  const { values } = parse(args);
  if (values.help) return null;
  const [proxy, load] = values.cores.split(",");
  if (!/^\d+$/.test(proxy ?? "") || !/^\d+$/.test(load ?? ""))
    throw new CannotRun(`--cores wants two numbers, not "${values.cores}"`);
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 5));
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new CannotRun(`--rounds wants a whole number from 1, not "${values.rounds}"`);
  return {
    quick: values.quick,
    rounds,
    seconds: values.quick ? 1 : 2,
    warmup: values.quick ? 2000 : 6000,
    only: choose("--only", values.only, proxyNames),
    measures: choose("--measure", values.measure, measureNames),
    json: values.json,
    runtime: values.runtime,
    cores: { proxy: proxy!, load: load! },
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        quick: { type: "boolean", default: false },
        only: { type: "string" },
        measure: { type: "string" },
        rounds: { type: "string" },
        json: { type: "string" },
        runtime: { type: "string" },
        cores: { type: "string", default: "1,0" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new CannotRun(`${(error as Error).message}\n\n${usage}`);
  }
}

/** The names of a list separated by commas; all that are allowed where there is none. Throws `CannotRun` for others. */
export function choose<Name extends string>(
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
