import { execFile, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { freePort } from "./tunnel-lines.ts";

export interface RedisOptions {
  /** `append`: every write is on the disk before it is answered, and survives `kill`. Default `none`: an end forgets everything. */
  readonly persistence?: "none" | "append";
  /** Further lines of redis.conf. */
  readonly lines?: readonly string[];
}

/** A real redis-server of a test, at a port of its own, with a password. It runs when it is handed out. */
export interface RedisServer {
  readonly port: number;
  readonly password: string;
  /** With the password. */
  readonly url: string;
  /** Starts it anew at the same port, with what it has on the disk; waits until it answers. */
  start(): Promise<void>;
  /** Ends it as an operator does. */
  stop(): Promise<void>;
  /** Ends it by SIGKILL. */
  kill(): Promise<void>;
  /** Holds it by SIGSTOP: connections stand, nothing answers. */
  freeze(): void;
  thaw(): void;
  /** What `redis-cli` says to a command. */
  cli(...command: string[]): Promise<string>;
  /** Ends it and removes its files. */
  close(): Promise<void>;
}

/** Why no Redis can be tested with here, or undefined. */
export function redisMissing(): string | undefined {
  if (process.platform === "win32") return "redis-server does not exist for Windows";
  for (const program of ["redis-server", "redis-cli"]) {
    if (spawnSync(program, ["--version"]).error !== undefined) return `${program} is not installed`;
  }
  return undefined;
}

/** Starts a redis-server that only this test uses; to be closed. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const folder = mkdtempSync(path.join(tmpdir(), "lair-redis-"));
  const password = randomBytes(12).toString("hex");
  const port = await freePort();
  const file = path.join(folder, "redis.conf");
  writeFileSync(file, configuration({ folder, port, password, options }), { mode: 0o600 });
  let running: { child: ChildProcess; ended: Promise<unknown> } | undefined;

  async function start(): Promise<void> {
    running = await launch(file);
  }
  async function end(signal: NodeJS.Signals): Promise<void> {
    if (running === undefined) return;
    const { child, ended } = running;
    running = undefined;
    child.kill(signal);
    child.kill("SIGCONT");
    await ended;
  }

  await start();
  return {
    port,
    password,
    url: `redis://:${password}@127.0.0.1:${port}`,
    start,
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    freeze: () => void running?.child.kill("SIGSTOP"),
    thaw: () => void running?.child.kill("SIGCONT"),
    async cli(...command) {
      const env = { ...process.env, REDISCLI_AUTH: password };
      const { stdout } = await promisify(execFile)("redis-cli", ["-p", String(port), ...command], { env });
      return stdout.trimEnd();
    },
    async close() {
      await end("SIGKILL");
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function launch(file: string): Promise<{ child: ChildProcess; ended: Promise<unknown> }> {
  const child = spawn("redis-server", [file], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-10_000);
      if (said.includes("Ready to accept connections")) resolve();
    });
    ended.then(() => reject(new Error(`redis-server ended: ${said}`)), reject);
  });
  return { child, ended };
}

function configuration(of: { folder: string; port: number; password: string; options: RedisOptions }): string {
  const append = of.options.persistence === "append";
  return [
    "bind 127.0.0.1",
    `port ${of.port}`,
    `requirepass ${of.password}`,
    `dir "${of.folder}"`,
    'save ""',
    `appendonly ${append ? "yes" : "no"}`,
    "appendfsync always",
    "daemonize no",
    ...(of.options.lines ?? []),
    "",
  ].join("\n");
}
