import { type Address, post } from "./asking.ts";

/** What issue 7 asks for: the first token after a cold start in milliseconds, at most; tokens a second, at least. */
export const speedGoals = { firstToken: 500, tokensPerSecond: 300 } as const;

/** One answer as it came, in milliseconds since it was asked for. */
export interface Paced {
  readonly firstToken: number;
  readonly lastToken: number;
  readonly tokens: number;
}

interface Chunk {
  readonly choices: readonly { readonly delta: { readonly content?: string | null } }[];
  readonly usage?: { readonly completion_tokens: number } | null;
}

/** Tokens a second after the first of the longest answer that the model has, the best of three: other programs only slow it down. */
export async function measureTokensPerSecond(address: Address): Promise<number> {
  const speeds: number[] = [];
  for (let round = 0; round < 3; round++) {
    const { firstToken, lastToken, tokens } = await stream("count from 1 to 60", address);
    speeds.push(((tokens - 1) * 1000) / (lastToken - firstToken));
  }
  return Math.max(...speeds);
}

/** Streams one answer. Throws when none comes. */
export async function stream(content: string, address: Address): Promise<Paced> {
  const started = performance.now();
  const body = {
    messages: [{ role: "user", content }],
    temperature: 0,
    max_tokens: 400,
    stream: true,
    stream_options: { include_usage: true },
  };
  const response = await post("/chat/completions", body, address);
  let firstToken: number | undefined;
  let lastToken = 0;
  let tokens = 0;
  for await (const chunk of chunksOf(response)) {
    tokens = chunk.usage?.completion_tokens ?? tokens;
    if ((chunk.choices[0]?.delta.content ?? "") === "") continue;
    lastToken = performance.now() - started;
    firstToken ??= lastToken;
  }
  if (firstToken === undefined) throw new Error(`the model says nothing to ${JSON.stringify(content)}`);
  return { firstToken, lastToken, tokens };
}

async function* chunksOf(response: Response): AsyncGenerator<Chunk> {
  let open = "";
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const events = (open + text).split("\n\n");
    open = events.pop()!;
    for (const event of events) {
      const json = event.replace(/^data: /, "");
      if (json.startsWith("{")) yield JSON.parse(json) as Chunk;
    }
  }
}
