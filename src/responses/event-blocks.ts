import { isObject, type Json, type JsonObject } from "../core/json.ts";

/** Longest event that is looked into, in bytes; the last one holds the whole answer. */
const longestBlock = 16 * 1024 * 1024;

/** Cuts an event stream into its events, each with the blank line that ends it. In the texts, each character is one byte. */
export class EventBlocks {
  #held = "";

  /** Whether nothing of an event is held back. */
  get isEmpty(): boolean {
    return this.#held === "";
  }

  /** The events that this piece completes; one that is too long comes in pieces. */
  push(text: string): string[] {
    if (!text.includes("\n") && this.#held.length + text.length <= longestBlock) {
      this.#held += text;
      return [];
    }
    const whole = this.#held + text;
    // What was held has no end, but the last characters of one may be there.
    const ends = /\n\r?\n/g;
    ends.lastIndex = Math.max(0, this.#held.length - 2);
    const blocks: string[] = [];
    let from = 0;
    while (ends.test(whole)) {
      blocks.push(whole.slice(from, ends.lastIndex));
      from = ends.lastIndex;
    }
    this.#held = whole.slice(from);
    if (this.#held.length > longestBlock) blocks.push(...this.end());
    return blocks;
  }

  /** What is left of an event without its end. */
  end(): string[] {
    const rest = this.#held;
    this.#held = "";
    return rest === "" ? [] : [rest];
  }
}

/** An event that tells of the response as a whole. */
export interface Lifecycle {
  readonly event: JsonObject;
  readonly response: JsonObject;
  /** Whether it is the last: the response is all there, or will not be. */
  readonly isFinal: boolean;
}

const lifecycle = /^response\.(?:created|queued|in_progress|(completed|incomplete|failed))$/;

/** Undefined for every other event. */
export function readLifecycle(block: string): Lifecycle | undefined {
  // In a text of the model these quotes would be escaped.
  if (!block.includes('"response"')) return undefined;
  const event = readEvent(block);
  if (event === undefined || typeof event["type"] !== "string" || !isObject(event["response"])) return undefined;
  const match = lifecycle.exec(event["type"]);
  return match === null ? undefined : { event, response: event["response"], isFinal: match[1] !== undefined };
}

/** The JSON object of an event's data; undefined when it has none. */
export function readEvent(block: string): JsonObject | undefined {
  const data = block
    .split(/\r?\n/)
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5))
    .join("\n");
  try {
    const json = JSON.parse(Buffer.from(data, "latin1").toString()) as Json;
    return isObject(json) ? json : undefined;
  } catch {
    return undefined;
  }
}

/** An event as bytes, under its name. */
export function encodeEvent(event: JsonObject): Buffer {
  return Buffer.from(`event: ${String(event["type"])}\ndata: ${JSON.stringify(event)}\n\n`);
}
