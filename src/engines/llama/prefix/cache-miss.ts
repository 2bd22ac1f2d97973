import type { Message } from "../../../core/chat.ts";
import type { GenerateJob } from "../messages.ts";

/**
 * The index of the message in which a character of the rendered prompt lies; undefined where it lies in none (tools, the
 * template's own words). Templates write messages in their order, and most of them word for word: a message that is not
 * found so is passed over.
 */
export function messageAt(
  prompt: GenerateJob["prompt"],
  messages: readonly Message[],
  offset: number,
): number | undefined {
  const text = textOf(prompt);
  let from = 0;
  for (const [index, message] of messages.entries()) {
    for (const written of textsOf(message)) {
      const start = text.indexOf(written, from);
      if (start < 0) continue;
      // What the template writes before a message is the message's too: its role.
      if (offset < start) return isOpening(text.slice(from, start), offset - from) ? index : undefined;
      from = start + written.length;
      if (offset < from) return index;
    }
  }
  return undefined;
}

/** Of the text between two messages the part after its last line's start belongs to the following one. */
function isOpening(between: string, offset: number): boolean {
  return offset >= between.trimEnd().lastIndexOf("\n");
}

function textOf(prompt: GenerateJob["prompt"]): string {
  if (typeof prompt === "string") return prompt;
  return "pieces" in prompt ? prompt.pieces.join("") : "";
}

function textsOf(message: Message): string[] {
  const texts = message.content.map((part) => (part.type === "text" ? part.text.trim() : ""));
  const calls = message.role === "assistant" ? message.toolCalls.map((call) => call.name) : [];
  return [...texts, ...calls].filter((text) => text !== "");
}
