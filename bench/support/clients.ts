import type { ChildProcess } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buildNative } from "./native.ts";
import { kill, startPinned, temporaryFolder } from "./processes.ts";

/** One request, as the clients send it. */
export interface Request {
  readonly port: number;
  /** Default: `/v1/chat/completions`. */
  readonly path?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Load {
  readonly connections: number;
  readonly seconds: number;
  /** Answers (or events) before counting starts; 10 s at most. */
  readonly warmup: number;
  /** Count SSE events instead of answers. */
  readonly events?: boolean;
  /** Events are lines that hold an object, as Ollama streams them. */
  readonly lines?: boolean;
  /** SSE events of a whole answer: one with another number has failed. */
  readonly each?: number;
  /** Requests per second over all connections; without it each asks again at once. */
  readonly rate?: number;
  /** Stops counting after so many answers, if `seconds` are not over by then. */
  readonly answers?: number;
  /** Gives up when more requests fail; 100 where it is absent. */
  readonly failures?: number;
  /** Processes whose CPU time is taken. */
  readonly cpu: readonly number[];
}

/** What a counting window saw. */
export interface Window {
  /** Answers or events counted. */
  readonly units: number;
  readonly warmed: number;
  readonly failures: number;
  readonly seconds: number;
  /** CPU time of the measured processes. */
  readonly cpu_us: number;
  /** How long they waited for a core that others were using: the noise of a shared machine. */
  readonly wait_us: number;
  readonly p50_us: number;
  readonly p90_us: number;
  readonly p99_us: number;
}

/** Clients that count until they are told to end. */
export interface Running {
  readonly window: Promise<Window>;
  end(): void;
}

/** Clients that hold their requests open until they vanish. */
export interface Held {
  /** Whether every client has seen the first byte of an answer's body. */
  streaming(): boolean;
  /** Kills the clients; settles when they are gone. */
  vanish(): Promise<void>;
}

/** The C clients of the bench (`bench/load.c`). */
export class Clients {
  readonly #program = buildNative("load");
  readonly #folder = temporaryFolder();
  readonly #core: string;
  #count = 0;

  constructor(core: string) {
    this.#core = core;
  }

  /** Loads a server and counts. Throws when more than 100 requests fail. */
  async run(request: Request, load: Load): Promise<Window> {
    return await this.start(request, load).window;
  }

  /** The same, to be ended early. */
  start(request: Request, load: Load): Running {
    const { child, file } = this.#spawn(request, [
      `connections=${load.connections}`,
      `seconds=${load.seconds}`,
      `warmup=${load.warmup}`,
      `rate=${load.rate ?? 0}`,
      `events=${load.events ? 1 : 0}`,
      `each=${load.each ?? 0}`,
      `lines=${load.lines ? 1 : 0}`,
      `answers=${load.answers ?? 0}`,
      `failures=${load.failures ?? 100}`,
      ...(load.cpu.length === 0 ? [] : [`cpu=${load.cpu.join(",")}`]),
    ]);
    return { window: lastWindow(child, file), end: () => child.kill("SIGTERM") };
  }

  hold(request: Request, connections: number): Held {
    const { child } = this.#spawn(request, [`connections=${connections}`, "seconds=600"]);
    let streaming = false;
    child.stdout!.once("data", () => (streaming = true));
    return { streaming: () => streaming, vanish: () => kill(child) };
  }

  #spawn(request: Request, options: string[]): { readonly child: ChildProcess; readonly file: string } {
    const file = join(this.#folder, `request-${this.#count++}`);
    writeFileSync(file, encodeRequest(request));
    const args = [String(request.port), file, ...options];
    return { child: startPinned({ command: this.#program, args, core: this.#core }), file };
  }
}

async function lastWindow(child: ChildProcess, file: string): Promise<Window> {
  let last = "";
  for await (const line of createInterface({ input: child.stdout! })) last = line;
  rmSync(file);
  if (!last.startsWith("{")) throw new Error("the clients gave up; see above");
  return JSON.parse(last) as Window;
}

function encodeRequest(request: Request): string {
  const headers = {
    host: `127.0.0.1:${request.port}`,
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(request.body)),
    accept: "*/*",
    "user-agent": "lair-bench",
    ...request.headers,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST ${request.path ?? "/v1/chat/completions"} HTTP/1.1\r\n${lines.join("")}\r\n${request.body}`;
}
