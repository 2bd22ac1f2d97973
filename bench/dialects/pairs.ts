import type { Request } from "../support/clients.ts";

/** What clients speak, in the order of the table. */
export const dialectNames = ["chat", "responses", "messages", "ollama"] as const;
export type DialectName = (typeof dialectNames)[number];

/** Kinds of upstreams: one that is passed through where it can be, and two whose answers are always read as events. */
export const kindNames = ["openai", "ollama", "lmdeploy"] as const;
export type KindName = (typeof kindNames)[number];

interface Dialect {
  readonly path: string;
  /** Whether an event is a line that holds an object. */
  readonly lines?: true;
  /** What the end of a whole stream holds. */
  readonly end: string;
  body(model: string, turns: readonly Turn[], stream: boolean): object;
}

/** One thing said in a conversation. */
export interface Turn {
  readonly role: "user" | "assistant";
  readonly content: string;
}

const system = "You are a coding assistant. Read what you are shown, and answer in one paragraph.";

const dialects: Readonly<Record<DialectName, Dialect>> = {
  chat: {
    path: "/v1/chat/completions",
    end: "[DONE]",
    body: (model, turns, stream) => ({
      model,
      max_tokens: 200,
      messages: [{ role: "system", content: system }, ...turns],
      ...(stream ? { stream, stream_options: { include_usage: true } } : {}),
    }),
  },
  responses: {
    path: "/v1/responses",
    end: "response.completed",
    body: (model, turns, stream) => ({
      model,
      instructions: system,
      max_output_tokens: 200,
      store: false,
      input: turns.map(({ role, content }) => ({
        type: "message",
        role,
        content: [{ type: role === "user" ? "input_text" : "output_text", text: content }],
      })),
      stream,
    }),
  },
  messages: {
    path: "/v1/messages",
    end: "message_stop",
    body: (model, turns, stream) => ({ model, system, max_tokens: 200, messages: turns, stream }),
  },
  ollama: {
    path: "/api/chat",
    lines: true,
    end: '"done":true',
    body: (model, turns, stream) => ({
      model,
      messages: [{ role: "system", content: system }, ...turns],
      options: { num_predict: 200 },
      stream,
    }),
  },
};

/** A client and what stands behind the runtime. */
export interface Pair {
  readonly dialect: DialectName;
  readonly kind: KindName;
}

export function pairsOf(kinds: readonly KindName[]): Pair[] {
  return dialectNames.flatMap((dialect) => kinds.map((kind) => ({ dialect, kind })));
}

/** Whether a stream's events are lines, as Ollama's. */
export function hasLines({ dialect }: Pair): boolean {
  return dialects[dialect].lines === true;
}

/** The request of a pair to the runtime at a port, as its clients send it. */
export function requestOf(
  { dialect, kind }: Pair,
  server: { readonly port: number; readonly headers: Readonly<Record<string, string>> },
  { stream, turns = short }: { readonly stream: boolean; readonly turns?: readonly Turn[] },
): Request & { readonly path: string } {
  const { path, body } = dialects[dialect];
  return { ...server, path, body: JSON.stringify(body(`${kind}:bench-model`, turns, stream)) };
}

/** What is wrong with the text of a stream of so many events; undefined: nothing. */
export function problemOf({ dialect }: Pair, text: string, events: number): string | undefined {
  const { end } = dialects[dialect];
  if (!text.includes(end)) return `the stream does not end with ${end}`;
  // The whole text stands again in the events that end a Responses stream.
  const said = text.split(/"(?:content|delta|text)":" work"/).length - 1;
  return said === events ? undefined : `${said} pieces of text came instead of ${events}`;
}

const sentence = 'Read the file src/index.ts, and say in one paragraph what it does; then name the "exports" it has.\n';
const short: readonly Turn[] = [{ role: "user", content: sentence.repeat(3) }];
