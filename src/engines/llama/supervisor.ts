import type { ChildProcess } from "node:child_process";
import { basename } from "node:path";
import type { ChatEvent, ChatRequest, CompletionRequest } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { EventQueue } from "./event-queue.ts";
import { forkEntry } from "./fork.ts";
import type { Answers, ChildMessage, LoadedModel, ParentMessage, Query } from "./messages.ts";
import { type ProcessState, toFailure } from "./process-failure.ts";
import { ProcessLog } from "./process-log.ts";
import type { LlamaSettings, WorkerSettings } from "./settings.ts";

export interface SupervisorOptions {
  readonly id: string;
  readonly settings: WorkerSettings;
  readonly defaults: LlamaSettings;
  readonly log: Log;
  /** Called when the last request has ended. */
  readonly onIdle: () => void;
}

type Ask =
  | { readonly type: "chat"; readonly request: ChatRequest }
  | { readonly type: "complete"; readonly request: CompletionRequest };

/** How long a child may take to end by itself before it is killed. */
const stopGraceMs = 3000;
const longestBackoffMs = 30_000;

/**
 * The life of one model's child process: started by the first request, started anew after a crash, stopped when the
 * model is unloaded. Whatever befalls the child becomes an `ApiError` of the requests it had.
 */
export class Supervisor {
  readonly id: string;
  lastUsed = 0;
  readonly #options: SupervisorOptions;
  readonly #requests = new Map<number, EventQueue<ChatEvent>>();
  readonly #queries = new Map<
    number,
    { resolve: (answer: Answers[keyof Answers]) => void; reject: (error: Error) => void }
  >();
  readonly #loadListeners = new Set<(permille: number) => void>();
  #state: ProcessState = "stopped";
  #child: ChildProcess | null = null;
  #stderr = new ProcessLog();
  #ready: Promise<LoadedModel> | null = null;
  #settle: { resolve: (model: LoadedModel) => void; reject: (error: Error) => void } | null = null;
  #closed: Promise<void> = Promise.resolve();
  #loadFailure: (ChildMessage & { type: "load-failed" }) | null = null;
  #leases = 0;
  #nextId = 1;
  #failures = 0;
  #notBefore = 0;
  #lastFailure: ApiError | null = null;

  constructor(options: SupervisorOptions) {
    this.id = options.id;
    this.#options = options;
  }

  get state(): ProcessState {
    return this.#state;
  }

  get busy(): boolean {
    return this.#leases > 0;
  }

  /** Id of the child process, while there is one. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Keeps the model from being evicted until the returned function is called. */
  lease(): () => void {
    this.#leases += 1;
    this.lastUsed = Date.now();
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#leases -= 1;
      this.lastUsed = Date.now();
      if (this.#leases === 0) this.#options.onIdle();
    };
  }

  /** Chat or completion; starts the process where needed. Throws `ApiError`. */
  async *generate(ask: Ask, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const queue = new EventQueue<ChatEvent>();
    const id = this.#nextId++;
    const onLoad = (permille: number): void =>
      queue.push({ type: "progress", phase: "loading", done: permille, total: 1000 });
    const onAbort = (): void => queue.end(clientLeft());
    signal.addEventListener("abort", onAbort, { once: true });
    this.#loadListeners.add(onLoad);
    try {
      if (signal.aborted) throw clientLeft();
      this.ensureReady().then(
        () => {
          this.#loadListeners.delete(onLoad);
          if (signal.aborted) return;
          this.#requests.set(id, queue);
          this.#send({ ...ask, id });
        },
        (error: Error) => queue.end(error),
      );
      yield* queue;
      this.#failures = 0;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#loadListeners.delete(onLoad);
      // Still there: it was not finished, so the child need not go on.
      if (this.#requests.delete(id)) this.#send({ type: "abort", id });
    }
  }

  /** A question with one answer; starts the process where needed. Throws `ApiError`. */
  async query<Kind extends keyof Answers>(query: Query & { type: Kind }, signal: AbortSignal): Promise<Answers[Kind]> {
    await this.ensureReady();
    if (signal.aborted) throw clientLeft();
    const id = this.#nextId++;
    return new Promise<Answers[Kind]>((resolve, reject) => {
      const onAbort = (): void => {
        this.#queries.delete(id);
        reject(clientLeft());
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const done = (): void => signal.removeEventListener("abort", onAbort);
      this.#queries.set(id, {
        resolve: (answer) => (done(), resolve(answer as Answers[Kind])),
        reject: (error) => (done(), reject(error)),
      });
      this.#send({ type: "query", id, query });
    });
  }

  /** Resolves when the model can be asked; all who wait share one start. Rejects with `ApiError`. */
  async ensureReady(): Promise<LoadedModel> {
    if (this.#ready !== null) return this.#ready;
    if (this.#state === "stopping") {
      await this.#closed;
      return this.ensureReady();
    }
    const wait = this.#notBefore - Date.now();
    if (wait > 0 && this.#lastFailure !== null) {
      const { code, message } = this.#lastFailure;
      throw new ApiError(code, message, { retryAfter: Math.ceil(wait / 1000) });
    }
    this.#ready = new Promise<LoadedModel>((resolve, reject) => (this.#settle = { resolve, reject }));
    // Whoever asked handles it; nobody may be left by then.
    this.#ready.catch(() => undefined);
    this.#start();
    return this.#ready;
  }

  /** Unloads the model. Requests in progress fail. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    if (this.#state !== "stopping") {
      this.#state = "stopping";
      this.#send({ type: "stop" });
    }
    const timer = setTimeout(() => child.kill("SIGKILL"), stopGraceMs);
    await this.#closed;
    clearTimeout(timer);
  }

  #start(): void {
    this.#state = "starting";
    this.#loadFailure = null;
    this.#stderr = new ProcessLog();
    const child = forkEntry("child");
    this.#child = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#stderr.add(text));
    child.on("message", (message) => this.#receive(message as ChildMessage));
    // A message to a child that has just died; its end is reported by "close".
    child.on("error", (error) =>
      this.#options.log.debug({ model: this.id, err: error }, "the model's process reported an error"),
    );
    this.#closed = new Promise((resolve) => {
      child.once("close", (code, signal) => {
        this.#onClose(code, signal);
        resolve();
      });
    });
    this.#send({ type: "load", settings: this.#options.settings, defaults: this.#options.defaults });
  }

  #receive(message: ChildMessage): void {
    switch (message.type) {
      case "loading":
        for (const listener of this.#loadListeners) listener(message.permille);
        break;
      case "ready":
        this.#onReady(message.model);
        break;
      case "warning":
        this.#options.log.warn({ model: this.id }, message.message);
        break;
      case "load-failed":
        this.#loadFailure = message;
        break;
      case "events":
        for (const [id, events] of message.events) this.#deliver(id, events);
        break;
      case "answer":
        this.#queries.get(message.id)?.resolve(message.answer);
        this.#queries.delete(message.id);
        break;
      case "failed":
        this.#fail(
          message.id,
          new ApiError(
            message.failure.code,
            message.failure.message,
            message.failure.param === undefined ? {} : { param: message.failure.param },
          ),
        );
    }
  }

  #onReady(model: LoadedModel): void {
    if (this.#state !== "starting") return;
    this.#state = "ready";
    const { contextLength, release, devices } = model;
    this.#options.log.info({ model: this.id, contextLength, release, devices }, "model loaded");
    this.#settle?.resolve(model);
  }

  #deliver(id: number, events: ChatEvent[]): void {
    const queue = this.#requests.get(id);
    if (queue === undefined) return;
    queue.push(...events);
    if (!events.some((event) => event.type === "finish")) return;
    this.#requests.delete(id);
    queue.end();
  }

  #fail(id: number, error: ApiError): void {
    this.#requests.get(id)?.end(error);
    this.#requests.delete(id);
    this.#queries.get(id)?.reject(error);
    this.#queries.delete(id);
  }

  #onClose(code: number | null, signal: NodeJS.Signals | null): void {
    const before = this.#state;
    this.#state = "stopped";
    this.#child = null;
    this.#ready = null;
    const failure =
      before === "stopping"
        ? unloaded(this.id)
        : toFailure({
            file: basename(this.#options.settings.path),
            state: before,
            code,
            signal,
            cause: this.#stderr.cause(),
            loadFailure: this.#loadFailure,
          });
    if (before !== "stopping") {
      this.#failures += 1;
      this.#lastFailure = failure;
      const backoff = this.#failures < 2 ? 0 : Math.min(longestBackoffMs, 500 * 2 ** (this.#failures - 2));
      this.#notBefore = Date.now() + backoff;
      this.#options.log.error({ model: this.id, code, signal, lines: this.#stderr.last(20) }, failure.message);
    }
    this.#settle?.reject(failure);
    this.#settle = null;
    for (const id of [...this.#requests.keys(), ...this.#queries.keys()]) this.#fail(id, failure);
  }

  #send(message: ParentMessage): void {
    if (this.#child?.connected === true) this.#child.send(message);
  }
}

function clientLeft(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}

function unloaded(id: string): ApiError {
  return new ApiError("service_unavailable", `the model ${id} was unloaded`);
}
