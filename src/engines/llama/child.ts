import { writeSync } from "node:fs";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { ChatEvent, CompletionRequest, FinishReason, Timings } from "../../core/chat.ts";
import { ApiError, toApiError } from "../../core/errors.ts";
import type { OutputParser, ParsedEvent } from "../parsers/parser.ts";
import { buildCompletionGrammar } from "./prompting/answer-grammar.ts";
import { messageAt } from "./prefix/cache-miss.ts";
import type {
  ChildMessage,
  Failure,
  GenerateJob,
  Output,
  ParentMessage,
  Query,
  WorkerEvent,
  WorkerMessage,
  WorkerStart,
} from "./messages.ts";
import { ownFailure } from "./process/process-failure.ts";
import { Prompts } from "./prompting/prompts.ts";
import { Pulse } from "./process/pulse.ts";
import { type RequestDefaults, toSampling } from "./settings.ts";

/**
 * Entry of the child process of one model. Its main thread talks to the parent, renders prompts and reads the output;
 * the worker thread computes. llama.cpp may abort the whole process: the parent survives it.
 */

/** One chat or completion on its way. */
interface Active {
  readonly parser: OutputParser;
  readonly isReasoning: () => boolean;
  /** The index of the message in which a character of the prompt lies. */
  readonly messageAt?: (offset: number) => number | undefined;
  toolCalls: number;
  reasoningTokens: number;
}

class ModelProcess {
  readonly #interrupt = new SharedArrayBuffer(8);
  readonly #pulse = Pulse.allocate();
  readonly #active = new Map<number, Active>();
  #worker: Worker | null = null;
  #ending = false;
  #prompts: Prompts | null = null;
  #defaults: RequestDefaults = {};

  receive(message: ParentMessage): void {
    switch (message.type) {
      case "load":
        this.#load(message);
        break;
      case "chat":
        this.#guard(message.id, () => this.#chat(message));
        break;
      case "complete":
        this.#guard(message.id, () => this.#complete(message));
        break;
      case "query":
        this.#query(message.id, message.query);
        break;
      case "abort":
        this.#active.delete(message.id);
        this.#post(message);
        // After the message: the worker clears the byte before it reads its messages.
        Atomics.store(new Uint8Array(this.#interrupt), 0, 1);
        break;
      case "ping":
        send({ type: "pong", report: new Pulse(this.#pulse).read() });
        break;
      case "stop":
        if (this.#worker === null) process.exit(0);
        this.#post(message);
        Atomics.store(new Uint8Array(this.#interrupt), 0, 1);
    }
  }

  #load(message: ParentMessage & { type: "load" }): void {
    this.#defaults = message.defaults;
    const start: WorkerStart = { settings: message.settings, interrupt: this.#interrupt, pulse: this.#pulse };
    const worker = startWorker(start);
    worker.on("message", (event: WorkerEvent) => this.#onWorker(event));
    worker.on("error", fail);
    worker.on("exit", (code) => {
      if (!this.#ending) fail(new Error(`the computing thread ended with exit code ${code}`));
    });
    this.#worker = worker;
  }

  #onWorker(event: WorkerEvent): void {
    switch (event.type) {
      case "outputs":
        this.#relay(event.outputs);
        break;
      case "stopped":
        this.#ending = true;
        process.exit(0);
        break;
      case "ready":
        this.#prompts = new Prompts(event.model, this.#defaults);
        if (this.#prompts.warning !== null && event.model.use === "chat")
          send({ type: "warning", message: this.#prompts.warning });
        send(event);
        break;
      case "load-failed":
        this.#ending = true;
        process.send?.(event satisfies ChildMessage, () => process.exit(1));
        break;
      default:
        send(event);
    }
  }

  #chat(message: ParentMessage & { type: "chat" }): void {
    if (this.#prompts === null) throw new ApiError("model_loading", "the model is still being loaded");
    const { job, parser, loosened } = this.#prompts.prepare(message.id, message.request);
    warnOfLoosened(loosened);
    this.#begin(job, {
      parser,
      isReasoning: () => parser.reasoning,
      messageAt: (offset) => messageAt(job.prompt, message.request.messages, offset),
    });
  }

  #query(id: number, query: Query): void {
    if (query.type !== "apply-template") {
      this.#post({ type: "query", id, query });
      return;
    }
    this.#guard(id, () => {
      if (this.#prompts === null) throw new ApiError("model_loading", "the model is still being loaded");
      send({ type: "answer", id, answer: this.#prompts.apply(query.request) });
    });
  }

  #complete({ id, request }: ParentMessage & { type: "complete" }): void {
    const { grammar, loosened } = buildCompletionGrammar(request);
    warnOfLoosened(loosened);
    const job: GenerateJob = {
      type: "generate",
      id,
      prompt: completionPrompt(request),
      param: "prompt",
      sampling: toSampling(request, this.#defaults),
      maxTokens: request.maxTokens ?? this.#defaults.maxNewTokens ?? null,
      stop: [...request.stop],
      topLogprobs: request.topLogprobs ?? null,
      promptLogprobs: request.promptLogprobs ?? false,
      preserved: [],
      grammar,
      session: null,
      priority: request.priority,
    };
    const parser: OutputParser = { push: (text) => (text === "" ? [] : [{ type: "text", text }]), end: () => [] };
    this.#begin(job, { parser, isReasoning: () => false });
  }

  #begin(job: GenerateJob, reading: Pick<Active, "parser" | "isReasoning" | "messageAt">): void {
    this.#active.set(job.id, { ...reading, toolCalls: 0, reasoningTokens: 0 });
    this.#post(job);
  }

  #relay(outputs: readonly Output[]): void {
    const events = new Map<number, ChatEvent[]>();
    for (const output of outputs) {
      if (output.type === "answer") send({ type: "answer", id: output.id, answer: output.answer });
      else if (output.type === "failed") this.#fail(output.id, output.failure);
      else {
        const active = this.#active.get(output.id);
        if (active === undefined) continue;
        const said = readOutput(active, output);
        if (output.type === "finish") this.#active.delete(output.id);
        const list = events.get(output.id);
        if (list === undefined) events.set(output.id, said);
        else list.push(...said);
      }
    }
    const told = [...events].filter(([, list]) => list.length > 0);
    if (told.length > 0) send({ type: "events", events: told });
  }

  #guard(id: number, work: () => void): void {
    try {
      work();
    } catch (error) {
      const failure = toApiError(error);
      if (failure.code === "internal_error")
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
      this.#fail(id, {
        code: failure.code,
        message: failure.message,
        ...(failure.param === null ? {} : { param: failure.param }),
      });
    }
  }

  #fail(id: number, failure: Failure): void {
    this.#active.delete(id);
    send({ type: "failed", id, failure });
  }

  #post(message: WorkerMessage): void {
    this.#worker?.postMessage(message);
  }
}

/**
 * The worker's entry lies beside this file, in `src` as in `dist`. Where the sources run (under tsx), it is imported by
 * tsx's own function: Node 20 does not hand a loader on to worker threads.
 */
function startWorker(workerData: WorkerStart): Worker {
  const entry = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);
  if (!entry.pathname.endsWith(".ts")) return new Worker(entry, { workerData });
  const [tsx, source, here] = [import.meta.resolve("tsx/esm/api"), entry.href, import.meta.url].map((url) =>
    JSON.stringify(url),
  );
  return new Worker(`import(${tsx}).then(({ tsImport }) => tsImport(${source}, ${here}))`, { eval: true, workerData });
}

function completionPrompt({ prompt, suffix, files }: CompletionRequest): GenerateJob["prompt"] {
  if (files === undefined && (suffix === undefined || suffix === "")) return prompt;
  if (typeof prompt === "string") return { prefix: prompt, suffix: suffix ?? "", files: files ?? null };
  throw new ApiError("unsupported_parameter", "a prompt with a suffix must be text, not token ids", {
    param: "suffix",
  });
}

function readOutput(active: Active, output: Output & { type: "text" | "progress" | "finish" }): ChatEvent[] {
  if (output.type === "progress") return [output.event];
  if (output.type === "finish") {
    const rest = count(active, active.parser.end());
    const reason: FinishReason = output.reason === "stop" && active.toolCalls > 0 ? "tool-calls" : output.reason;
    const usage =
      active.reasoningTokens > 0 ? { ...output.usage, reasoningTokens: active.reasoningTokens } : output.usage;
    const timings =
      output.timings === undefined ? {} : { timings: withMessage(active, output.timings, output.missOffset) };
    const { stopSequence } = output;
    const stopped = stopSequence === undefined ? {} : { stopSequence };
    return [...rest, { type: "finish", reason, ...stopped, usage, ...timings }];
  }
  const said: ChatEvent[] = output.text === "" ? [] : count(active, active.parser.push(output.text));
  if (active.isReasoning()) active.reasoningTokens += output.tokens;
  if (output.logprobs !== undefined) {
    const about = output.prompt === undefined ? {} : { prompt: output.prompt };
    said.push({ type: "logprobs", tokens: output.logprobs, ...about });
  }
  return said;
}

/** Adds the message in which the prompt left what was cached. */
function withMessage(active: Active, timings: Timings, offset: number | undefined): Timings {
  const message = offset === undefined || timings.cacheMiss === undefined ? undefined : active.messageAt?.(offset);
  if (message === undefined || timings.cacheMiss === undefined) return timings;
  return { ...timings, cacheMiss: { ...timings.cacheMiss, message } };
}

function count(active: Active, events: ParsedEvent[]): ParsedEvent[] {
  for (const event of events) if (event.type === "tool-call" && event.id !== undefined) active.toolCalls += 1;
  return events;
}

function warnOfLoosened(loosened: readonly string[]): void {
  if (loosened.length === 0) return;
  send({ type: "warning", message: `a schema uses ${loosened.join(", ")}, which the answer is not held to` });
}

function send(message: ChildMessage): void {
  process.send?.(message);
}

/** Whatever nobody foresaw: its requests learn the cause from the log. */
function fail(error: Error): void {
  // Not through `process.stderr`: what is still to be written when a process exits is lost.
  writeSync(2, `${error.stack ?? error.message}\n`);
  process.exit(ownFailure);
}

process.on("uncaughtException", fail);
const model = new ModelProcess();
process.on("message", (message) => model.receive(message as ParentMessage));
// A signal to the whole group (Ctrl-C, systemd) is for the parent, which lets running answers end.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
// Without a parent nobody is left to answer. The worker may sit in a call that does not return for seconds.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
