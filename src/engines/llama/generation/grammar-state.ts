import type { SamplerHandle } from "../native/declarations.ts";
import type { NativeModel } from "../native/native-model.ts";
import type { Candidates } from "./sampler.ts";
import { kindOf, TokenBytes, TokenKind, utf8After } from "./token-bytes.ts";

const tables = new WeakMap<NativeModel, TokenBytes>();

/**
 * A GBNF grammar and how far a text has come in it. llama.cpp's own reading lets bytes through that are no UTF-8 (a
 * continuation within a token is never looked at, overlong forms and surrogates pass), and
 * control tokens that are not part of the text: those are kept out here.
 */
export class GrammarState {
  readonly #model: NativeModel;
  readonly #candidates: Candidates;
  readonly #shown: ReadonlySet<number>;
  readonly #sampler: SamplerHandle;
  /** What `allows` has let through since the last token. */
  readonly #allowed = new Set<number>();
  #freed = false;
  #utf8 = 0;

  private constructor(
    handle: SamplerHandle,
    ground: { model: NativeModel; candidates: Candidates },
    shown: ReadonlySet<number>,
  ) {
    this.#sampler = handle;
    this.#model = ground.model;
    this.#candidates = ground.candidates;
    this.#shown = shown;
  }

  /** `shown`: control tokens that are part of the text. Null: llama.cpp cannot read the grammar. */
  static create(
    text: string,
    ground: { model: NativeModel; candidates: Candidates },
    shown: ReadonlySet<number>,
  ): GrammarState | null {
    const { library, vocabulary } = ground.model;
    // Of no text, or up to a NUL of none, llama.cpp makes a grammar that allows everything.
    if (text === "" || text.includes("\0")) return null;
    const handle = library.functions.llama_sampler_init_grammar(vocabulary.handle, text, "root");
    return handle === null ? null : new GrammarState(handle, ground, shown);
  }

  allows(token: number): boolean {
    const allowed = this.#isText(token) && this.#candidates.allows(this.#handle, token);
    if (allowed) this.#allowed.add(token);
    return allowed;
  }

  /** Goes on by a token that `allows` allowed. Throws for any other: llama.cpp would end the process. */
  accept(token: number): void {
    if (!this.#allowed.has(token)) throw new Error(`the grammar was not asked about the token ${token}`);
    this.#allowed.clear();
    const { vocabulary, library } = this.#model;
    if (!vocabulary.endsGeneration(token)) this.#utf8 = utf8After(this.#utf8, vocabulary.piece(token));
    library.functions.llama_sampler_accept(this.#handle, token);
  }

  /**
   * Goes on by a text: to its end, or to where the grammar is at one, if it is to stop there. Returns what was not read;
   * null where the grammar does not allow the text.
   */
  acceptText(text: string, stopAtEnd: boolean): string | null {
    const { vocabulary } = this.#model;
    const bytes = Buffer.from(text);
    let read = 0;
    for (const token of vocabulary.tokenize(text, { addSpecial: false, parseSpecial: true })) {
      if (!this.allows(token)) return null;
      this.accept(token);
      read += vocabulary.piece(token).length;
      if (stopAtEnd && this.mayEnd) return bytes.toString("utf8", read);
    }
    return "";
  }

  /** Whether the text may end here. */
  get mayEnd(): boolean {
    const [end] = this.#model.vocabulary.endTokens;
    return end !== undefined && this.allows(end);
  }

  /** The token that the samplers pick among those that are allowed; null when there is none. */
  choose(samplers: readonly SamplerHandle[], logits: Float32Array): number | null {
    return this.#candidates.chooseAmong(this.#eligible(), { filter: this.#handle, samplers, logits });
  }

  /**
   * Tokens that the grammar may allow. It is asked about each first byte alone: what it refuses there it refuses with
   * more behind it, which leaves few of a large vocabulary wherever the text is not free.
   */
  #eligible(): Int32Array {
    const table = this.#table;
    const { vocabulary } = this.#model;
    const refused = new Uint8Array(256);
    for (const [byte, token] of table.singles.entries()) {
      if (token >= 0 && this.#utf8 === 0 && !this.#candidates.allows(this.#handle, token)) refused[byte] = 1;
    }
    const eligible = this.#candidates.ids;
    let count = 0;
    for (let token = 0; token < vocabulary.size; token++) {
      const kind = table.kinds[token];
      if (
        kind === TokenKind.text ? this.#utf8 === 0 && refused[table.firsts[token] as number] === 0 : this.#isText(token)
      ) {
        eligible[count++] = token;
      }
    }
    return eligible.subarray(0, count);
  }

  get #table(): TokenBytes {
    let table = tables.get(this.#model);
    if (table === undefined) tables.set(this.#model, (table = new TokenBytes(this.#model.vocabulary)));
    return table;
  }

  free(): void {
    if (this.#freed) return;
    this.#model.library.functions.llama_sampler_free(this.#handle);
    this.#freed = true;
  }

  get #handle(): SamplerHandle {
    if (this.#freed) throw new Error("a call on a grammar that was freed");
    return this.#sampler;
  }

  #isText(token: number): boolean {
    const { vocabulary } = this.#model;
    switch (tables.get(this.#model)?.kinds[token] ?? kindOf(vocabulary, token)) {
      case TokenKind.end:
        return this.#utf8 === 0;
      case TokenKind.control:
        return this.#utf8 === 0 && this.#shown.has(token);
      case TokenKind.none:
        return false;
      default:
        return utf8After(this.#utf8, vocabulary.piece(token)) >= 0;
    }
  }
}
