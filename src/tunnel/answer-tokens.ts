/** Fields that tell how many tokens were generated: of OpenAI's chat and completions, its Responses and Anthropic, Ollama. */
const names = ['"completion_tokens":', '"output_tokens":', '"eval_count":'].map((name) => Buffer.from(name));
const longestTail = 8192;

/** Finds the number of tokens that an answer tells in its last pieces: usage stands at the end of every format. */
export class AnswerTokens {
  #last: Uint8Array | undefined;
  #before: Uint8Array | undefined;

  take(piece: Uint8Array): void {
    this.#before = this.#last;
    this.#last = piece;
  }

  /** 0 where the answer does not tell. */
  count(): number {
    return (this.#last && countIn(this.#last)) || (this.#before && countIn(this.#before)) || 0;
  }
}

function countIn(piece: Uint8Array): number {
  const tail = Buffer.from(piece.buffer, piece.byteOffset, piece.length).subarray(-longestTail);
  for (const name of names) {
    const at = tail.lastIndexOf(name);
    if (at === -1) continue;
    const digits = /^\s*(\d{1,9})/.exec(tail.toString("latin1", at + name.length, at + name.length + 16))?.[1];
    if (digits !== undefined) return Number(digits);
  }
  return 0;
}
