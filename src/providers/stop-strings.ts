import { overlap } from "../engines/parsers/overlap.ts";
import type { ChatEvent, Usage } from "../core/chat.ts";

/** Finds stop strings in text that comes in pieces. What may be the beginning of one is held back until that is clear. */
export class StopScanner {
  readonly #stops: string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** The text that is safe to say, and whether a stop string came after it. */
  push(text: string): { text: string; stopped: boolean } {
    const all = this.#held + text;
    const found = this.#stops.map((stop) => all.indexOf(stop)).filter((at) => at !== -1);
    if (found.length > 0) {
      this.#held = "";
      return { text: all.slice(0, Math.min(...found)), stopped: true };
    }
    const keep = Math.max(0, ...this.#stops.map((stop) => overlap(all, stop)));
    this.#held = all.slice(all.length - keep);
    return { text: all.slice(0, all.length - keep), stopped: false };
  }

  /** What was held back and turned out to be no stop string. */
  end(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }
}

/**
 * Enforces stop strings on a server that does not: at the first one the events end with `stop`, and leaving the
 * server's stream aborts it. `usageSoFar` counts for the server, which then never tells.
 */
export async function* stopAt(
  events: AsyncIterable<ChatEvent>,
  stops: readonly string[],
  usageSoFar: (text: string) => Usage,
): AsyncGenerator<ChatEvent> {
  const scanner = new StopScanner(stops);
  let said = "";
  for await (const event of events) {
    if (event.type === "text") {
      const { text, stopped } = scanner.push(event.text);
      said += text;
      if (text !== "") yield { type: "text", text };
      if (!stopped) continue;
      yield { type: "finish", reason: "stop", usage: usageSoFar(said) };
      return;
    }
    if (event.type === "reasoning") said += event.text;
    if (event.type === "finish" || event.type === "tool-call") {
      const text = scanner.end();
      if (text !== "") yield { type: "text", text };
    }
    yield event;
  }
}
