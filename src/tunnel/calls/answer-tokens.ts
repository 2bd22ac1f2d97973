const longestTail = 8192;

/** How the end of an answer tells what it cost, in the formats of Ollama's own paths and of all others. */
const ollama = { mark: Buffer.from('"eval_count":'), count: /"eval_count":\s*(\d{1,9})/g };
const usage = { mark: Buffer.from('_tokens":'), count: /"(?:completion|output)_tokens":\s*(\d{1,9})/g };

/** Reads in passing how many tokens an answer tells to have generated; where one piece ends within that, it is missed. */
export class AnswerTokens {
  /** What was told last; 0 so far, or where nothing is told. */
  count = 0;
  readonly #format: typeof ollama;

  /** `path`: of the call. */
  constructor(path: string) {
    this.#format = path.startsWith("/api/") ? ollama : usage;
  }

  take(piece: Buffer): void {
    const tail = piece.length > longestTail ? piece.subarray(-longestTail) : piece;
    const { mark, count } = this.#format;
    // Most pieces hold a token and nothing else: only one search is spent on those.
    if (tail.indexOf(mark) === -1) return;
    const found = [...tail.toString("latin1").matchAll(count)].at(-1)?.[1];
    if (found !== undefined) this.count = Number(found);
  }
}
