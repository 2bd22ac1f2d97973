import { request } from "node:http";
import type { Contender } from "./contenders.ts";

/** What a client saw of one stream, in milliseconds since it asked. */
export interface Seen {
  readonly first: number;
  readonly end: number;
  /** When each piece of text came. */
  readonly pieces: readonly number[];
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

export interface Stream {
  readonly seen: Promise<Seen>;
  /** Resolves with the first piece of text. */
  readonly started: Promise<void>;
  /** The longest time between two pieces of text so far, in milliseconds. */
  longestGap(): number;
  leave(): void;
}

interface Chunk {
  readonly choices?: readonly {
    readonly text?: string;
    readonly delta?: { readonly content?: string | null; readonly role?: string };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number };
  } | null;
  readonly error?: unknown;
}

/** A text completion of token ids, streamed; the answer has exactly `tokens` tokens. */
export function complete(contender: Contender, prompt: readonly number[], tokens: number): Stream {
  return open(contender, "/v1/completions", { prompt, max_tokens: tokens, ignore_eos: true });
}

/** A chat, streamed, through the model's template. */
export function chat(contender: Contender, content: string, tokens: number): Stream {
  return open(contender, "/v1/chat/completions", {
    messages: [{ role: "user", content }],
    max_tokens: tokens,
    ignore_eos: true,
  });
}

/** One request for vectors; resolves with milliseconds. */
export async function embed(contender: Contender, input: readonly string[]): Promise<number> {
  const started = performance.now();
  const response = await fetch(`${contender.url}/v1/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: contender.model, input }),
  });
  const answer = (await response.json()) as { data?: { embedding: number[] }[] };
  if (answer.data?.length !== input.length)
    throw new Error(`${contender.name}: ${JSON.stringify(answer).slice(0, 300)}`);
  return performance.now() - started;
}

function open(contender: Contender, path: string, body: object): Stream {
  const started = pending<void>();
  const seen = pending<Seen>();
  const reader = new StreamReader(contender.name, started.resolve);
  const fail = (error: Error): void => {
    started.reject(error);
    seen.reject(error);
  };
  const call = request(`${contender.url}${path}`, { method: "POST", agent: false }, (response) => {
    response.setEncoding("utf8");
    response.on("data", (text: string) => reader.read(text));
    response.on("error", fail);
    response.on("end", () => {
      try {
        seen.resolve(reader.finish());
      } catch (error) {
        fail(error as Error);
      }
    });
  });
  call.on("error", fail);
  call.setHeader("content-type", "application/json");
  // Who left on purpose does not wait.
  started.promise.catch(() => undefined);
  seen.promise.catch(() => undefined);
  call.end(
    JSON.stringify({ model: contender.model, ...body, seed: 1, stream: true, stream_options: { include_usage: true } }),
  );
  return {
    seen: seen.promise,
    started: started.promise,
    longestGap: () => reader.longestGap,
    leave: () => call.destroy(),
  };
}

function pending<Value>() {
  let resolve!: (value: Value) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<Value>((...settle) => ([resolve, reject] = settle));
  return { promise, resolve, reject };
}

class StreamReader {
  readonly #name: string;
  readonly #onFirst: () => void;
  readonly #begin = performance.now();
  readonly #pieces: number[] = [];
  longestGap = 0;
  #held = "";
  #usage: NonNullable<Chunk["usage"]> | undefined;

  constructor(name: string, onFirst: () => void) {
    this.#name = name;
    this.#onFirst = onFirst;
  }

  read(text: string): void {
    const lines = (this.#held + text).split("\n");
    this.#held = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: {")) {
        if (line.startsWith("{")) throw new Error(`${this.#name}: ${line.slice(0, 300)}`);
        continue;
      }
      this.#take(JSON.parse(line.slice(6)) as Chunk);
    }
  }

  #take(chunk: Chunk): void {
    if (chunk.error !== undefined) throw new Error(`${this.#name}: ${JSON.stringify(chunk.error)}`);
    if (chunk.usage) this.#usage = chunk.usage;
    const [choice] = chunk.choices ?? [];
    // Half a character is held back, so a piece may be empty; a role alone is not a token.
    const says = choice?.text ?? (choice?.delta?.role === undefined ? choice?.delta?.content : undefined);
    if (says === undefined || says === null || says === "") return;
    const now = performance.now() - this.#begin;
    const last = this.#pieces.at(-1);
    if (last === undefined) this.#onFirst();
    else this.longestGap = Math.max(this.longestGap, now - last);
    this.#pieces.push(now);
  }

  finish(): Seen {
    const usage = this.#usage;
    if (usage === undefined) throw new Error(`${this.#name}: the stream ended without usage: ${this.#held}`);
    return {
      first: this.#pieces[0] ?? Number.NaN,
      pieces: this.#pieces,
      end: performance.now() - this.#begin,
      promptTokens: usage.prompt_tokens,
      completionTokens: usage.completion_tokens,
      cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    };
  }
}
