import { Generation, type Ground } from "./generation.ts";
import type { GenerateJob, Output } from "./messages.ts";
import type { NativeContext, Row } from "./native-context.ts";
import { Slot, chooseSlot, commonPrefix } from "./slots.ts";

/** How the work is cut. */
export interface Pace {
  readonly maxQueue: number;
  /** Tokens of prompts in one step while nobody generates. */
  readonly chunk: number;
  /** Milliseconds that prompts may add to a step while others generate. */
  readonly stallMs: number;
}

interface Waiting {
  readonly generation: Generation;
  /** Last position told. */
  position: number;
}

/** llama.cpp's CPU attention takes a path ten times slower for fewer rows (measured: 320 against 30 ms a step at 3,000 tokens). */
const smallestChunk = 64;

/**
 * Continuous batching over the slots of one context: every step computes one token for each request that generates and
 * fills the rest of the batch with chunks of the prompts that wait, first come first served. Prompts yield to streams:
 * while others generate, a chunk is cut so small that a step stays within `stallMs`.
 */
export class Scheduler {
  readonly #ground: Ground;
  readonly #context: NativeContext;
  readonly #pace: Pace;
  readonly #slots: Slot[];
  readonly #queue: Waiting[] = [];
  #outputs: Output[] = [];
  #arrivals = 0;
  /** Prompt tokens per millisecond, measured. */
  #speed = 0.5;

  constructor(ground: Ground, context: NativeContext, pace: Pace) {
    this.#ground = ground;
    this.#context = context;
    this.#pace = pace;
    this.#slots = Array.from({ length: context.sequences }, (_, sequence) => new Slot(sequence));
  }

  get busy(): boolean {
    return this.#queue.length > 0 || this.#slots.some((slot) => slot.generation !== null);
  }

  /** Takes what was said since the last call. */
  takeOutputs(): Output[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  submit(job: GenerateJob): void {
    if (this.#queue.length >= this.#pace.maxQueue) {
      const message = `${this.#queue.length} requests already wait for this model, which is as many as may`;
      this.#fail(job.id, { code: "concurrency_limit", message });
      return;
    }
    const prompt = this.#promptTokens(job);
    if (prompt === null) return;
    const generation = new Generation(this.#ground, job, prompt);
    if (!generation.grammarIsValid) {
      generation.free();
      const message = "llama.cpp cannot read the grammar made from this request's schema";
      this.#fail(job.id, { code: "unsupported_parameter", message, param: "response_format" });
      return;
    }
    this.#queue.push({ generation, position: -1 });
  }

  abort(id: number): void {
    const waiting = this.#queue.findIndex((entry) => entry.generation.job.id === id);
    if (waiting >= 0) {
      for (const entry of this.#queue.splice(waiting, 1)) entry.generation.free();
      return;
    }
    for (const slot of this.#slots) if (slot.generation?.job.id === id) this.#release(slot);
  }

  /** Computes one batch. Blocks for as long as that takes. */
  step(now: () => number): void {
    this.#admit();
    const rows: Row[] = [];
    const shares = this.#plan(rows);
    if (rows.length === 0) return;
    const started = now();
    const result = this.#context.decode(rows);
    if (result !== "done") {
      this.#repair(shares, result);
      return;
    }
    const prompt = shares.reduce((sum, share) => sum + (share.count > 1 ? share.count : 0), 0);
    if (prompt >= 16) this.#speed = (this.#speed + prompt / Math.max(1, now() - started)) / 2;
    for (const share of shares) this.#settle(share);
  }

  #promptTokens(job: GenerateJob): number[] | null {
    const { vocabulary } = this.#ground.model;
    const prompt =
      typeof job.prompt === "string"
        ? vocabulary.tokenize(job.prompt, { addSpecial: true, parseSpecial: true })
        : job.prompt;
    const unknown = prompt.find((token) => !vocabulary.has(token));
    if (unknown !== undefined) {
      const message = `the prompt holds token ${unknown}; this model's tokens are 0 … ${vocabulary.size - 1}`;
      this.#fail(job.id, { code: "invalid_value", message, param: job.param });
      return null;
    }
    if (prompt.length === 0) {
      this.#fail(job.id, { code: "invalid_value", message: "the prompt is empty", param: job.param });
      return null;
    }
    const limit = this.#ground.contextLength;
    if (prompt.length >= limit) {
      const message = `This model's maximum context length is ${limit} tokens. However, your messages resulted in ${prompt.length} tokens.`;
      this.#fail(job.id, { code: "context_length_exceeded", message, param: job.param });
      return null;
    }
    return prompt;
  }

  #admit(): void {
    while (this.#queue.length > 0) {
      const free = this.#slots.filter((slot) => slot.generation === null);
      const first = this.#queue[0];
      if (free.length === 0 || first === undefined) break;
      this.#queue.shift();
      const { finished } = first.generation;
      if (finished !== null) {
        this.#outputs.push(finished);
        first.generation.free();
        continue;
      }
      this.#begin(chooseSlot(free, first.generation), first.generation);
    }
    for (const [position, entry] of this.#queue.entries()) {
      if (entry.position === position) continue;
      entry.position = position;
      const event = { type: "progress", phase: "queued", position } as const;
      this.#outputs.push({ id: entry.generation.job.id, type: "progress", event });
    }
  }

  /** Keeps what the slot's cache has in common with the prompt; at least the last token is computed, for its logits. */
  #begin(slot: Slot, generation: Generation): void {
    const shared = commonPrefix(slot.tokens, generation.tokens);
    const keep = Math.min(shared, generation.promptLength - 1);
    const kept = keep === slot.tokens.length || this.#context.truncate(slot.sequence, keep) ? keep : 0;
    slot.start(generation, kept, ++this.#arrivals);
    generation.cachedTokens = kept;
  }

  #plan(rows: Row[]): Share[] {
    const active = this.#slots.filter((slot) => slot.generation !== null).toSorted((a, b) => a.arrival - b.arrival);
    const generating = active.filter((slot) => slot.pending === 1);
    const reading = active.filter((slot) => slot.pending > 1);
    const shares = generating.map((slot) => addRows(rows, slot, 1));
    const fair = Math.max(smallestChunk, Math.round(this.#speed * this.#pace.stallMs));
    let budget = Math.min(
      this.#context.batchSize - rows.length,
      generating.length > 0 ? Math.min(fair, this.#pace.chunk) : this.#pace.chunk,
    );
    for (const slot of reading) {
      const count = Math.min(budget, slot.pending);
      if (count <= 0) break;
      budget -= count;
      shares.push(addRows(rows, slot, count));
    }
    return shares;
  }

  #settle(share: Share): void {
    const { slot } = share;
    const { generation } = slot;
    if (generation === null) return;
    slot.computed(share.count);
    if (share.outputRow === null) {
      const event = {
        type: "progress",
        phase: "prefill",
        done: slot.tokens.length,
        total: generation.promptLength,
      } as const;
      this.#outputs.push({ id: generation.job.id, type: "progress", event });
      return;
    }
    const outputs = generation.advance(this.#context, share.outputRow);
    this.#outputs.push(...outputs);
    if (outputs.some((output) => output.type === "finish" || output.type === "failed")) this.#release(slot);
  }

  /** After a decode that was broken off: every slot goes on from what its cache really holds. */
  #repair(shares: Share[], result: "aborted" | "full"): void {
    for (const { slot, count } of shares) {
      const before = slot.tokens.length;
      const held = Math.min(this.#context.lengthOf(slot.sequence), before + count);
      // The last pending token must be computed again, for its logits are lost.
      const keep = Math.max(0, Math.min(held, before + slot.pending - 1));
      const kept = keep === held || this.#context.truncate(slot.sequence, keep) ? keep : 0;
      slot.rewind(kept);
      if (result === "full" && slot.generation !== null) {
        const message = "the context of llama.cpp has no room for this request";
        this.#fail(slot.generation.job.id, { code: "insufficient_memory", message });
        this.#release(slot);
      }
    }
  }

  #release(slot: Slot): void {
    slot.generation?.free();
    slot.finish(++this.#arrivals);
  }

  #fail(id: number, failure: (Output & { type: "failed" })["failure"]): void {
    this.#outputs.push({ id, type: "failed", failure });
  }
}

/** The rows of a batch that belong to one slot. */
interface Share {
  readonly slot: Slot;
  readonly count: number;
  /** Index of the row whose logits choose the next token; null while the prompt is not at its end. */
  readonly outputRow: number | null;
}

function addRows(rows: Row[], slot: Slot, count: number): Share {
  const tokens = slot.generation?.tokens ?? [];
  const from = slot.tokens.length;
  for (let index = 0; index < count; index++) {
    const position = from + index;
    const output = position === tokens.length - 1;
    rows.push({ token: tokens[position] ?? 0, position, sequence: slot.sequence, output });
  }
  return { slot, count, outputRow: count === slot.pending ? rows.length - 1 : null };
}
