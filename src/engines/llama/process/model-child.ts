import type { ChildProcess } from "node:child_process";
import type { Log } from "../../../core/log.ts";
import { forkEntry } from "../fork.ts";
import { countMemoryKills } from "./kernel-memory.ts";
import { readChildMessage } from "./message-check.ts";
import type { ChildMessage, ParentMessage } from "../messages.ts";
import type { ProcessEnd } from "./process-failure.ts";
import { ProcessLog } from "./process-log.ts";
import { type Verdict, type WatchLimits, Watchdog, watchLimits } from "./watchdog.ts";

/** How a child ended, as far as the child itself knows. */
export type ChildEnd = Pick<ProcessEnd, "code" | "signal" | "killed" | "outOfMemory" | "cause"> & {
  /** The last lines of its log. */
  readonly lines: string[];
};

/** Who is told of a child. */
export interface ChildOwner {
  readonly log: Log;
  readonly limits: WatchLimits | undefined;
  /** Whether a request waits for the child. */
  isWanted(): boolean;
  onMessage(message: Exclude<ChildMessage, { type: "pong" }>): void;
  /** The child is wedged and is being killed. `suspects`: the requests one of which its main thread did not survive. */
  onWedged(verdict: Verdict, suspects: number[]): void;
  onEnd(end: ChildEnd): void;
}

/** A process that serves one model: its messages checked, its log kept, and itself killed when it is wedged. */
export class ModelChild {
  /** Resolves when the process is gone. */
  readonly closed: Promise<void>;
  readonly #owner: ChildOwner;
  readonly #process: ChildProcess;
  readonly #stderr = new ProcessLog();
  readonly #watchdog: Watchdog;
  readonly #tickMs: number;
  #memoryKills = countMemoryKills();
  #ticks: NodeJS.Timeout | null = null;
  #pinged = false;
  #stopping = false;
  #killed: string | null = null;
  /** Requests sent since the last ping that was answered, and those sent after the one on its way. */
  #unheard: number[] = [];
  #fresh: number[] = [];

  /** Throws when no process can be started. */
  constructor(owner: ChildOwner) {
    const limits = owner.limits ?? watchLimits;
    this.#owner = owner;
    this.#watchdog = new Watchdog(limits);
    this.#tickMs = limits.tickMs;
    const child = forkEntry("child");
    this.#process = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#stderr.add(text));
    child.on("message", (message) => this.#receive(message));
    // A message to a child that has just died; its end is reported by "close".
    child.on("error", (error) => owner.log.debug({ err: error }, "the model's process reported an error"));
    this.closed = new Promise((resolve) => {
      child.once("close", (code, signal) => {
        this.#onClose(code, signal);
        resolve();
      });
    });
    this.#watch();
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  send(message: ParentMessage): void {
    if (!this.#process.connected) return;
    this.#process.send(message);
    if (message.type !== "chat" && message.type !== "complete" && message.type !== "query") return;
    this.#fresh.push(message.id);
    this.#watch();
  }

  /** Asks it to end; it is killed when that takes too long. */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.send({ type: "stop" });
    this.#watch();
  }

  kill(reason: string): void {
    this.#killed ??= reason;
    this.#process.kill("SIGKILL");
  }

  #receive(received: unknown): void {
    if (this.#killed !== null) return;
    const message = readChildMessage(received);
    if (message === null) {
      this.#wedge({ thread: "worker", reason: "it sent a message that makes no sense" });
      return;
    }
    this.#watchdog.heard(message.type !== "pong");
    if (message.type !== "pong") {
      this.#clear(message);
      this.#owner.onMessage(message);
      return;
    }
    this.#pinged = false;
    this.#unheard = [];
    this.#watchdog.reported(message.report);
  }

  /** A request of which something was heard has its prompt behind it. */
  #clear(message: ChildMessage): void {
    const heard = (id: number): boolean =>
      message.type === "events" ? message.events.some(([other]) => other === id) : "id" in message && message.id === id;
    if (this.#unheard.length > 0) this.#unheard = this.#unheard.filter((id) => !heard(id));
    if (this.#fresh.length > 0) this.#fresh = this.#fresh.filter((id) => !heard(id));
  }

  /** Looks after the child for as long as it has something to do. */
  #watch(): void {
    if (this.#ticks !== null || this.#killed !== null) return;
    this.#memoryKills = countMemoryKills();
    this.#watchdog.resume();
    this.#ticks = setInterval(() => this.#tick(), this.#tickMs);
  }

  #tick(): void {
    const wanted = this.#owner.isWanted();
    const verdict = this.#watchdog.tick({ stopping: this.#stopping, wanted });
    if (verdict !== null) {
      this.#wedge(verdict);
    } else if (!wanted && !this.#stopping && !this.#pinged && this.#watchdog.resting) {
      this.#unwatch();
    } else if (!this.#pinged) {
      this.#pinged = true;
      this.#unheard = this.#fresh;
      this.#fresh = [];
      this.send({ type: "ping" });
    }
  }

  #wedge(verdict: Verdict): void {
    this.#unwatch();
    this.kill(verdict.reason);
    if (!this.#stopping) this.#owner.onWedged(verdict, this.#unheard);
  }

  #unwatch(): void {
    if (this.#ticks !== null) clearInterval(this.#ticks);
    this.#ticks = null;
  }

  #onClose(code: number | null, signal: NodeJS.Signals | null): void {
    this.#unwatch();
    const kills = countMemoryKills();
    this.#owner.onEnd({
      code,
      signal,
      killed: this.#killed,
      outOfMemory: kills === null || this.#memoryKills === null ? null : kills > this.#memoryKills,
      cause: this.#stderr.cause(),
      lines: this.#stderr.last(20),
    });
  }
}
