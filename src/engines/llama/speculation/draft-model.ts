import type { LogprobReader } from "../generation/logprobs.ts";
import type { NativeContext } from "../native/native-context.ts";
import type { NativeModel } from "../native/native-model.ts";
import { commonPrefix } from "../scheduling/slots.ts";
import type { Drafter, DraftStream } from "./speculation.ts";

/** A second row costs two thirds of a step on a CPU (see `Speculation`): what is less likely right does not pay. */
const leastProbability = 0.7;
/** Prompt tokens that one step reads: streams wait for it. */
const catchUp = 512;

/** Vocabularies of one family differ by some unused tokens at their end (llama.cpp's own tolerance). */
const sizeTolerance = 128;
/** Tokens that are compared. */
const samples = 512;

/** Guesses by asking a smaller model with the same vocabulary, which reads along in a context of its own. */
export class DraftModel implements Drafter {
  readonly #model: NativeModel;
  readonly #context: NativeContext;
  readonly #reader: LogprobReader;
  /** What the context holds, by sequence. */
  readonly #held: number[][];

  constructor(model: NativeModel, context: NativeContext, reader: LogprobReader) {
    this.#model = model;
    this.#context = context;
    this.#reader = reader;
    this.#held = Array.from({ length: context.sequences }, () => []);
  }

  draft(streams: readonly DraftStream[]): number[][] {
    const guesses = streams.map((): number[] => []);
    let rows = this.#readAlong(streams);
    while (rows.size > 0) {
      if (this.#context.decode() !== "done") return this.#giveUp(streams);
      const next = new Map<number, { readonly token: number; readonly position: number }>();
      for (const [index, row] of rows) {
        const { token, probability } = this.#reader.likeliest(this.#context.logits(row));
        const guess = guesses[index];
        const stream = streams[index];
        if (guess === undefined || stream === undefined || probability < leastProbability) continue;
        guess.push(token);
        const position = stream.tokens.length + guess.length - 1;
        // The last guess itself need not be computed.
        if (guess.length < stream.most && position + 1 < this.#context.sequenceLength)
          next.set(index, { token, position });
      }
      rows = new Map();
      for (const [index, { token, position }] of next) {
        const { sequence } = streams[index] as DraftStream;
        rows.set(index, this.#add(sequence, token, position, true));
      }
    }
    return guesses;
  }

  free(): void {
    this.#context.free();
    this.#model.free();
  }

  /** Adds what the model has not read of each stream; the row of the last token, for those that are read to their end. */
  #readAlong(streams: readonly DraftStream[]): Map<number, number> {
    const rows = new Map<number, number>();
    let budget = Math.min(catchUp, this.#context.batchSize);
    for (const [index, { tokens, sequence }] of streams.entries()) {
      if (tokens.length >= this.#context.sequenceLength) continue;
      const held = this.#held[sequence] ?? [];
      const kept = Math.min(commonPrefix(held, tokens), tokens.length - 1);
      if (kept < held.length && !this.#context.truncate(sequence, kept)) held.length = 0;
      else held.length = kept;
      const end = Math.min(tokens.length, held.length + budget);
      budget -= end - held.length;
      for (let position = held.length; position < end; position++) {
        const row = this.#add(sequence, tokens[position] ?? -1, position, position === tokens.length - 1);
        if (position === tokens.length - 1) rows.set(index, row);
      }
    }
    if (rows.size === 0 && this.#context.rows > 0 && this.#context.decode() !== "done") this.#giveUp(streams);
    return rows;
  }

  #add(sequence: number, token: number, position: number, output: boolean): number {
    const row = this.#context.addRow(token, position, sequence, output);
    this.#held[sequence]?.push(token);
    return row;
  }

  /** After a decode that was broken off: what these sequences hold is not known any more. */
  #giveUp(streams: readonly DraftStream[]): number[][] {
    for (const { sequence } of streams) {
      this.#context.forget(sequence);
      this.#held[sequence] = [];
    }
    return streams.map(() => []);
  }
}

/** Why a model cannot guess for another: a token must mean the same to both, and its memory go back. Null: it can. */
export function draftMisfit(draft: NativeModel, model: NativeModel, context: NativeContext): string | null {
  const [ours, theirs] = [model.vocabulary, draft.vocabulary];
  if (!context.rewindsFreely) return "its memory cannot go back after a wrong guess";
  if (Math.abs(ours.size - theirs.size) > sizeTolerance)
    return `its vocabulary has ${theirs.size} tokens, the model's ${ours.size}`;
  if (ours.bos !== theirs.bos || ours.eos !== theirs.eos) return "its begin and end tokens are others";
  const common = Math.min(ours.size, theirs.size);
  for (let sample = 0; sample < samples; sample++) {
    const token = Math.floor((sample * common) / samples);
    if (ours.piece(token).equals(theirs.piece(token))) continue;
    const [said, meant] = [theirs.textOf(token), ours.textOf(token)].map((text) => JSON.stringify(text));
    return `token ${token} is ${said} to it and ${meant} to the model`;
  }
  return null;
}
