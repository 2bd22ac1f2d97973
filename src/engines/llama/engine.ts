import type {
  ChatEvent,
  ChatRequest,
  CompletionRequest,
  EmbeddingRequest,
  Embeddings,
  RerankRequest,
  RerankResult,
} from "../../core/chat.ts";
import type { Engine, TokenizeOptions } from "../../core/engine.ts";
import { ApiError } from "../../core/errors.ts";
import { type Log, silent } from "../../core/log.ts";
import type { Model, ModelSource } from "../../core/model.ts";
import type { Health } from "../../core/provider.ts";
import { type ServerLease, ServerModels } from "../llama-server/server-models.ts";
import { LibraryError } from "./native/library-error.ts";
import { readMachineMemory } from "./memory/machine-memory.ts";
import { type MemoryBudget, readMemoryBudget } from "./memory/memory-budget.ts";
import { type MemoryEstimate, estimateMemory } from "./memory/memory-estimate.ts";
import { type ModelFile, ModelFiles } from "../models/model-files.ts";
import { toModel } from "../models/model-listing.ts";
import { findModel } from "../models/model-lookup.ts";
import { findLibraryFolder } from "./builds/packages.ts";
import { physicalCores } from "./memory/processor-cores.ts";
import { Residency, type Resident } from "./memory/residency.ts";
import { type LlamaSettings, type ModelSettings, settingsOf, toWorkerSettings } from "./settings.ts";
import { requestDefaults } from "./prompting/request-defaults.ts";
import { Supervisor } from "./process/supervisor.ts";

/** What guesses tokens ahead for a model: `off`, `lookup` or the path of a model, and that one's file if it is listed. */
interface Draft {
  readonly path: string;
  readonly file?: ModelFile;
}

/** A model that was asked for at least once. */
interface Served extends Resident {
  readonly file: ModelFile;
  readonly supervisor: Supervisor;
}

/** llama.cpp in this program: a child process for each model in memory, loaded by the first request that names it. */
export class LlamaEngine implements Engine {
  readonly name: string;
  readonly kind = "llama_cpp";
  readonly fillsGaps = true;
  readonly soundCalls = true;
  readonly #settings: LlamaSettings;
  readonly #log: Log;
  readonly #files: ModelFiles;
  readonly #served = new Map<string, Served>();
  readonly #residency: Residency;
  readonly #servers: ServerModels;

  constructor(name: string, settings: LlamaSettings, log: Log = silent) {
    this.name = name;
    this.#settings = settings;
    this.#log = log;
    const own: ModelSource[] = typeof settings.model === "string" ? [{ kind: "files", path: settings.model }] : [];
    this.#files = new ModelFiles({ sources: [...own, ...(settings.sources ?? [])], builtIn: settings.demo });
    const available = (): number | null => readMachineMemory().available;
    const budget = (): Promise<MemoryBudget> => readMemoryBudget(settings);
    this.#residency = new Residency({ budget, count: settings.maxLoaded, available }, log);
    this.#servers = new ServerModels(settings, this.#residency, log);
  }

  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    yield* this.#generate({ type: "chat", request }, signal, request.keepAlive);
  }

  async *complete(request: CompletionRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    yield* this.#generate({ type: "complete", request }, signal, request.keepAlive);
  }

  embed(request: EmbeddingRequest, signal: AbortSignal): Promise<Embeddings> {
    const ask = (supervisor: Supervisor): Promise<Embeddings> => supervisor.query({ type: "embed", request }, signal);
    return this.#with(request.model, signal, ask, request.keepAlive);
  }

  rerank(request: RerankRequest, signal: AbortSignal): Promise<RerankResult> {
    return this.#with(request.model, signal, (supervisor) => supervisor.query({ type: "rerank", request }, signal));
  }

  applyTemplate(request: ChatRequest, signal: AbortSignal): Promise<string> {
    return this.#with(request.model, signal, (supervisor) =>
      supervisor.query({ type: "apply-template", request }, signal),
    );
  }

  tokenize(model: string, text: string, signal: AbortSignal, options: TokenizeOptions = {}): Promise<number[]> {
    return this.#with(model, signal, (supervisor) => supervisor.query({ type: "tokenize", text, options }, signal));
  }

  pieces(model: string, tokens: number[], signal: AbortSignal): Promise<number[][]> {
    return this.#with(model, signal, (supervisor) => supervisor.query({ type: "pieces", tokens }, signal));
  }

  detokenize(model: string, tokens: number[], signal: AbortSignal): Promise<string> {
    return this.#with(model, signal, (supervisor) => supervisor.query({ type: "detokenize", tokens }, signal));
  }

  /** Brings a model into memory. `keepAlive` as of a request. Throws `ApiError`. */
  async load(model: string, signal: AbortSignal, keepAlive?: number): Promise<void> {
    const lease = await this.server(model, signal, keepAlive);
    if (lease === null) {
      await this.#with(model, signal, (supervisor) => supervisor.ensureReady(), keepAlive);
      return;
    }
    try {
      await lease.process.ensureReady();
    } finally {
      lease.release();
    }
  }

  /** Gives a model's memory back, now or as soon as its last request has ended. Throws `ApiError` for an unknown one. */
  async unload(model: string): Promise<void> {
    const { id } = await this.#find(model);
    const resident = this.#served.get(id) ?? this.#servers.get(id);
    if (resident !== undefined) await this.#residency.unload(resident, "it was asked to leave");
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
    const { library, server, serverModels } = this.#settings;
    if (library !== undefined || (server !== undefined && serverModels === "all")) return undefined;
    try {
      findLibraryFolder(this.#settings.dataFolder);
      return undefined;
    } catch (error) {
      if (error instanceof LibraryError) return error.message;
      throw error;
    }
  }

  /** The llama-server of a model that one serves, started and kept; null: the model is served here. Throws `ApiError`. */
  async server(model: string, signal: AbortSignal, keepAlive?: number): Promise<ServerLease | null> {
    const file = await this.#find(model);
    return this.#servers.serves(file) ? this.#servers.hold(file, signal, keepAlive) : null;
  }

  /** The child processes that run now. */
  processes(): { readonly model: string; readonly pid: number }[] {
    return [...this.#served.values()].flatMap(({ supervisor: { id, pid } }) =>
      pid === undefined ? [] : [{ model: id, pid }],
    );
  }

  async close(): Promise<void> {
    this.#files.close();
    await this.#residency.close();
  }

  async *#generate(
    ask: Parameters<Supervisor["generate"]>[0],
    signal: AbortSignal,
    keepAlive: number | undefined,
  ): AsyncGenerator<ChatEvent> {
    const { supervisor, release } = await this.#hold(ask.request.model, signal, keepAlive);
    try {
      if (supervisor.state !== "ready") yield await this.#loading(ask);
      yield* supervisor.generate(ask, signal);
    } finally {
      release();
    }
  }

  /**
   * The word that the model is on its way. The prompt is counted by its tokenizer, which is not there yet: one that may
   * turn out too long is not accepted, for clients shorten it only when they are told so by a status.
   */
  async #loading({ request }: Parameters<Supervisor["generate"]>[0]): Promise<ChatEvent> {
    const { contextLength = 0 } = this.#describe(await this.#find(request.model));
    const length =
      "messages" in request ? JSON.stringify([request.messages, request.tools]).length : request.prompt.length;
    // Twice as many tokens as text of this length usually has.
    const accepted = length / 2 <= contextLength;
    return { type: "progress", phase: "loading", done: 0, total: 1000, ...(accepted ? { accepted } : {}) };
  }

  async #with<Result>(
    model: string,
    signal: AbortSignal,
    work: (supervisor: Supervisor) => Promise<Result>,
    keepAlive?: number,
  ): Promise<Result> {
    const { supervisor, release } = await this.#hold(model, signal, keepAlive);
    try {
      return await work(supervisor);
    } finally {
      release();
    }
  }

  /** The model's supervisor, with room made for it in memory. `keepAlive`: seconds; negative for ever. Throws `ApiError`. */
  async #hold(
    model: string,
    signal: AbortSignal,
    keepAlive: number | undefined,
  ): Promise<{ supervisor: Supervisor; release: () => void }> {
    const file = await this.#find(model);
    const known = this.#served.get(file.id);
    const served =
      known !== undefined && isSame(known.file, file) ? known : this.#serve(file, await this.#draftOf(file));
    const stay = keepAlive === undefined ? served.keepAlive : keepAlive < 0 ? null : keepAlive * 1000;
    return { supervisor: served.supervisor, release: await this.#residency.hold(served, signal, stay) };
  }

  /** Throws `ApiError` when there is no such model, or it is broken. */
  async #find(name: string): Promise<ModelFile> {
    const file = await this.#files.find((files) => findModel(files, name, this.#settings));
    if (file === undefined) {
      const names = (await this.#files.list()).map((candidate) => candidate.id).join(", ");
      throw new ApiError(
        "model_not_found",
        `the embedded llama.cpp has no model ${name}${names === "" ? "" : `; it has ${names}`}`,
        { param: "model" },
      );
    }
    if (file.problem !== null)
      throw new ApiError("invalid_model_file", `the model file ${file.id}.gguf cannot be loaded: ${file.problem}`);
    return file;
  }

  /** The draft model that the settings name for a model: one that is listed, or a path; or `lookup` or `off`. */
  async #draftOf(file: ModelFile): Promise<Draft> {
    const { draft = "off" } = settingsOf(this.#settings, file.id);
    if (draft === "off" || draft === "lookup") return { path: draft };
    const listed = await this.#files.find((files) => findModel(files, draft, this.#settings));
    return listed === undefined ? { path: draft } : { path: listed.path, file: listed };
  }

  #serve(file: ModelFile, draft: Draft): Served {
    const known = this.#served.get(file.id);
    if (known !== undefined && isSame(known.file, file)) return known;
    if (known !== undefined) void this.#residency.unload(known, "its file has changed");
    const settings = { ...settingsOf(this.#settings, file.id), draft: draft.path };
    const supervisor = new Supervisor({
      id: file.id,
      settings: toWorkerSettings(settings, file.path, physicalCores()),
      defaults: requestDefaults(file, settings, this.#log),
      log: this.#log,
      onIdle: () => this.#residency.onIdle(served),
    });
    const served: Served = {
      file,
      supervisor,
      needs: this.#estimate(file, settings, draft.file),
      pinned: settings.pinned ?? false,
      keepAlive: settings.keepAlive ?? (settings.unloadAfterChat === true ? 0 : null),
    };
    this.#served.set(file.id, served);
    return served;
  }

  #estimate(file: ModelFile, settings: ModelSettings, draft?: ModelFile): MemoryEstimate {
    const worker = toWorkerSettings(settings, file.path, 1);
    const estimate = estimateMemory(file, worker);
    const second = draft === undefined || draft.path === file.path ? 0 : estimateMemory(draft, worker).total;
    return { ...estimate, total: settings.memory ?? estimate.total + second };
  }

  #describe(file: ModelFile): Model {
    const elsewhere = this.#servers.serves(file);
    const resident = elsewhere ? this.#servers.get(file.id) : this.#served.get(file.id);
    const settings = settingsOf(this.#settings, file.id);
    const model = toModel(file, settings, {
      state: resident?.supervisor.state ?? "stopped",
      memoryBytes: (resident?.needs ?? this.#estimate(file, settings)).total,
      expiresAt: resident && this.#residency.expiresAt(resident),
    });
    return elsewhere && file.projector !== null
      ? { ...model, capabilities: { ...model.capabilities, vision: true } }
      : model;
  }
}

function isSame(known: ModelFile, found: ModelFile): boolean {
  return known.path === found.path && known.modified === found.modified && known.bytes === found.bytes;
}
