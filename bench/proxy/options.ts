import { type PinnedOptions, readPinnedOptions } from "../support/options.ts";

export const proxyNames = ["nginx", "portkey", "lair"] as const;
export type ProxyName = (typeof proxyNames)[number];

export const measureNames = ["memory", "requests", "paced", "burst", "latency"] as const;
export type MeasureName = (typeof measureNames)[number];

export type Options = PinnedOptions<MeasureName, ProxyName>;

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
  return readPinnedOptions(args, usage, { measures: measureNames, contenders: proxyNames });
}
