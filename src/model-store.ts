import { readdir, rm, rmdir } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { demoModel } from "./config/demo-model.ts";
import { modelsFolder } from "./config/folders.ts";
import { modelSources } from "./config/model-sources.ts";
import { proxyFor } from "./config/proxy.ts";
import type { Config } from "./config/schema.ts";
import { type Capabilities, listedOf, type Model } from "./core/model.ts";
import { estimateMemory } from "./engines/llama/memory/memory-estimate.ts";
import { type ModelFile, ModelFiles } from "./engines/models/model-files.ts";
import { readCapabilities, toModel } from "./engines/models/model-listing.ts";
import { findModel } from "./engines/models/model-lookup.ts";
import { physicalCores } from "./engines/llama/memory/processor-cores.ts";
import { settingsOf, toWorkerSettings } from "./engines/llama/settings.ts";
import { download } from "./hub/download.ts";
import { type Choice, pickFiles } from "./hub/pick.ts";
import type { Reference } from "./hub/reference.ts";
import { type Hub, type RemoteFile, type Repository, readRepository } from "./hub/repository.ts";
import { HubError, follow } from "./hub/transport.ts";
import { plainGet } from "./providers/plain-get.ts";

/** A model on this machine, as its files tell. */
export interface StoredModel {
  readonly id: string;
  /** Further names that mean it. */
  readonly names: readonly string[];
  /** The file; of several parts the first. */
  readonly path: string;
  readonly files: readonly string[];
  readonly projector: string | null;
  /** Of all files, the projector aside. */
  readonly bytes: number;
  /** Why it cannot be loaded; null when nothing is known against it. */
  readonly problem: string | null;
  /** Whether it lies in the folder of `lair pull`, and `lair rm` may delete it. */
  readonly pulled: boolean;
  /** Whether it is the demo model, which came with the program. */
  readonly builtIn: boolean;
  readonly facts: ModelFacts | null;
}

/** What the header of a model's file says, and what follows from it under the present settings. */
export interface ModelFacts {
  readonly architecture: string;
  readonly name: string | null;
  /** What its maker says of it, e.g. `apache-2.0` of its licence. */
  readonly description?: string;
  readonly license?: string;
  readonly languages?: readonly string[];
  readonly parameters: number;
  /** e.g. `Q4_K_M` */
  readonly quantization: string | null;
  /** Tokens of context that it was trained for, and that a session has here. */
  readonly trainedContext: number | null;
  readonly context: number | undefined;
  /** What of sampling its file or the settings say; the rest is the engine's default. */
  readonly sampling: Model["sampling"];
  readonly layers: number;
  readonly vocabulary: number;
  readonly capabilities: Capabilities;
  readonly template: string | null;
  /** Bytes that it is expected to take in memory. */
  readonly memory: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The models that `lair serve` would offer of this machine's files, sorted by id. */
export async function listModels(config: Config, env: Environment): Promise<StoredModel[]> {
  return withFiles(config, env, async (files) =>
    listedOf(await files.list(), ({ builtIn }) => builtIn).map((file) => describe(file, config, env)),
  );
}

/** The model that a name means, as a request would find it; undefined when there is none. */
export async function findStored(name: string, config: Config, env: Environment): Promise<StoredModel | undefined> {
  return withFiles(config, env, async (files) => {
    const found = findModel(await files.list(), name, config.llama);
    return found && describe(found, config, env);
  });
}

/** Deletes the files of a model that was pulled, and the folders that it leaves empty. */
export async function removeStored(model: StoredModel, env: Environment): Promise<void> {
  if (!model.pulled) throw new Error(`${model.path} is not of the models folder`);
  const files = [...model.files, ...(model.projector === null ? [] : [model.projector])];
  for (const file of files) await rm(file, { force: true });
  const root = modelsFolder({ env });
  for (let folder = dirname(model.path); isBelow(folder, root); folder = dirname(folder)) {
    if ((await readdir(folder)).length > 0) break;
    await rmdir(folder);
  }
}

async function withFiles<Result>(
  config: Config,
  env: Environment,
  work: (files: ModelFiles) => Promise<Result>,
): Promise<Result> {
  const files = new ModelFiles({ sources: modelSources(config.llama.model, { env }), builtIn: demoModel(config) });
  try {
    return await work(files);
  } finally {
    files.close();
  }
}

function describe(file: ModelFile, { llama }: Config, env: Environment): StoredModel {
  const { id, names, path, files, projector, bytes, problem, header } = file;
  const pulled = isBelow(path, modelsFolder({ env }));
  const about = { id, names, path, files, projector, bytes, problem, pulled, builtIn: file.builtIn !== undefined };
  if (header === null) return { ...about, facts: null };
  const settings = settingsOf({ ...llama, model: null, demo: undefined }, id);
  const memory = estimateMemory(file, toWorkerSettings(settings, path, physicalCores())).total;
  const { contextLength: context, sampling } = toModel(file, settings, { state: "stopped", memoryBytes: memory });
  const { architecture, name, parameters, quantization, contextLength, template, shape, about: said } = header;
  const { sizeLabel: _, ...words } = said;
  const facts: ModelFacts = {
    architecture,
    name,
    ...words,
    parameters,
    quantization,
    trainedContext: contextLength,
    context,
    sampling,
    layers: shape.layers,
    vocabulary: shape.vocabulary,
    capabilities: readCapabilities(header, settings.pooling),
    template,
    memory,
  };
  return { ...about, facts };
}

function isBelow(path: string, folder: string): boolean {
  const between = relative(folder, path);
  return between !== "" && between !== ".." && !between.startsWith(`..${sep}`) && !/^([a-z]:|[/\\])/i.test(between);
}

export interface PullOptions {
  /** The models folder; each repository gets `user/repo` in it. */
  readonly folder: string;
  /** `HF_ENDPOINT`, `HF_TOKEN`, `MODELSCOPE_ENDPOINT` and the proxy variables are read. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: PullProgress) => void;
}

export interface PullProgress {
  readonly file: string;
  readonly phase: "download" | "verify";
  /** Bytes of all files of the model. */
  readonly done: number;
  readonly total: number;
}

/** What has come. */
export interface Pulled {
  /** The model's file; of several parts the first. */
  readonly path: string;
  readonly quantisation: string;
  readonly bytes: number;
  /** False: all of it was there already. */
  readonly fetched: boolean;
}

/** Fetches a model with all its parts and its projector. Throws `HubError`, and the signal's reason when it is aborted. */
export async function pullModel(reference: Reference, options: PullOptions): Promise<Pulled> {
  const web = plainGet({ proxyFor: (url) => proxyFor(url, options.env), timeout: 30_000 });
  try {
    return await pull(reference, options, toHub(web.get, options));
  } catch (error) {
    options.signal.throwIfAborted();
    if (error instanceof HubError || !(error instanceof Error)) throw error;
    throw new HubError(`the download failed: ${error.message}`, { cause: error });
  } finally {
    await web.close();
  }
}

async function pull(reference: Reference, options: PullOptions, hub: Hub): Promise<Pulled> {
  const { repository, choice, folder } = await find(reference, options, hub);
  const files = choice.projector === null ? choice.files : [...choice.files, choice.projector];
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let before = 0;
  let fetched = false;
  for (const file of files) {
    const path = join(folder, ...file.path.split("/"));
    const name = file.path.split("/").pop() ?? file.path;
    const wanted = { url: file.url, size: file.size, sha256: file.sha256, headers: repository.headers, path };
    const came = await download(wanted, {
      get: hub.get,
      signal: options.signal,
      onProgress: (phase, done) => options.onProgress({ file: name, phase, done: before + done, total }),
    });
    fetched ||= came;
    before += file.size;
  }
  const [first] = choice.files;
  if (first === undefined) throw new HubError("there is nothing to fetch");
  return { path: join(folder, ...first.path.split("/")), quantisation: choice.quantisation, bytes: total, fetched };
}

async function find(
  reference: Reference,
  options: PullOptions,
  hub: Hub,
): Promise<{ repository: Repository; choice: Choice; folder: string }> {
  if (reference.kind === "repository") {
    const repository = await readRepository(hub, reference);
    const choice = pickFiles(repository, reference);
    const folder = join(options.folder, ...reference.repository.split("/"));
    return { repository, choice, folder };
  }
  const { url, file: path } = reference;
  const file: RemoteFile = { path, size: await readSize(hub, url), sha256: null, url };
  const repository = { name: new URL(url).host, files: [file], headers: {} };
  return { repository, choice: { quantisation: "", files: [file], projector: null }, folder: options.folder };
}

/** The length of a file, by its first byte. */
async function readSize(hub: Hub, url: string): Promise<number> {
  const reply = await follow(hub.get, url, { headers: { range: "bytes=0-0" }, signal: hub.signal });
  // Leaving the loop closes the body.
  for await (const _ of reply.body) break;
  const { "content-range": range = "", "content-length": length } = reply.headers;
  const size = Number(reply.status === 206 ? /\/(\d+)$/.exec(range)?.[1] : length);
  if (![200, 206].includes(reply.status))
    throw new HubError(`${new URL(url).host} answered ${reply.status} to the file`);
  if (!Number.isSafeInteger(size) || size <= 0)
    throw new HubError(`${new URL(url).host} does not tell how long the file is`);
  return size;
}

function toHub(get: Hub["get"], { env, signal }: PullOptions): Hub {
  const endpoint = (name: string, fallback: string): string => {
    const named = env[name]?.trim() ?? "";
    if (named === "") return fallback;
    if (!/^https?:\/\/[^/]/i.test(named))
      throw new HubError(`${name} wants an address such as ${fallback}, not ${named}`);
    return named;
  };
  const token = env["HF_TOKEN"]?.trim();
  return {
    get,
    signal,
    endpoints: {
      huggingface: endpoint("HF_ENDPOINT", "https://huggingface.co"),
      modelscope: endpoint("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn"),
    },
    ...(token === undefined || token === "" ? {} : { token }),
  };
}
