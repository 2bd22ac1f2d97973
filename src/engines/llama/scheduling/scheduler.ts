import { Course } from "./course.ts";
import { Generation, type Ground } from "../generation/generation.ts";
import type { GenerateJob, Output } from "../messages.ts";
import type { NativeContext } from "../native/native-context.ts";
import { portionPrompts } from "./portions.ts";
import { PromptPace } from "./prompt-pace.ts";
import { PrefixCache } from "../prefix/prefix-cache.ts";
import type { PrefixStore } from "../prefix/prefix-store.ts";
import { toPromptTokens } from "../prompting/prompt-tokens.ts";
import { Slot, chooseSlot } from "./slots.ts";
import { ThreadCount } from "./thread-count.ts";
import { WaitingLine } from "./waiting-line.ts";

/** How the work is cut. */
export interface Pace {
  readonly maxQueue: number;
  /** Tokens of prompts in one step while nobody generates. */
  readonly chunk: number;
  /** Milliseconds that prompts may add to a step while others generate. */
  readonly stallMs: number;
  /** Threads that compute streams, and prompts. */
  readonly threads: number;
  readonly threadsBatch: number;
}

export interface SchedulerOptions {
  readonly pace: Pace;
  /** Where caches are kept when their slots are needed, and when the process ends. Default: nowhere. */
  readonly store?: PrefixStore | null;
  /** Called when there may be something to compute again: a file has been read. */
  readonly wake?: () => void;
}

/** The rows of a batch that belong to one slot. */
interface Share {
  readonly slot: Slot;
  readonly count: number;
  /** Index of the first of its rows, and of the one whose logits choose the next token; null while the prompt is not at its end. */
  readonly firstRow: number;
  readonly outputRow: number | null;
  /** Tokens guessed ahead, whose rows follow. */
  readonly draft: readonly number[];
}

/**
 * Continuous batching over the slots of one context: every step computes one token for each request that generates and
 * fills the rest of the batch with chunks of the prompts that wait. Prompts yield to streams: while others generate, a
 * chunk is cut so small that a step stays within `stallMs`.
 */
export class Scheduler {
  readonly #ground: Ground;
  readonly #context: NativeContext;
  readonly #pace: Pace;
  /** In the order of their sequences: llama.cpp computes only neighbours in one pass. */
  readonly #slots: readonly Slot[];
  readonly #prefixes: PrefixCache;
  readonly #line: WaitingLine;
  readonly #courses = new Map<Generation, Course>();
  #outputs: Output[] = [];
  #arrivals = 0;
  #steps = 0;
  /** Whether somebody in the line has another position than was told. */
  #lineMoved = false;
  readonly #promptPace: PromptPace;
  readonly #threads: ThreadCount;

  constructor(
    ground: Ground,
    context: NativeContext,
    { pace, store = null, wake = () => undefined }: SchedulerOptions,
  ) {
    this.#ground = ground;
    this.#context = context;
    this.#pace = pace;
    this.#slots = Array.from({ length: context.sequences }, (_, sequence) => new Slot(sequence));
    this.#prefixes = new PrefixCache(context, this.#slots, { store, wake });
    this.#line = new WaitingLine(pace.maxQueue);
    this.#threads = new ThreadCount(pace.threads);
    this.#promptPace = new PromptPace(pace.stallMs);
  }

  get busy(): boolean {
    return this.#line.length > 0 || this.#slots.some((slot) => slot.generation !== null);
  }

  /** Takes what was said since the last call. */
  takeOutputs(): Output[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  submit(job: GenerateJob): void {
    if (this.#line.full) {
      const message = `${this.#line.length} requests already wait for this model, which is as many as may`;
      this.#fail(job.id, { code: "concurrency_limit", message });
      return;
    }
    const prompt = toPromptTokens(this.#ground.model.vocabulary, job, this.#ground.contextLength);
    if (!Array.isArray(prompt)) {
      this.#fail(job.id, prompt);
      return;
    }
    const generation = new Generation(this.#ground, job, prompt);
    if (!generation.grammarIsValid) {
      generation.free();
      const message = "llama.cpp cannot read the grammar made from this request's schema";
      this.#fail(job.id, { code: "unsupported_parameter", message, param: "response_format" });
      return;
    }
    this.#line.push(generation, performance.now());
    this.#lineMoved = true;
    const event = { type: "progress", phase: "prefill", done: 0, total: prompt.length, accepted: true } as const;
    this.#outputs.push({ id: job.id, type: "progress", event });
  }

  abort(id: number): void {
    const waiting = this.#line.remove(id);
    if (waiting !== undefined) {
      waiting.generation.free();
      this.#lineMoved = true;
      return;
    }
    for (const slot of this.#slots) if (slot.generation?.job.id === id) this.#release(slot);
  }

  /** Computes one batch, and blocks for as long as that takes. False when there was nothing to compute. */
  step(): boolean {
    this.#admit();
    this.#seat();
    const shares = this.#plan();
    if (shares.length === 0) return false;
    const prompt = shares.reduce((sum, share) => sum + (share.count > 1 ? share.count : 0), 0);
    const { threads, threadsBatch } = this.#pace;
    if (prompt === 0) this.#context.setThreads(this.#threads.count, this.#threads.count);
    else this.#context.setThreads(threads, threadsBatch);
    const started = performance.now();
    const result = this.#context.decode();
    this.#steps += 1;
    if (result !== "done") {
      this.#repair(shares, result);
      return true;
    }
    const took = performance.now() - started;
    if (prompt === 0)
      this.#threads.observe(
        shares.reduce((sum, { draft }) => sum + 1 + draft.length, 0),
        took,
      );
    else this.#promptPace.observe(prompt, took);
    for (const share of shares) this.#settle(share);
    return true;
  }

  /** Puts the cache of one slot on disk, if there is one that is worth it and not there yet. */
  save(which: "idle" | "all"): boolean {
    return this.#prefixes.save(which);
  }

  /** Gives slots to those who wait. */
  #admit(): void {
    while (this.#line.length > 0) {
      const free = this.#slots.filter((slot) => slot.generation === null);
      const next = free.length === 0 ? undefined : this.#line.shift();
      if (next === undefined) break;
      this.#lineMoved = true;
      const { generation } = next;
      const { finished } = generation;
      if (finished !== null) {
        this.#outputs.push(finished);
        generation.free();
        continue;
      }
      const slot = chooseSlot(generation, {
        free,
        longest: this.#prefixes.longest(generation.tokens),
        now: this.#arrivals,
        usable: (candidate, shared) => this.#prefixes.usable(candidate, shared),
      });
      slot.take(generation, ++this.#arrivals);
      this.#courses.set(generation, new Course(this.#ground.model.vocabulary, next.since));
    }
    if (!this.#lineMoved) return;
    this.#lineMoved = false;
    for (const { id, position } of this.#line.moved()) {
      this.#outputs.push({ id, type: "progress", event: { type: "progress", phase: "queued", position } });
    }
  }

  /** Lets those begin whose prompt's beginning is there. */
  #seat(): void {
    let unseated = this.#slots.filter((slot) => slot.generation !== null && !slot.seated);
    if (unseated.length > 1) unseated = unseated.sort((a, b) => a.arrival - b.arrival);
    for (const slot of unseated) {
      const { generation } = slot;
      if (generation === null) continue;
      const seating = this.#prefixes.seat(slot, generation);
      const course = this.#courses.get(generation);
      if (seating !== null && course !== undefined) course.miss = seating.miss;
    }
  }

  /** Fills the next batch: a row for each stream, and as much of the prompts as may be. */
  #plan(): Share[] {
    const readers = this.#slots.filter((slot) => slot.pending > 1);
    const streams = this.#slots.reduce((count, slot) => count + (slot.pending === 1 ? 1 : 0), 0);
    const drafts = this.#drafts();
    const guessed = drafts === null ? 0 : [...drafts.values()].reduce((sum, draft) => sum + draft.length, 0);
    const portions = readers.length === 0 ? null : this.#portions(readers, streams + guessed);
    const shares: Share[] = [];
    for (const slot of this.#slots) {
      const count = slot.pending === 1 ? 1 : (portions?.get(slot) ?? 0);
      if (count > 0) shares.push(this.#addRows(slot, count, drafts?.get(slot) ?? []));
    }
    return shares;
  }

  /** What is guessed of the streams; null without speculation. */
  #drafts(): Map<Slot, readonly number[]> | null {
    const { speculation, contextLength } = this.#ground;
    if (speculation === undefined) return null;
    const streams: { slot: Slot; tokens: readonly number[]; sequence: number; room: number }[] = [];
    for (const slot of this.#slots) {
      if (slot.pending !== 1 || slot.generation === null) continue;
      const { tokens, draftRoom } = slot.generation;
      const room = Math.min(draftRoom, contextLength - tokens.length);
      if (room > 0) streams.push({ slot, tokens, sequence: slot.sequence, room });
    }
    const guesses = streams.length === 0 ? [] : speculation.draft(streams);
    return new Map(streams.map(({ slot }, index) => [slot, guesses[index] ?? []]));
  }

  #addRows(slot: Slot, count: number, draft: readonly number[]): Share {
    const tokens = slot.generation?.tokens ?? [];
    const every = slot.generation?.readsPromptLogits === true;
    const end = slot.length + count;
    let row = 0;
    for (let position = slot.length; position < end; position++) {
      const output = every || position === tokens.length - 1;
      row = this.#context.addRow(tokens[position] ?? -1, position, slot.sequence, output);
    }
    for (const [index, token] of draft.entries()) this.#context.addRow(token, end + index, slot.sequence, true);
    return { slot, count, firstRow: row - count + 1, outputRow: count === slot.pending ? row : null, draft };
  }

  /** `streams`: rows that the streams have in this step. */
  #portions(readers: readonly Slot[], streams: number): Map<Slot, number> {
    const { chunk: most } = this.#pace;
    const chunk = streams > 0 ? Math.min(this.#promptPace.rows, most) : most;
    return portionPrompts(readers, {
      rows: Math.min(chunk, this.#context.batchSize - streams),
      logits: this.#context.outputLimit - streams - readers.length,
      step: this.#steps,
      boundary: (slot) => this.#prefixes.boundary(slot),
    });
  }

  #settle(share: Share): void {
    const { slot, count, firstRow, outputRow } = share;
    const { generation } = slot;
    if (generation === null) return;
    if (generation.readsPromptLogits) {
      for (let index = 0; index < count; index++)
        generation.observePrompt(this.#context, firstRow + index, slot.length + index);
    }
    slot.length += count;
    if (outputRow === null) {
      this.#prefixes.passed(slot);
      const event = {
        type: "progress",
        phase: "prefill",
        done: slot.length,
        total: generation.promptLength,
      } as const;
      this.#outputs.push({ id: generation.job.id, type: "progress", event });
      return;
    }
    this.#courses.get(generation)?.reached();
    const { draft } = share;
    generation.drafted += draft.length;
    const before = slot.length;
    let over = this.#advance(generation, outputRow);
    for (const [index, token] of draft.entries()) {
      // The model's own choice decides: a guess only saves computing it once it is chosen.
      if (over || generation.tokens.at(-1) !== token) break;
      slot.length += 1;
      generation.accepted += 1;
      over = this.#advance(generation, outputRow + 1 + index);
    }
    if (draft.length > 0) this.#judge(share, generation, slot.length - before);
    if (over) this.#release(slot);
  }

  /** Chooses the next token of a request; true when that was its last. */
  #advance(generation: Generation, row: number): boolean {
    const course = this.#courses.get(generation);
    let over = false;
    for (const output of generation.advance(this.#context, row)) {
      over ||= output.type === "finish" || output.type === "failed";
      this.#outputs.push(course !== undefined && output.type === "finish" ? course.tell(output, generation) : output);
    }
    return over;
  }

  /** Takes what was guessed wrong out of the cache. */
  #judge({ slot, draft }: Share, generation: Generation, accepted: number): void {
    this.#ground.speculation?.learn(generation.tokens, draft.length, accepted);
    if (accepted < draft.length && !this.#context.truncate(slot.sequence, slot.length)) slot.length = 0;
  }

  /** After a decode that was broken off: every slot goes on from what its cache really holds. */
  #repair(shares: readonly Share[], result: "aborted" | "full"): void {
    for (const { slot, count } of shares) {
      const held = Math.min(this.#context.lengthOf(slot.sequence), slot.length + count);
      // The last pending token must be computed again, for its logits are lost.
      const keep = Math.max(0, Math.min(held, slot.length + slot.pending - 1));
      this.#prefixes.cut(slot, keep);
      if (result === "full" && slot.generation !== null) {
        const message = "the context of llama.cpp has no room for this request";
        this.#fail(slot.generation.job.id, { code: "insufficient_memory", message });
        this.#release(slot);
      }
    }
  }

  #release(slot: Slot): void {
    if (slot.generation !== null) this.#courses.delete(slot.generation);
    slot.generation?.free();
    this.#prefixes.leave(slot);
    slot.finish(++this.#arrivals);
  }

  #fail(id: number, failure: (Output & { type: "failed" })["failure"]): void {
    this.#outputs.push({ id, type: "failed", failure });
  }
}
