import type { ChildProcess } from "node:child_process";
import { buildNative } from "./native.ts";
import { kill, linesOf, nextLine, startPinned } from "./processes.ts";

/** Streams that the mock sends: so many events (0: endless), and the time between two. */
export interface Streams {
  readonly events: number;
  readonly gapMicroseconds: number;
}

/** How the mock answers a POST. */
export type Mode = "json" | "silent" | Streams;

export interface Stats {
  /** POSTs taken. */
  readonly requests: number;
  /** Unanswered or streaming now. */
  readonly open: number;
  /** Left by their client before the end. */
  readonly gone: number;
}

/** The C upstream of the bench (`bench/mock.c`), told on stdin what to do. */
export class Upstream {
  readonly port: number;
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(child: ChildProcess, lines: AsyncIterator<string>, port: number) {
    this.#child = child;
    this.#lines = lines;
    this.pid = child.pid!;
    this.port = port;
  }

  async setMode(mode: Mode): Promise<void> {
    await this.#tell(typeof mode === "string" ? mode : `sse ${mode.events} ${mode.gapMicroseconds}`);
  }

  async stats(): Promise<Stats> {
    return JSON.parse(await this.#tell("stats")) as Stats;
  }

  /** Closes all its connections and forgets its counts. */
  async reset(): Promise<void> {
    await this.#tell("reset");
  }

  async close(): Promise<void> {
    await kill(this.#child);
  }

  async #tell(line: string): Promise<string> {
    this.#child.stdin!.write(`${line}\n`);
    return nextLine(this.#lines);
  }
}

export async function startUpstream(core: string): Promise<Upstream> {
  const child = startPinned({ command: buildNative("mock"), args: [], core });
  const lines = linesOf(child);
  return new Upstream(child, lines, Number(await nextLine(lines)));
}
