import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { chooseLibrary } from "./builds/backends.ts";
import { type LlamaLibrary, loadLibrary } from "./native/binding.ts";
import { DrySamplers } from "./generation/dry-samplers.ts";
import { Embedder, RequestFailure } from "./embedding/embedder.ts";
import { freeGround, type Ground } from "./generation/generation.ts";
import { LibraryError } from "./native/library-error.ts";
import { LogprobReader } from "./generation/logprobs.ts";
import type { Answers, LoadedModel, Output, WorkerQuery, WorkerEvent, WorkerMessage, WorkerStart } from "./messages.ts";
import type { NativeContext } from "./native/native-context.ts";
import { ModelError, NativeModel } from "./native/native-model.ts";
import { createPool, openContext } from "./native/open-context.ts";
import { openSpeculation } from "./speculation/open-speculation.ts";
import { type PrefixOrigin, prefixKey } from "./prefix/prefix-key.ts";
import { PrefixStore } from "./prefix/prefix-store.ts";
import { watchParent } from "./process/parent-watch.ts";
import { Pulse, withPulse } from "./process/pulse.ts";
import { Candidates } from "./generation/sampler.ts";
import { Scheduler } from "./scheduling/scheduler.ts";
import { type Pooling, type WorkerSettings, effectiveContextLength, poolingTypes } from "./settings.ts";

/** Entry of the worker thread that owns one model: all calls into llama.cpp happen here, synchronously. */

/** How long nothing happens before the caches are put on disk, one after the other. */
const idleSaveMs = 10_000;
/** How long the process may take to put them there when it is told to stop; then it ends with what is done. */
const stopSaveMs = 20_000;

if (parentPort !== null) {
  const port = parentPort;
  const start = workerData as WorkerStart;
  const send = (event: WorkerEvent): void => port.postMessage(event);
  watchParent();
  try {
    const served = await open(start, send);
    send({ type: "ready", model: served.about });
    await serve(served, start, { port, send });
    await saveCaches(served, new Pulse(start.pulse));
    served.free();
    send({ type: "stopped" });
  } catch (error) {
    const reason = error instanceof ModelError ? error.reason : error instanceof LibraryError ? "library" : null;
    if (reason === null) throw error;
    send({ type: "load-failed", reason, message: (error as Error).message });
  }
}

interface Served {
  readonly about: LoadedModel;
  readonly model: NativeModel;
  readonly scheduler: Scheduler | null;
  readonly embedder: Embedder | null;
  readonly store: PrefixStore | null;
  /** Ends the rest of the loop: there may be something to do. */
  wake: () => void;
  free(): void;
}

async function open(start: WorkerStart, send: (event: WorkerEvent) => void): Promise<Served> {
  const { settings } = start;
  const chosen = await chooseLibrary(settings.backend);
  for (const message of chosen.warnings) send({ type: "warning", message });
  const library = withPulse(await loadLibrary(chosen.folder, chosen.fallback), new Pulse(start.pulse));
  warnOfDevices(library, settings, send);
  let last = -10;
  const model = NativeModel.load(library, settings, (fraction) => {
    const permille = Math.floor(fraction * 1000);
    if (permille < last + 10 && permille < 1000) return;
    last = permille;
    send({ type: "loading", permille });
  });
  const contextLength = effectiveContextLength(settings.contextLength, model.trainedContext);
  if (settings.contextLength !== null && settings.contextLength > contextLength) {
    const message = `the context length is ${contextLength}, not ${settings.contextLength}: the model was trained for no more`;
    send({ type: "warning", message });
  }
  const pooling = settings.pooling ?? readPooling(model);
  const use = pooling === null ? "chat" : pooling === "rank" ? "rerank" : "embeddings";
  const about = describe(model, { contextLength, use });
  if (pooling !== null) {
    const embedder = new Embedder(model, { settings, contextLength, pooling, interrupt: start.interrupt });
    const free = (): void => (embedder.free(), model.free());
    return { about, model, scheduler: null, embedder, store: null, wake: () => undefined, free };
  }
  const plan = { settings, contextLength, interrupt: start.interrupt, pool: createPool(library, settings) };
  const context = openContext(model, { ...plan, drafts: settings.draft === "off" ? 0 : settings.draftMax });
  const onWarning = (message: string): void => send({ type: "warning", message });
  const speculation = openSpeculation(model, context, { ...plan, onWarning });
  const { vocabulary } = model;
  const ground: Ground = {
    model,
    candidates: new Candidates(library, vocabulary.size),
    dry: new DrySamplers(model),
    logprobs: new LogprobReader((token) => vocabulary.piece(token)),
    contextLength,
    ...(speculation === null ? {} : { speculation }),
  };
  const onGpu = settings.gpuLayers !== 0 && library.functions.llama_supports_gpu_offload();
  // A GPU heeds no abort flag and gains from large calls; the CPU is broken off within one pass either way.
  const chunk = onGpu ? settings.batchSize : settings.ubatchSize;
  const store = openStore({ settings, release: library.release, contextLength }, context, send);
  const { maxQueue, threads, threadsBatch } = settings;
  const pace = { maxQueue, chunk, stallMs: 150, threads, threadsBatch };
  const served: Served = {
    about,
    model,
    scheduler: new Scheduler(ground, context, { pace, store, wake: () => served.wake() }),
    embedder: null,
    store,
    wake: () => undefined,
    free: () => (freeGround(ground), context.free(), model.free()),
  };
  return served;
}

function openStore(
  origin: PrefixOrigin,
  context: NativeContext,
  send: (event: WorkerEvent) => void,
): PrefixStore | null {
  const { cache } = origin.settings;
  if (cache === null) return null;
  const onWarning = (message: string): void => send({ type: "warning", message });
  return new PrefixStore({ ...cache, key: prefixKey(origin), rewindsFreely: context.rewindsFreely, onWarning });
}

function warnOfDevices(library: LlamaLibrary, settings: WorkerSettings, send: (event: WorkerEvent) => void): void {
  // "all" is what everybody has who did not choose; a number was meant.
  const wantsGpu = typeof settings.gpuLayers === "number" && settings.gpuLayers > 0;
  if (wantsGpu && !library.functions.llama_supports_gpu_offload()) {
    const message = `gpuLayers is ${settings.gpuLayers}, but llama.cpp found no GPU: the model runs on the CPU`;
    send({ type: "warning", message });
  }
}

/** null: the model makes text. An encoder whose file names no pooling is taken to mean the mean, as most do. */
function readPooling(model: NativeModel): Pooling | null {
  const named = Object.entries(poolingTypes).find(([, type]) => type === model.poolingType);
  if (named !== undefined) return named[0] as Pooling;
  return model.generates ? null : "mean";
}

function describe(model: NativeModel, about: { contextLength: number; use: LoadedModel["use"] }): LoadedModel {
  const { vocabulary, library } = model;
  return {
    ...about,
    template: model.chatTemplate(),
    toolTemplate: model.chatTemplate("tool_use"),
    controlTexts: about.use === "chat" ? vocabulary.controlTexts() : [],
    bosText: vocabulary.textOf(vocabulary.bos),
    eosText: vocabulary.textOf(vocabulary.eos),
    addsBos: vocabulary.addsBos,
    release: library.release,
    description: model.description,
    devices: library.devices().map((device) => `${device.name}: ${device.description}`),
  };
}

interface Line {
  readonly port: NonNullable<typeof parentPort>;
  readonly send: (event: WorkerEvent) => void;
}

/** Works until it is told to stop: sleeps while there is nothing to do, and polls its messages between steps. */
async function serve(served: Served, start: WorkerStart, line: Line): Promise<void> {
  const interrupt = new Uint8Array(start.interrupt);
  const pulse = new Pulse(start.pulse);
  const inbox: WorkerMessage[] = [];
  let idle = false;
  line.port.on("message", (message: WorkerMessage) => {
    inbox.push(message);
    served.wake();
  });
  for (;;) {
    // Cleared before the messages are read: an abort that comes later sets it again.
    Atomics.store(interrupt, 0, 0);
    for (let next = receiveMessageOnPort(line.port); next !== undefined; next = receiveMessageOnPort(line.port)) {
      inbox.push(next.message as WorkerMessage);
    }
    const outputs: Output[] = [];
    for (const message of inbox.splice(0)) {
      if (message.type === "stop") return;
      const output = take(served, message);
      if (output !== null) outputs.push(output);
    }
    const work = served.scheduler ?? served.embedder;
    // That a request is accepted must not wait for the first batch of its prompt.
    const accepted = work?.takeOutputs() ?? [];
    if (accepted.length > 0) line.send({ type: "outputs", outputs: accepted });
    const computed = work?.step() ?? false;
    outputs.push(...(work?.takeOutputs() ?? []));
    if (outputs.length > 0) line.send({ type: "outputs", outputs });
    if (computed) idle = false;
    if (computed || inbox.length > 0) {
      // Node's own threads read and write files, and tell of it between turns only.
      if (served.store?.busy === true) await setImmediate();
      continue;
    }
    pulse.begin("rest");
    const rested = await rest(served, idle ? null : idleSaveMs);
    pulse.begin("other");
    if (rested) idle = !(served.scheduler?.save("idle") ?? false);
  }
}

/** Waits for something to do; true when nothing came for `limit` milliseconds. */
async function rest(served: Served, limit: number | null): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const rested = await new Promise<boolean>((resolve) => {
    served.wake = () => resolve(false);
    if (limit !== null && served.store !== null) timer = setTimeout(() => resolve(true), limit);
  });
  clearTimeout(timer);
  served.wake = () => undefined;
  return rested;
}

/** Puts the caches on disk before the process ends, as far as the time allows. */
async function saveCaches({ scheduler, store }: Served, pulse: Pulse): Promise<void> {
  if (scheduler === null || store === null) return;
  const late = AbortSignal.timeout(stopSaveMs);
  const beats = setInterval(() => pulse.beat(), 1000);
  while (!late.aborted && scheduler.save("all")) {
    await Promise.race([store.settled(), once(late, "abort")]);
  }
  clearInterval(beats);
}

function take(served: Served, message: Exclude<WorkerMessage, { type: "stop" }>): Output | null {
  switch (message.type) {
    case "generate":
      if (served.scheduler !== null) {
        served.scheduler.submit(message);
        return null;
      }
      return {
        id: message.id,
        type: "failed",
        failure: {
          code: "unsupported_capability",
          message: `this model makes ${served.about.use === "rerank" ? "relevances" : "embeddings"}, not text`,
        },
      };
    case "abort":
      (served.scheduler ?? served.embedder)?.abort(message.id);
      return null;
    case "query":
      try {
        const found = answer(served, message.id, message.query);
        return found === null ? null : { id: message.id, type: "answer", answer: found };
      } catch (error) {
        if (!(error instanceof RequestFailure)) throw error;
        return { id: message.id, type: "failed", failure: error.failure };
      }
  }
}

/** null: the answer comes later. */
function answer(served: Served, id: number, query: WorkerQuery): Answers[keyof Answers] | null {
  const { vocabulary } = served.model;
  switch (query.type) {
    case "tokenize":
      return vocabulary.tokenize(query.text, {
        addSpecial: query.options?.addSpecial ?? false,
        parseSpecial: query.options?.parseSpecial ?? true,
      });
    case "pieces":
      return query.tokens.map((token) => [...vocabulary.piece(token)]);
    case "detokenize":
      return vocabulary.detokenize(query.tokens);
    case "embed":
      if (served.embedder === null || served.about.use !== "embeddings") {
        const hint = served.about.use === "chat" ? "; set its pooling (mean, cls or last) to make it do so" : "";
        const message = `this model does not make embeddings${hint}`;
        throw new RequestFailure({ code: "unsupported_capability", message });
      }
      served.embedder.embed(id, query.request);
      return null;
    case "rerank":
      if (served.embedder === null || served.about.use !== "rerank") {
        throw new RequestFailure({ code: "unsupported_capability", message: "this model does not rank documents" });
      }
      served.embedder.rerank(id, query.request);
      return null;
  }
}
