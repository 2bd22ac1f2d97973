import type { ChatEvent, FinishReason, TokenLogprob, ToolCall } from "../../core/chat.ts";
import { toApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { collectAnswers, endedEarly } from "../answer.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "../dialect.ts";
import { inventCallId } from "../openai-chat/wire.ts";
import { Stopwatch } from "./metrics.ts";

/** Which path answers: they differ in where the words stand. */
export type Form = "chat" | "generate";

/** Events → lines of JSON. A failure becomes the line `{"error": …}`, which every client of Ollama's looks for. */
export function encodeLines(events: AsyncIterable<ChoiceEvent>, head: ReplyHead, form: Form): Frames {
  const writer = new LineWriter(head, form);
  const lines = writeLines(events, writer);
  // An empty piece of an answer: what all clients skip, and Ollama itself sends where a token makes no text.
  return { [Symbol.asyncIterator]: () => lines, heartbeat: () => writer.piece("") };
}

/** Events → the one object of an answer that is not streamed. Throws what `events` throws, and `upstream_error` for one without an end. */
export async function encodeWhole(events: AsyncIterable<ChoiceEvent>, head: ReplyHead, form: Form): Promise<Json> {
  const watch = new Stopwatch(head);
  const callId = (choice: number, index: number): string => inventCallId(head.id, choice, index);
  const [answer] = await collectAnswers(noted(events, watch), 1, callId);
  if (answer === undefined) throw endedEarly();
  const { text, reasoning, toolCalls, logprobs } = answer;
  const words = reasoning === "" ? {} : { thinking: reasoning };
  const calls = toolCalls.length === 0 ? {} : { tool_calls: toolCalls.map(encodeCall) };
  const said: JsonObject =
    form === "chat"
      ? { message: { role: "assistant", content: text, ...words, ...calls } }
      : { response: text, ...words };
  return {
    model: head.model,
    created_at: new Date(head.now()).toISOString(),
    ...said,
    ...(logprobs.length === 0 ? {} : { logprobs: logprobs.map(encodeLogprob) }),
    done: true,
    done_reason: doneReasons[answer.reason],
    ...watch.metrics(answer),
  };
}

/** What a call is answered that only loads or unloads a model. */
export function encodePresence(presence: "load" | "unload", head: ReplyHead, form: Form): JsonObject {
  return {
    model: head.model,
    created_at: new Date(head.now()).toISOString(),
    ...(form === "chat" ? { message: { role: "assistant", content: "" } } : { response: "" }),
    done: true,
    done_reason: presence,
  };
}

/** Calls of tools are no reason of their own there. */
const doneReasons: Readonly<Record<FinishReason, string>> = {
  stop: "stop",
  "tool-calls": "stop",
  length: "length",
  "content-filter": "content_filter",
};

async function* writeLines(events: AsyncIterable<ChoiceEvent>, writer: LineWriter): AsyncGenerator<string> {
  try {
    for await (const { event } of events) {
      const lines = writer.write(event);
      if (lines !== "") yield lines;
      if (event.type === "finish") return;
    }
    throw endedEarly();
  } catch (thrown) {
    yield `${JSON.stringify({ error: toApiError(thrown).message })}\n`;
    throw thrown;
  }
}

async function* noted(events: AsyncIterable<ChoiceEvent>, watch: Stopwatch): AsyncGenerator<ChoiceEvent> {
  for await (const choice of events) {
    watch.note(choice.event);
    yield choice;
  }
}

/** Writes one answer. By hand where a token is a line. */
class LineWriter {
  readonly #head: ReplyHead;
  readonly #watch: Stopwatch;
  readonly #open: string;
  readonly #before: string;
  readonly #behind: string;
  readonly #calls = new Map<number, { id: string; name: string; arguments: string }>();
  #logprobs: TokenLogprob[] = [];

  constructor(head: ReplyHead, form: Form) {
    this.#head = head;
    this.#watch = new Stopwatch(head);
    this.#open = `{"model":${JSON.stringify(head.model)},"created_at":"`;
    this.#before = form === "chat" ? `","message":{"role":"assistant","content":` : `","response":`;
    this.#behind = form === "chat" ? "}" : "";
  }

  /** Whole lines; "" where the event is not told yet, or at all. */
  write(event: ChatEvent): string {
    this.#watch.note(event);
    switch (event.type) {
      case "text":
        return this.piece(event.text);
      case "reasoning":
        return this.#line("", `,"thinking":${JSON.stringify(event.text)}`);
      case "tool-call":
        this.#collect(event);
        return "";
      case "logprobs":
        if (event.prompt === undefined) this.#logprobs.push(...event.tokens);
        return "";
      case "progress":
        return "";
      case "finish":
        return this.#callLine() + this.#end(event);
    }
  }

  /** A line with a piece of the answer's text. */
  piece(text: string): string {
    return this.#line(text, "", this.#takeLogprobs());
  }

  /** They arrive whole: Ollama's clients know no pieces of arguments. */
  #callLine(): string {
    if (this.#calls.size === 0) return "";
    const calls = [...this.#calls].toSorted(([left], [right]) => left - right);
    const encoded = calls.map(([index, call], place) =>
      encodeCall({ ...call, id: call.id || inventCallId(this.#head.id, 0, index) }, place),
    );
    return this.#line("", `,"tool_calls":${JSON.stringify(encoded)}`);
  }

  #end(event: ChatEvent & { readonly type: "finish" }): string {
    const end = { done: true, done_reason: doneReasons[event.reason], ...this.#watch.metrics(event) };
    const rest = JSON.stringify(end).slice(1);
    return `${this.#open}${this.#now()}${this.#before}""${this.#behind}${this.#takeLogprobs()},${rest}\n`;
  }

  #line(text: string, beside: string, behind = ""): string {
    const content = JSON.stringify(text) + beside + this.#behind + behind;
    return `${this.#open}${this.#now()}${this.#before}${content},"done":false}\n`;
  }

  #now(): string {
    return new Date(this.#head.now()).toISOString();
  }

  #takeLogprobs(): string {
    if (this.#logprobs.length === 0) return "";
    const text = `,"logprobs":${JSON.stringify(this.#logprobs.map(encodeLogprob))}`;
    this.#logprobs = [];
    return text;
  }

  #collect({ index, id, name, arguments: fragment }: ChatEvent & { readonly type: "tool-call" }): void {
    const call = this.#calls.get(index) ?? { id: "", name: "", arguments: "" };
    this.#calls.set(index, call);
    call.id ||= id ?? "";
    call.name ||= name ?? "";
    call.arguments += fragment;
  }
}

function encodeCall({ id, name, arguments: text }: ToolCall, index: number): JsonObject {
  return { id, function: { index, name, arguments: toObject(text) } };
}

/** Arguments are an object there. What a model wrote that is none must not get lost: it is given under one name. */
function toObject(text: string): JsonObject {
  if (text.trim() === "") return {};
  try {
    const json = JSON.parse(text) as Json;
    return isObject(json) ? json : { arguments: json };
  } catch {
    return { arguments: text };
  }
}

function encodeLogprob({ token, logprob, bytes, top }: TokenLogprob): JsonObject {
  const one = (token: string, logprob: number, bytes: number[] | null): JsonObject => ({
    token,
    logprob,
    ...(bytes === null ? {} : { bytes }),
  });
  return {
    ...one(token, logprob, bytes),
    ...(top.length === 0 ? {} : { top_logprobs: top.map((other) => one(other.token, other.logprob, other.bytes)) }),
  };
}
