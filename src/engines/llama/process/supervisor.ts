import { basename, extname } from "node:path";
import type { ChatEvent, ChatRequest, CompletionRequest } from "../../../core/chat.ts";
import { ApiError } from "../../../core/errors.ts";
import type { Log } from "../../../core/log.ts";
import { Backoff } from "./backoff.ts";
import { EventQueue } from "./event-queue.ts";
import { Leases } from "./leases.ts";
import type { Answer, Answers, ChildMessage, LoadedModel, ParentMessage, Query } from "../messages.ts";
import { type ChildEnd, ModelChild } from "./model-child.ts";
import { type ProcessState, toFailure } from "./process-failure.ts";
import type { RequestDefaults, WorkerSettings } from "../settings.ts";
import { unpackVectors } from "../embedding/vectors.ts";
import type { Verdict, WatchLimits } from "./watchdog.ts";

export interface SupervisorOptions {
  readonly id: string;
  readonly settings: WorkerSettings;
  readonly defaults: RequestDefaults;
  readonly log: Log;
  /** Called when the last request has ended. */
  readonly onIdle: () => void;
  /** When the process counts as wedged. Default: `watchLimits`. */
  readonly watch?: WatchLimits;
}

type Ask =
  | { readonly type: "chat"; readonly request: ChatRequest }
  | { readonly type: "complete"; readonly request: CompletionRequest };

/**
 * The life of one model's child process: started by the first request, started anew after a crash, stopped when the
 * model is unloaded. Whatever befalls the child becomes an `ApiError` of the requests it had.
 */
export class Supervisor {
  readonly id: string;
  readonly #options: SupervisorOptions;
  readonly #requests = new Map<number, EventQueue>();
  readonly #queries = new Map<
    number,
    { resolve: (answer: Answers[keyof Answers]) => void; reject: (error: Error) => void }
  >();
  readonly #loadListeners = new Set<(permille: number) => void>();
  #state: ProcessState = "stopped";
  #child: ModelChild | null = null;
  #ready: Promise<LoadedModel> | null = null;
  #settle: { resolve: (model: LoadedModel) => void; reject: (error: Error) => void } | null = null;
  #loadFailure: (ChildMessage & { type: "load-failed" }) | null = null;
  readonly #leases: Leases;
  #nextId = 1;
  readonly #backoff = new Backoff();

  constructor(options: SupervisorOptions) {
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

  /** Id of the child process, while there is one. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Keeps the model from being evicted until the returned function is called. */
  lease(): () => void {
    return this.#leases.take();
  }

  /** Chat or completion; starts the process where needed. Throws `ApiError`. */
  async *generate(ask: Ask, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const queue = new EventQueue();
    const id = this.#nextId++;
    const onLoad = (permille: number): void =>
      void queue.push([{ type: "progress", phase: "loading", done: permille, total: 1000 }]);
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
      this.#backoff.succeeded();
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
        if (this.#queries.delete(id)) this.#send({ type: "abort", id });
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
    if (this.#child !== null) {
      // It is on its way out.
      await this.#child.closed;
      return this.ensureReady();
    }
    this.#backoff.check();
    this.#ready = new Promise<LoadedModel>((resolve, reject) => (this.#settle = { resolve, reject }));
    // Whoever asked handles it; nobody may be left by then.
    this.#ready.catch(() => undefined);
    this.#start();
    return this.#ready;
  }

  /** Unloads the model, which may save what it knows. Requests in progress fail. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    // A model that is still being loaded has nothing to save.
    if (this.#state === "starting") child.kill("it was stopped while it loaded");
    this.#state = "stopping";
    this.#ready = null;
    child.stop();
    await child.closed;
  }

  #start(): void {
    const { log, watch } = this.#options;
    this.#state = "starting";
    this.#loadFailure = null;
    try {
      this.#child = new ModelChild({
        log,
        limits: watch,
        isWanted: () => this.#state === "starting" || this.#requests.size + this.#queries.size > 0,
        onMessage: (message) => this.#receive(message),
        onWedged: (verdict, suspects) => this.#onWedged(verdict, suspects),
        onEnd: (end) => this.#onEnd(end),
      });
      this.#send({ type: "load", settings: this.#options.settings, defaults: this.#options.defaults });
    } catch (error) {
      const killed = `no process could be started: ${error instanceof Error ? error.message : String(error)}`;
      this.#onEnd({ code: null, signal: null, killed, outOfMemory: null, cause: "", lines: [] });
    }
  }

  #receive(message: Exclude<ChildMessage, { type: "pong" }>): void {
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
        this.#backoff.succeeded();
        this.#queries.get(message.id)?.resolve(readAnswer(message.answer));
        this.#queries.delete(message.id);
        break;
      case "failed": {
        const { code, message: text, param } = message.failure;
        this.#fail(message.id, new ApiError(code, text, param === undefined ? {} : { param }));
      }
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
    if (!queue.push(events)) {
      this.#requests.delete(id);
      this.#send({ type: "abort", id });
    } else if (events.some((event) => event.type === "finish")) {
      this.#requests.delete(id);
      queue.end();
    }
  }

  #fail(id: number, error: ApiError): void {
    this.#requests.get(id)?.end(error);
    this.#requests.delete(id);
    this.#queries.get(id)?.reject(error);
    this.#queries.delete(id);
  }

  /** The process is being killed: its requests need not wait until it is gone. */
  #onWedged(verdict: Verdict, suspects: number[]): void {
    const [only, ...others] = suspects;
    if (verdict.thread === "main" && only !== undefined && others.length === 0) {
      // Sent again it would do the same: no failure that asks for a repetition.
      const file = fileName(this.#options);
      const message = `the chat template of ${file}, or a schema of this request, came to no end`;
      this.#fail(only, new ApiError("invalid_request", message));
    }
    this.#ready = null;
    const end = { code: null, signal: null, killed: verdict.reason, outOfMemory: null, cause: "", lines: [] };
    this.#failAll(this.#toFailure(end));
  }

  #onEnd(end: ChildEnd): void {
    const wasStopping = this.#state === "stopping";
    const failure = wasStopping ? unloaded(this.id) : this.#toFailure(end);
    this.#state = "stopped";
    this.#child = null;
    this.#ready = null;
    if (!wasStopping) {
      this.#backoff.failed(failure);
      const { code, signal, lines } = end;
      this.#options.log.error({ model: this.id, code, signal, lines }, failure.message);
    }
    this.#settle?.reject(failure);
    this.#settle = null;
    this.#failAll(failure);
  }

  #toFailure(end: ChildEnd): ApiError {
    const file = fileName(this.#options);
    return toFailure({ ...end, file, state: this.#state, loadFailure: this.#loadFailure });
  }

  #failAll(failure: ApiError): void {
    for (const id of [...this.#requests.keys(), ...this.#queries.keys()]) this.#fail(id, failure);
  }

  #send(message: ParentMessage): void {
    this.#child?.send(message);
  }
}

function readAnswer(answer: Answer): Answers[keyof Answers] {
  return typeof answer === "object" && "packed" in answer ? unpackVectors(answer) : answer;
}

function clientLeft(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}

function unloaded(id: string): ApiError {
  return new ApiError("service_unavailable", `the model ${id} was unloaded`);
}

/** What users know the model's file as; a blob of a store is known by its model's id. */
function fileName({ id, settings }: SupervisorOptions): string {
  return extname(settings.path).toLowerCase() === ".gguf" ? basename(settings.path) : id;
}
