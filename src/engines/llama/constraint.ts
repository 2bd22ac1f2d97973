import type { Grammar } from "./messages.ts";
import type { Vocabulary } from "./native-model.ts";
import type { Sampler } from "./sampler.ts";

/** Decides when a grammar begins: at once, or where the reasoning that opens an output has ended. */
export class Constraint {
  readonly valid: boolean;
  readonly #grammar: Grammar;
  readonly #sampler: Sampler;
  #reasoning: boolean;
  #text = "";

  constructor(grammar: Grammar, sampler: Sampler) {
    this.#grammar = grammar;
    this.#sampler = sampler;
    this.#reasoning = grammar.reasoning?.opened ?? false;
    this.valid = sampler.constrain(grammar.text);
    if (this.valid && this.#reasoning) sampler.release();
  }

  /** The first token of an output may be the opening tag of reasoning, whatever the grammar says. */
  exempt(vocabulary: Vocabulary): ((token: number) => boolean) | undefined {
    const { reasoning } = this.#grammar;
    if (reasoning === null || this.#reasoning || this.#text !== "") return undefined;
    return (token) => vocabulary.piece(token).toString("utf8").trim() === reasoning.open;
  }

  observe(text: string): void {
    const { reasoning } = this.#grammar;
    if (reasoning === null) return;
    const opens = !this.#reasoning && this.#text === "" && text.trim() === reasoning.open;
    this.#text = (this.#text + text).slice(-(reasoning.close.length + text.length));
    if (opens) {
      this.#reasoning = true;
      this.#sampler.release();
    } else if (this.#reasoning && this.#text.includes(reasoning.close)) {
      this.#reasoning = false;
      this.#text = reasoning.close;
      this.#sampler.constrain(this.#grammar.text);
    }
  }
}
