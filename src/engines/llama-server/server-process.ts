import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { ApiError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { Backoff } from "../llama/process/backoff.ts";
import { Leases } from "../llama/process/leases.ts";
import { forkEntry } from "../llama/fork.ts";
import type { ProcessState } from "../llama/process/process-failure.ts";
import { ProcessLog } from "../llama/process/process-log.ts";
import type { ServerEnd } from "./guard.ts";

export interface ServerProcessOptions {
  /** The model's id. */
  readonly id: string;
  /** Path of the llama-server program. */
  readonly program: string;
  /** Its command line without address and key. */
  readonly flags: readonly string[];
  readonly log: Log;
  /** Called when the last request has ended. */
  readonly onIdle: () => void;
}

/** Where a running server is asked, and the key without which it does not answer. */
export interface ServerAddress {
  readonly origin: string;
  readonly key: string;
}

/** Between two looks at a server that loads its model. */
const lookMs = 50;
/** A model of hundreds of gigabytes on a slow disk. */
const longestLoadMs = 30 * 60_000;
const stopGraceMs = 3000;
/** From a broken connection to the word that the process is gone, on a busy machine. */
const endGraceMs = 5000;
/** Between choosing a port and listening on it another program may take it. */
const mostPorts = 3;

/**
 * The life of one model's llama-server: started by the first request, started anew after a crash, stopped when the
 * model is unloaded. It listens on this machine only, and answers nobody but us.
 */
export class ServerProcess {
  readonly id: string;
  readonly #options: ServerProcessOptions;
  readonly #backoff = new Backoff();
  #state: ProcessState = "stopped";
  #guard: ChildProcess | null = null;
  #ready: Promise<ServerAddress> | null = null;
  #closed: Promise<ServerEnd | null> = Promise.resolve(null);
  #log = new ProcessLog();
  #failure: ApiError | null = null;
  readonly #leases: Leases;

  constructor(options: ServerProcessOptions) {
    this.id = options.id;
    this.#options = options;
    this.#leases = new Leases(options.onIdle);
  }

  get state(): ProcessState {
    return this.#state;
  }

  get busy(): boolean {
    return this.#leases.held;
  }

  get lastUsed(): number {
    return this.#leases.lastUsed;
  }

  /** Id of the process that guards the server, while there is one. */
  get pid(): number | undefined {
    return this.#guard?.pid;
  }

  /** Keeps the server from being stopped for others until the returned function is called. */
  lease(): () => void {
    const release = this.#leases.take();
    return () => {
      if (this.#state === "ready") this.#backoff.succeeded();
      release();
    };
  }

  /** Resolves when the server answers; all who wait share one start. Rejects with `ApiError`. */
  async ensureReady(): Promise<ServerAddress> {
    if (this.#state === "stopping") await this.#closed;
    if (this.#ready !== null) return this.#ready;
    this.#backoff.check();
    this.#state = "starting";
    this.#failure = null;
    this.#ready = this.#start();
    // Whoever asked handles it; nobody may be left by then.
    this.#ready.catch(() => undefined);
    return this.#ready;
  }

  /** Why the server is gone, if it ended by itself; waits a moment for its end. For whom a connection broke. */
  async failure(): Promise<ApiError | null> {
    if (this.#guard !== null) await Promise.race([this.#closed, wait(endGraceMs)]);
    return this.#failure;
  }

  /** Stops the server. Requests in progress fail. */
  async stop(): Promise<void> {
    const guard = this.#guard;
    if (guard === null) {
      // Between two attempts to find a port, or not started at all.
      if (this.#state === "starting") this.#state = "stopping";
      return void (await this.#ready?.catch(() => undefined));
    }
    this.#state = "stopping";
    order(guard, "SIGTERM");
    const timer = setTimeout(() => order(guard, "SIGKILL"), stopGraceMs);
    await this.#closed;
    clearTimeout(timer);
  }

  async #start(): Promise<ServerAddress> {
    const scratch = await mkdtemp(join(tmpdir(), "lair-server-"));
    try {
      const key = randomBytes(24).toString("hex");
      const keyFile = join(scratch, "key");
      // In a file that only this user can read: others see a process's command line.
      await writeFile(keyFile, key, { mode: 0o600 });
      for (let attempt = 1; ; attempt++) {
        const address = { origin: `http://127.0.0.1:${await freePort()}`, key };
        const end = await this.#attempt(address, keyFile);
        if (end === null) return address;
        if (attempt < mostPorts && /couldn't bind|address already in use/i.test(this.#log.last(60).join("\n")))
          continue;
        throw this.#fail(end, "starting");
      }
    } catch (error) {
      this.#state = "stopped";
      this.#ready = null;
      throw error;
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }

  /** Null when the server answers; otherwise how it ended. */
  async #attempt(address: ServerAddress, keyFile: string): Promise<ServerEnd | null> {
    const { program, flags, log } = this.#options;
    if (this.#state === "stopping") return { code: null, signal: null, problem: null };
    const { hostname, port } = new URL(address.origin);
    const began = performance.now();
    const listening = ["--host", hostname, "--port", port, "--api-key-file", keyFile];
    const guard = forkEntry("../llama-server/guard", [program, ...flags, ...listening]);
    const stderr = new ProcessLog();
    this.#guard = guard;
    this.#log = stderr;
    guard.stderr?.setEncoding("utf8").on("data", (text: string) => stderr.add(text));
    let over: ServerEnd | null = null;
    this.#closed = new Promise((resolve) => {
      guard.once("message", (end) => (over = end as ServerEnd));
      guard.on("error", (error) => (over ??= { code: null, signal: null, problem: error.message }));
      guard.once("close", (code, signal) => {
        over ??= { code, signal, problem: null };
        if (this.#guard === guard) this.#guard = null;
        resolve(over);
      });
    });
    while (over === null) {
      if (await answers(address)) {
        log.info({ model: this.id, server: address.origin, ms: Math.round(performance.now() - began) }, "model loaded");
        this.#state = "ready";
        void this.#closed.then((end) => this.#onClose(end));
        return null;
      }
      if (performance.now() - began > longestLoadMs) order(guard, "SIGKILL");
      await Promise.race([wait(lookMs), this.#closed]);
    }
    return this.#closed;
  }

  /** A server that was ready is gone. */
  #onClose(end: ServerEnd | null): void {
    const asked = this.#state === "stopping";
    this.#state = "stopped";
    this.#ready = null;
    if (!asked && end !== null) this.#fail(end, "ready");
  }

  #fail(end: ServerEnd, during: "starting" | "ready"): ApiError {
    if (this.#state === "stopping") return new ApiError("service_unavailable", `the model ${this.id} was unloaded`);
    const failure = toFailure(end, { id: this.id, program: this.#options.program, during, cause: this.#log.cause() });
    this.#failure = failure;
    this.#backoff.failed(failure);
    this.#options.log.error({ model: this.id, ...end, lines: this.#log.last(20) }, failure.message);
    return failure;
  }
}

/** Has the guard send its server a signal. */
function order(guard: ChildProcess, signal: "SIGTERM" | "SIGKILL"): void {
  if (guard.connected) guard.send(signal);
}

function toFailure(
  { code, signal, problem }: ServerEnd,
  about: { id: string; program: string; during: "starting" | "ready"; cause: string },
): ApiError {
  const { id, cause } = about;
  const name = basename(about.program);
  if (problem !== null) {
    const message = `${name} cannot be started (${problem.replace(about.program, name)}): set LLAMA_SERVER_BIN to the program llama-server`;
    return new ApiError("unsupported_capability", message);
  }
  const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
  const because = cause === "" ? "" : `: ${cause}`;
  if (about.during === "ready") {
    return new ApiError(
      "engine_crashed",
      `${name} ended ${how} while it ran ${id}${because}; the next request starts it anew`,
    );
  }
  const message = `${name} ended ${how} while it loaded ${id}${because}`;
  if (/bad_alloc|out of memory|failed to allocate|unable to allocate/i.test(cause) || signal === "SIGKILL")
    return new ApiError("insufficient_memory", `${message}; set a smaller context length, or free memory`);
  if (/invalid argument|unknown argument/i.test(cause)) return new ApiError("unsupported_capability", message);
  return new ApiError("invalid_model_file", message);
}

/** `/health` wants no key, so none is told to a program that was faster to take the port. */
async function answers({ origin }: ServerAddress): Promise<boolean> {
  try {
    const reply = await fetch(`${origin}/health`, { signal: AbortSignal.timeout(2000) });
    await reply.arrayBuffer();
    return reply.status === 200;
  } catch {
    return false;
  }
}

function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject()));
    });
  });
}
