import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { afterAll } from "vitest";
import type { Timings, Usage } from "../../src/core/chat.ts";
import { loadLibrary } from "../../src/engines/llama/native/binding.ts";
import { DrySamplers } from "../../src/engines/llama/generation/dry-samplers.ts";
import { freeGround } from "../../src/engines/llama/generation/generation.ts";
import { type GgufContent, writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { LogprobReader } from "../../src/engines/llama/generation/logprobs.ts";
import type { Failure, GenerateJob, Output } from "../../src/engines/llama/messages.ts";
import type { NativeContext } from "../../src/engines/llama/native/native-context.ts";
import { NativeModel } from "../../src/engines/llama/native/native-model.ts";
import { openContext } from "../../src/engines/llama/native/open-context.ts";
import { openSpeculation } from "../../src/engines/llama/speculation/open-speculation.ts";
import { Candidates } from "../../src/engines/llama/generation/sampler.ts";
import { type Pace, Scheduler } from "../../src/engines/llama/scheduling/scheduler.ts";
import type { PrefixStore } from "../../src/engines/llama/prefix/prefix-store.ts";
import { toSampling, toWorkerSettings } from "../../src/engines/llama/settings.ts";

/** The tokens that one decode computed: how many rows of which sequence, neighbours joined. */
export type Step = readonly { readonly sequence: number; readonly rows: number }[];

/** What a request came to. */
export interface Done {
  readonly text: string;
  readonly usage: Usage | undefined;
  readonly timings: Timings | undefined;
  readonly failure: Failure | undefined;
}

export interface Bench {
  readonly scheduler: Scheduler;
  readonly context: NativeContext;
  /** The byte that breaks off a decode. llama.cpp reads it for as long as the context lives. */
  readonly interrupt: SharedArrayBuffer;
  /** Every decode so far. */
  readonly steps: Step[];
  /** Ids of requests in the order of their ends. */
  readonly order: number[];
  /** Everything that was said. */
  readonly outputs: Output[];
  /** Computes one step and reads what it said; false when there was nothing to compute. */
  step(): boolean;
  /** Computes until nobody is left, waiting for files where there is nothing else to do. */
  run(): Promise<void>;
  done(id: number): Done;
  tokens(text: string): number[];
  close(): void;
}

let library: ReturnType<typeof loadLibrary> | undefined;
const folder = mkdtempSync(join(tmpdir(), "lair-scheduler-"));
const benches: Bench[] = [];
let files = 0;

afterAll(() => {
  for (const bench of benches) bench.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A folder of this test file's own. */
export function newFolder(): string {
  return mkdtempSync(join(folder, "cache-"));
}

/** A file of this test's models. */
export function modelFile(content: GgufContent): string {
  const path = join(folder, `model-${files++}.gguf`);
  writeGguf(path, content);
  return path;
}

/** The scheduler on a real model in this process, driven step by step. */
export async function openBench(
  path: string,
  options: {
    sessions?: number;
    contextLength?: number;
    ubatchSize?: number;
    pace?: Partial<Pace>;
    store?: (context: NativeContext) => PrefixStore;
    /** What guesses tokens ahead. */
    speculation?: { draft: string; draftMax?: number; draftMin?: number };
  } = {},
): Promise<Bench> {
  const { sessions = 4, contextLength = 1024, ubatchSize = 128 } = options;
  library ??= loadLibrary();
  // The pool of threads spins between steps, which costs the other tests of this machine their time.
  const llama = { ...(await library), createThreadPool: () => null };
  const settings = toWorkerSettings({ maxSessions: sessions, threads: 1, ubatchSize, ...options.speculation }, path, 1);
  const model = NativeModel.load(llama, settings, () => undefined);
  const interrupt = new SharedArrayBuffer(8);
  const plan = { settings, contextLength, interrupt, pool: null };
  const context = openContext(model, { ...plan, drafts: settings.draftMax });
  const onWarning = (message: string): void => {
    throw new Error(message);
  };
  const speculation = openSpeculation(model, context, { ...plan, onWarning });
  const { vocabulary } = model;
  const ground = {
    model,
    candidates: new Candidates(llama, vocabulary.size),
    dry: new DrySamplers(model),
    logprobs: new LogprobReader((token) => vocabulary.piece(token)),
    contextLength,
    ...(speculation === null ? {} : { speculation }),
  };
  const pace = { maxQueue: 1000, chunk: ubatchSize, stallMs: 150, threads: 1, threadsBatch: 1, ...options.pace };
  const store = options.store?.(context) ?? null;
  const scheduler = new Scheduler(ground, context, { pace, store });
  const steps = watchRows(context);
  const outputs: Output[] = [];
  const order: number[] = [];
  let closed = false;
  const bench: Bench = {
    scheduler,
    context,
    interrupt,
    steps,
    order,
    outputs,
    step() {
      if (steps.length > 3000) throw new Error("the scheduler does not come to an end");
      const computed = scheduler.step();
      for (const output of scheduler.takeOutputs()) {
        outputs.push(output);
        if (output.type === "finish" || output.type === "failed") order.push(output.id);
      }
      return computed;
    },
    async run() {
      while (scheduler.busy) {
        if (bench.step() || !scheduler.busy) continue;
        if (store?.busy !== true) throw new Error("the scheduler stands still");
        await setImmediate();
      }
    },
    done: (id) => collect(outputs.filter((output) => output.id === id)),
    tokens: (text) => vocabulary.tokenize(text, { addSpecial: true, parseSpecial: true }),
    close() {
      if (closed) return;
      closed = true;
      freeGround(ground);
      context.free();
      model.free();
    },
  };
  benches.push(bench);
  return bench;
}

/** A greedy request of so many tokens. */
export function job(id: number, prompt: string | number[], more: Partial<GenerateJob> = {}): GenerateJob {
  return {
    type: "generate",
    id,
    prompt,
    param: "prompt",
    sampling: toSampling({ temperature: 0, seed: 1 }, {}),
    maxTokens: 6,
    stop: [],
    topLogprobs: 3,
    preserved: [],
    grammar: null,
    session: null,
    ...more,
  };
}

/** `count` words, the same for the same seed. */
export function words(count: number, seed = 1): string {
  const list = ["rain", "north", "stays", "over", "the", "sea", "mainly", "tide", "stone", "lamp"];
  let state = seed * 7919;
  const next = (): string => list[(state = (state * 1103515245 + 12345) % 2147483648) % list.length] ?? "";
  return Array.from({ length: count }, next).join(" ");
}

/** The tokens of an answer, each with the log probability that the model gave it. */
export type Trace = readonly (readonly [text: string, logprob: number])[];

export function trace(bench: Bench, id: number): Trace {
  return bench.outputs.flatMap((output) =>
    output.id === id && output.type === "text"
      ? (output.logprobs ?? []).map(({ token, logprob }): [string, number] => [token, logprob])
      : [],
  );
}

/**
 * The largest difference of the log probabilities of two answers; Infinity when their words differ. llama.cpp adds up
 * in another order where a batch has another shape, which moves them by up to 0.05 in a model this small.
 */
export function distance(a: Trace, b: Trace): number {
  if (a.length !== b.length || a.some(([text], index) => text !== b[index]?.[0])) return Infinity;
  return Math.max(0, ...a.map(([, logprob], index) => Math.abs(logprob - (b[index]?.[1] ?? Infinity))));
}

function watchRows(context: NativeContext): Step[] {
  const steps: Step[] = [];
  let current: { sequence: number; rows: number }[] = [];
  const { addRow, decode } = context;
  context.addRow = (...args) => {
    const last = current.at(-1);
    if (last?.sequence === args[2]) last.rows += 1;
    else current.push({ sequence: args[2], rows: 1 });
    return addRow.apply(context, args);
  };
  context.decode = (...args) => {
    steps.push(current);
    current = [];
    return decode.apply(context, args);
  };
  return steps;
}

function collect(outputs: readonly Output[]): Done {
  const finish = outputs.find((output) => output.type === "finish");
  return {
    text: outputs.map((output) => (output.type === "text" ? output.text : "")).join(""),
    usage: finish?.usage,
    timings: finish?.timings,
    failure: outputs.find((output) => output.type === "failed")?.failure,
  };
}
