import type { ChatEvent } from "../../../core/chat.ts";
import { ApiError } from "../../../core/errors.ts";

/** Events that wait while a slow client does not read; more than these are joined where they can be. */
const looseEvents = 64;
/** What may wait for one request, in bytes as they are estimated. */
const mostBytes = 32 * 1024 * 1024;

/**
 * Events of one request, pushed by its process, read by `for await`; a failure ends the reading. A client that does not
 * read costs bounded memory: neighbouring pieces of text are joined, and beyond `limit` bytes the request is dropped.
 */
export class EventQueue implements AsyncIterable<ChatEvent> {
  readonly #limit: number;
  #events: ChatEvent[] = [];
  #read = 0;
  #bytes = 0;
  #ended: { readonly error: Error | null } | null = null;
  #wake: (() => void) | undefined;

  constructor(limit = mostBytes) {
    this.#limit = limit;
  }

  /** false: nobody reads any more, or too slowly. */
  push(events: readonly ChatEvent[]): boolean {
    if (this.#ended !== null) return false;
    for (const event of events) this.#add(event);
    if (this.#bytes > this.#limit) {
      const megabytes = Math.round(this.#bytes / 1024 / 1024);
      this.#events = [];
      this.#read = 0;
      this.end(new ApiError("request_timeout", `the client did not read: ${megabytes} MB of its answer waited for it`));
      return false;
    }
    this.#wake?.();
    return true;
  }

  end(error: Error | null = null): void {
    this.#ended ??= { error };
    this.#wake?.();
  }

  #add(event: ChatEvent): void {
    const last = this.#events.length - this.#read > looseEvents ? this.#events.at(-1) : undefined;
    const joined = last === undefined ? null : join(last, event);
    if (joined === null || last === undefined) {
      this.#events.push(event);
      this.#bytes += sizeOf(event);
    } else {
      this.#events[this.#events.length - 1] = joined;
      this.#bytes += sizeOf(joined) - sizeOf(last);
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent> {
    for (;;) {
      const event = this.#events[this.#read];
      if (event !== undefined) {
        this.#advance(event);
        yield event;
      } else if (this.#ended !== null) {
        if (this.#ended.error !== null) throw this.#ended.error;
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
      }
    }
  }

  #advance(event: ChatEvent): void {
    this.#read += 1;
    if (this.#read === this.#events.length) {
      this.#events = [];
      this.#read = 0;
    }
    this.#bytes -= sizeOf(event);
  }
}

/** Two neighbouring events as one that says the same; null where there is none. */
function join(last: ChatEvent, next: ChatEvent): ChatEvent | null {
  if (last.type === "text" && next.type === "text") return { type: "text", text: last.text + next.text };
  if (last.type === "reasoning" && next.type === "reasoning" && last.signature === undefined) {
    return { ...next, text: last.text + next.text };
  }
  if (last.type === "tool-call" && next.type === "tool-call" && last.index === next.index && next.id === undefined) {
    return { ...last, arguments: last.arguments + next.arguments };
  }
  if (last.type !== "progress" || next.type !== "progress") return null;
  return last.accepted === true ? { ...next, accepted: true } : next;
}

/** Roughly what an event occupies. */
function sizeOf(event: ChatEvent): number {
  const object = 100;
  if (event.type === "text" || event.type === "reasoning") return object + 2 * event.text.length;
  if (event.type === "tool-call") return object + 2 * event.arguments.length;
  if (event.type !== "logprobs") return object;
  return event.tokens.reduce((sum, token) => sum + object * 3 * (1 + token.top.length), object);
}
