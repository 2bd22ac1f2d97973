import { overlap } from "../../parsers/overlap.ts";
import { GrammarState } from "./grammar-state.ts";
import type { Grammar } from "../messages.ts";
import type { NativeModel } from "../native/native-model.ts";
import type { Candidates, Sampler } from "./sampler.ts";

/** What a constraint works on. `shown`: control tokens that are part of the text. */
interface Ground {
  readonly model: NativeModel;
  readonly candidates: Candidates;
  readonly shown: ReadonlySet<number>;
}

/**
 * - `opening`: the output may open with reasoning, or is at once under the grammar.
 * - `reasoning`: free until its closing tag.
 * - `bound`: under the grammar.
 * - `watching`: free until a trigger.
 */
type Phase = "opening" | "reasoning" | "bound" | "watching";

/** Decides when a grammar rules: at once, where the reasoning that opens an output has ended, or from a trigger on. */
export class Constraint {
  /** Whether a token passes the grammar unseen: it opens the reasoning. */
  readonly exempt: (token: number) => boolean;
  readonly #grammar: Grammar;
  readonly #sampler: Sampler;
  readonly #ground: Ground;
  #phase: Phase;
  /** The grammar, ready before it rules; the sampler frees it once it does. */
  #ready: GrammarState | null = null;
  #ruling: GrammarState | null = null;
  /** While `opening`, all that was said; else the end of it, in which a tag or trigger may have begun. */
  #tail = "";
  #exempted = false;
  /** Whether nothing but blanks was said outside the reasoning. */
  #blank = true;
  readonly valid: boolean;

  constructor(grammar: Grammar, sampler: Sampler, ground: Ground) {
    this.#grammar = grammar;
    this.#sampler = sampler;
    this.#ground = ground;
    this.exempt = (token) => this.#opensReasoning(token);
    if (grammar.triggers === undefined) this.#ready = this.#create();
    this.valid = grammar.triggers !== undefined || this.#ready !== null;
    if (grammar.reasoning?.opened === true) this.#phase = "reasoning";
    else if (grammar.triggers !== undefined) this.#phase = grammar.reasoning === null ? "watching" : "opening";
    else {
      this.#rule();
      this.#phase = grammar.reasoning === null ? "bound" : "opening";
    }
  }

  /** What was said last. */
  observe(text: string): void {
    switch (this.#phase) {
      case "opening":
        this.#observeOpening(text);
        break;
      case "reasoning":
        this.#observeReasoning(text);
        break;
      case "watching":
        this.#observeFree(text);
        break;
      case "bound":
        this.#observeBound();
    }
  }

  free(): void {
    this.#ready?.free();
    this.#ready = null;
  }

  #create(): GrammarState | null {
    return GrammarState.create(this.#grammar.text, this.#ground, this.#ground.shown);
  }

  #rule(): void {
    this.#ruling = this.#ready ?? this.#create();
    this.#ready = null;
    if (this.#ruling !== null) this.#sampler.constrain(this.#ruling);
  }

  #opensReasoning(token: number): boolean {
    if (this.#phase !== "opening" || this.#ruling === null) return false;
    const open = this.#grammar.reasoning?.open.trim() ?? "";
    const { vocabulary } = this.#ground.model;
    const said = (this.#tail + vocabulary.piece(token).toString("utf8")).trim();
    // A tag of several tokens opens with one that stands for nothing else; its further ones go where the grammar does not.
    const begun = said !== "" && open.startsWith(said) && (this.#tail.trim() !== "" || vocabulary.isControl(token));
    this.#exempted = said === open || (begun && !this.#ruling.allows(token));
    return this.#exempted;
  }

  #observeOpening(text: string): void {
    const open = this.#grammar.reasoning?.open.trim() ?? "";
    this.#tail += text;
    const said = this.#tail.trim();
    if (said === open || this.#exempted) {
      this.#exempted = false;
      this.#sampler.release();
      this.#ruling = null;
      this.#phase = "reasoning";
      this.#tail = "";
    } else if (!open.startsWith(said)) {
      const all = this.#tail;
      this.#tail = "";
      this.#phase = this.#ruling === null ? "watching" : "bound";
      if (this.#ruling === null) this.#observeFree(all);
    }
  }

  #observeReasoning(text: string): void {
    const close = this.#grammar.reasoning?.close ?? "";
    const seen = this.#tail + text;
    const at = seen.indexOf(close);
    this.#tail = at < 0 ? seen.slice(seen.length - overlap(seen, close)) : "";
    if (at < 0) return;
    if (this.#grammar.triggers === undefined) {
      this.#phase = "bound";
      this.#rule();
    } else {
      this.#phase = "watching";
      this.#observeFree(seen.slice(at + close.length));
    }
  }

  /** Finds a trigger in what was said freely. The grammar then reads it from its first letter; where it cannot, it stays away. */
  #observeFree(text: string): void {
    const triggers = this.#grammar.triggers ?? [];
    let seen = this.#tail + text;
    for (;;) {
      const found = this.#firstTrigger(seen, triggers);
      if (found === null) break;
      const state = this.#create();
      const rest = state?.acceptText(seen.slice(found.at), this.#grammar.once !== true) ?? null;
      if (state !== null && rest === "" && (this.#grammar.once === true || !state.mayEnd)) {
        this.#ruling = state;
        this.#sampler.constrain(state);
        this.#phase = "bound";
        this.#tail = "";
        return;
      }
      // What was said breaks the grammar already, or goes on behind a whole call.
      state?.free();
      this.#blank = false;
      seen = rest ?? seen.slice(found.at + found.length);
    }
    const kept = Math.max(0, ...triggers.map((trigger) => overlap(seen, trigger)));
    this.#tail = seen.slice(seen.length - kept);
    if (seen.slice(0, seen.length - kept).trim() !== "") this.#blank = false;
  }

  #firstTrigger(seen: string, triggers: readonly string[]): { at: number; length: number } | null {
    let first: { at: number; length: number } | null = null;
    for (const trigger of triggers) {
      const at = seen.indexOf(trigger);
      if (at < 0 || (first !== null && first.at <= at)) continue;
      // Bare JSON is a call only where an answer opens with it.
      if (trigger.startsWith("{") && !(this.#blank && seen.slice(0, at).trim() === "")) continue;
      first = { at, length: trigger.length };
    }
    return first;
  }

  /** After a call that a trigger began, the model is free again, unless it may make only one. */
  #observeBound(): void {
    if (this.#grammar.triggers === undefined || this.#grammar.once === true || this.#ruling?.mayEnd !== true) return;
    this.#sampler.release();
    this.#ruling = null;
    this.#phase = "watching";
    this.#blank = false;
  }
}
