import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CannotRun } from "../support/options.ts";
import { findProgram, freePort, startPinned } from "../support/processes.ts";
import { type Program, type Proxy, proxyFolder, proxyOf } from "../support/proxy.ts";

/** A build of lair, and the core that it runs on. */
export interface Build {
  /** Its main file. */
  readonly main: string;
  readonly core: string;
}

/** Limits of every sort, so far away that no request meets one: each has to be kept all the same. */
const farLimits = {
  "requests-per-minute": 1e9,
  "tokens-per-minute": 1e12,
  concurrent: 100_000,
  "tokens-per-day": 1e13,
  "tokens-per-month": 1e14,
  "spend-per-day": 1e6,
  "spend-per-month": 1e7,
};

/** Throws `CannotRun` where there is no redis-server. */
export function requireRedis(): string {
  const found = findProgram("redis-server");
  if (found === undefined)
    throw new CannotRun("redis-server is missing; Debian: apt-get install redis-server. Leave it out with --only");
  return found;
}

/** `lair gateway` without a state: no key is asked for, nothing is limited, nothing recorded. */
export async function startBare(build: Build, upstreamPort: number): Promise<Proxy> {
  return startGateway(build, upstreamPort, { name: "bare", state: "none" });
}

/** `lair gateway` with an SQLite state, as a user has it, and a managed key with limits and a price. `state`: a file that is there. */
export async function startWithKey(build: Build, upstreamPort: number, state?: string): Promise<Proxy> {
  return startGateway(build, upstreamPort, {
    name: "lair",
    state: state ?? join(proxyFolder(), "state.db"),
    key: true,
  });
}

/** The same over a Redis of its own, which runs on the clients' core. */
export async function startOverRedis(build: Build, upstreamPort: number, loadCore: string): Promise<Proxy> {
  const port = await freePort();
  const log = join(proxyFolder(), "logs", "redis.log");
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  const redis = startPinned({ command: requireRedis(), args, core: loadCore, log });
  const proxy = await startGateway(build, upstreamPort, {
    name: "lair redis",
    state: `redis://127.0.0.1:${port}`,
    key: true,
  });
  const { programs } = proxy;
  return {
    ...proxy,
    programs: [...programs, { child: redis, log }],
    stop: async () => {
      await proxy.stop();
      redis.kill("SIGKILL");
    },
  };
}

interface Wanted {
  readonly name: string;
  /** As in `LAIR_STATE`. */
  readonly state: string;
  readonly key?: boolean;
}

async function startGateway({ main, core }: Build, upstreamPort: number, wanted: Wanted): Promise<Proxy> {
  const folder = proxyFolder();
  const port = await freePort();
  const config = join(folder, "lair.yaml");
  const log = join(folder, "logs", "gateway.log");
  writeFileSync(
    config,
    JSON.stringify({
      state: { url: wanted.state },
      prices: { "*": { prompt: 0.5, cached: 0.1, completion: 1.5 } },
      gateway: { host: "127.0.0.1", port, upstreams: { mock: { urls: [`http://127.0.0.1:${upstreamPort}`] } } },
    }),
  );
  const env = { XDG_DATA_HOME: folder };
  const headers = wanted.key === true ? { authorization: `Bearer ${await createKey(main, config, env)}` } : {};
  const child = startPinned({ command: process.execPath, args: [main, "gateway", "--config", config], core, log, env });
  const program: Program = { child, log };
  return proxyOf([program], {
    name: wanted.name,
    port,
    headers: headers as Record<string, string>,
    model: "bench-model",
  });
}

/** A key of the state that the configuration names, which may have to be started first. */
async function createKey(main: string, config: string, env: Record<string, string>): Promise<string> {
  const limits = Object.entries(farLimits).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const args = [main, "keys", "create", `bench-${process.pid}-${Date.now()}`, "--config", config, "--json", ...limits];
  const printed = execFileSync(process.execPath, args, {
    encoding: "utf8",
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...env },
  });
  return (JSON.parse(printed) as { key: string }).key;
}
