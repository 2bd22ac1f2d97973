import { availableParallelism } from "node:os";
import type {
  ChatEvent,
  ChatRequest,
  CompletionRequest,
  EmbeddingRequest,
  Embeddings,
  RerankRequest,
  RerankResult,
} from "../../core/chat.ts";
import type { Engine } from "../../core/engine.ts";
import { ApiError } from "../../core/errors.ts";
import { type Log, silent } from "../../core/log.ts";
import type { Capabilities, Model, ModelSource } from "../../core/model.ts";
import type { Health } from "../../core/provider.ts";
import type { GgufHeader } from "./gguf.ts";
import { LibraryError } from "./library-error.ts";
import { type ModelFile, ModelFiles } from "./model-files.ts";
import { findLibraryFolder } from "./packages.ts";
import { type LlamaSettings, effectiveContextLength, toWorkerSettings } from "./settings.ts";
import { Supervisor } from "./supervisor.ts";

/** llama.cpp in this program: a child process for each model in memory, loaded by the first request that names it. */
export class LlamaEngine implements Engine {
  readonly name: string;
  readonly kind = "llama_cpp";
  readonly #settings: LlamaSettings;
  readonly #log: Log;
  readonly #files: ModelFiles;
  readonly #supervisors = new Map<string, Supervisor>();
  readonly #waiting = new Set<() => void>();
  /** Loads are decided one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(name: string, settings: LlamaSettings, log: Log = silent) {
    this.name = name;
    this.#settings = settings;
    this.#log = log;
    const own: ModelSource[] = typeof settings.model === "string" ? [{ kind: "files", path: settings.model }] : [];
    this.#files = new ModelFiles({ sources: [...own, ...(settings.sources ?? [])], fallback: settings.demo });
  }

  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    yield* this.#generate({ type: "chat", request }, signal);
  }

  async *complete(request: CompletionRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    yield* this.#generate({ type: "complete", request }, signal);
  }

  embed(request: EmbeddingRequest, signal: AbortSignal): Promise<Embeddings> {
    return this.#with(request.model, signal, (supervisor) => supervisor.query({ type: "embed", request }, signal));
  }

  rerank(request: RerankRequest, signal: AbortSignal): Promise<RerankResult> {
    return this.#with(request.model, signal, (supervisor) => supervisor.query({ type: "rerank", request }, signal));
  }

  tokenize(model: string, text: string, signal: AbortSignal): Promise<number[]> {
    return this.#with(model, signal, (supervisor) => supervisor.query({ type: "tokenize", text }, signal));
  }

  detokenize(model: string, tokens: number[], signal: AbortSignal): Promise<string> {
    return this.#with(model, signal, (supervisor) => supervisor.query({ type: "detokenize", tokens }, signal));
  }

  async models(): Promise<Model[]> {
    const files = await this.#files.list();
    const problem = this.#missingLibrary();
    const models = files.map((file) => this.#describe(file));
    return problem === undefined ? models : models.map((model) => ({ ...model, state: "failed", problem }));
  }

  async health(): Promise<Health> {
    const missing = this.#missingLibrary();
    if (missing !== undefined) return { ok: false, detail: missing };
    try {
      const files = await this.#files.list();
      const [broken] = files.filter((file) => file.problem !== null);
      if (files.length === 0)
        return { ok: false, detail: "no model: set LLAMA_CPP_MODEL to a GGUF file or a folder of them" };
      if (files.every((file) => file.problem !== null))
        return { ok: false, detail: `no model can be loaded; ${broken?.id}: ${broken?.problem}` };
      return { ok: true };
    } catch {
      return { ok: false, detail: "the models cannot be listed" };
    }
  }

  /** Why no model can be loaded at all; undefined when llama.cpp is there. */
  #missingLibrary(): string | undefined {
    if (this.#settings.library !== undefined) return undefined;
    try {
      findLibraryFolder(this.#settings.dataFolder);
      return undefined;
    } catch (error) {
      if (error instanceof LibraryError) return error.message;
      throw error;
    }
  }

  /** The child processes that run now. */
  processes(): { readonly model: string; readonly pid: number }[] {
    return [...this.#supervisors.values()].flatMap(({ id, pid }) => (pid === undefined ? [] : [{ model: id, pid }]));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#files.close();
    for (const wake of this.#waiting) wake();
    await Promise.all([...this.#supervisors.values()].map((supervisor) => supervisor.stop()));
  }

  async *#generate(ask: Parameters<Supervisor["generate"]>[0], signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const { supervisor, release } = await this.#acquire(ask.request.model, signal);
    try {
      yield* supervisor.generate(ask, signal);
    } finally {
      release();
    }
  }

  async #with<Result>(
    model: string,
    signal: AbortSignal,
    work: (supervisor: Supervisor) => Promise<Result>,
  ): Promise<Result> {
    const { supervisor, release } = await this.#acquire(model, signal);
    try {
      return await work(supervisor);
    } finally {
      release();
    }
  }

  /** The model's supervisor, with room made for it in memory. Throws `ApiError`. */
  async #acquire(id: string, signal: AbortSignal): Promise<{ supervisor: Supervisor; release: () => void }> {
    const supervisor = this.#supervisors.get(id) ?? (await this.#create(id));
    const release = supervisor.lease();
    if (supervisor.state === "ready" || supervisor.state === "starting") return { supervisor, release };
    const turn = this.#turn.then(() => this.#makeRoom(supervisor, signal));
    this.#turn = turn.catch(() => undefined);
    try {
      await turn;
      return { supervisor, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  async #create(id: string): Promise<Supervisor> {
    const files = await this.#files.list();
    const file = files.find((candidate) => candidate.id === id);
    if (file === undefined) {
      const names = files.map((candidate) => candidate.id).join(", ");
      throw new ApiError(
        "model_not_found",
        `the embedded llama.cpp has no model ${id}${names === "" ? "" : `; it has ${names}`}`,
        { param: "model" },
      );
    }
    if (file.problem !== null)
      throw new ApiError("invalid_model_file", `the model file ${file.id}.gguf cannot be loaded: ${file.problem}`);
    const known = this.#supervisors.get(id);
    if (known !== undefined) return known;
    const supervisor = new Supervisor({
      id,
      settings: toWorkerSettings(this.#settings, file.path, physicalCores()),
      defaults: this.#settings,
      log: this.#log,
      onIdle: () => this.#onIdle(supervisor),
    });
    this.#supervisors.set(id, supervisor);
    return supervisor;
  }

  /** Unloads the model that was unused for longest; waits while all are busy. */
  async #makeRoom(wanted: Supervisor, signal: AbortSignal): Promise<void> {
    for (;;) {
      if (this.#closed) throw new ApiError("service_unavailable", "the embedded llama.cpp is shutting down");
      if (signal.aborted) throw new ApiError("client_closed_request", "the client closed the connection");
      const others = [...this.#supervisors.values()].filter((other) => other !== wanted && other.state !== "stopped");
      if (others.length < (this.#settings.maxLoaded ?? 1)) {
        // Started here, before the next load is decided; who asked gets the failure, if there is one.
        wanted.ensureReady().catch(() => undefined);
        return;
      }
      const [idle] = others.filter((other) => !other.busy).toSorted((a, b) => a.lastUsed - b.lastUsed);
      if (idle !== undefined) await idle.stop();
      else await this.#someoneIdle(signal);
    }
  }

  #someoneIdle(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  #onIdle(supervisor: Supervisor): void {
    for (const wake of this.#waiting) wake();
    if (this.#settings.unloadAfterChat === true && supervisor.state === "ready") void supervisor.stop();
  }

  #describe(file: ModelFile): Model {
    const supervisor = this.#supervisors.get(file.id);
    const states = { ready: "loaded", starting: "loading", stopping: "unloaded", stopped: "unloaded" } as const;
    const { maxNewTokens, contextLength } = this.#settings;
    const about = {
      id: file.id,
      created: file.modified,
      ownedBy: "llama.cpp",
      capabilities: readCapabilities(file.header),
    };
    if (file.problem !== null || file.header === null)
      return { ...about, state: "failed", problem: file.problem ?? "unreadable" };
    return {
      ...about,
      contextLength: effectiveContextLength(contextLength, file.header.contextLength ?? undefined),
      ...(maxNewTokens === undefined ? {} : { maxOutput: maxNewTokens }),
      state: states[supervisor?.state ?? "stopped"],
    };
  }
}

function readCapabilities(header: GgufHeader | null): Capabilities {
  const rerank = header?.pooling === 4;
  const embeddings = header !== null && header.pooling !== null && !rerank;
  const chat = header !== null && !rerank && !embeddings;
  const template = header?.template ?? "";
  return {
    chat,
    tools: chat,
    vision: false,
    reasoning: chat && /<think>|enable_thinking|reasoning_content/.test(template),
    embeddings,
    rerank,
  };
}

/** Hyper-threads do not help matrices, and Node counts only logical cores: on x64 larger machines mostly have two for each. */
function physicalCores(): number {
  const logical = availableParallelism();
  return process.arch === "x64" && logical > 4 ? Math.ceil(logical / 2) : logical;
}
