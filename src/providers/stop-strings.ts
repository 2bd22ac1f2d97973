import type { ChatEvent, Usage } from "../core/chat.ts";
import { StopFilter } from "../engines/llama/generation/stop.ts";

/**
 * Enforces stop strings on a server that does not: at the first one the events end with `stop`, and leaving the
 * server's stream aborts it. `usageSoFar` counts for the server, which then never tells.
 */
export async function* stopAt(
  events: AsyncIterable<ChatEvent>,
  stops: readonly string[],
  usageSoFar: (text: string) => Usage,
): AsyncGenerator<ChatEvent> {
  const filter = new StopFilter(stops);
  let said = "";
  for await (const event of events) {
    if (event.type === "text") {
      const { text, stop } = filter.push(event.text);
      said += text;
      if (text !== "") yield { type: "text", text };
      if (stop === null) continue;
      yield { type: "finish", reason: "stop", stopSequence: stop, usage: usageSoFar(said) };
      return;
    }
    if (event.type === "reasoning") said += event.text;
    if (event.type === "finish" || event.type === "tool-call") {
      const text = filter.end();
      if (text !== "") yield { type: "text", text };
    }
    yield event;
  }
}
