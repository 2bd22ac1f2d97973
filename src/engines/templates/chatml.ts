import type { Message } from "../../core/chat.ts";
import type { RenderedPrompt } from "./chat-template.ts";
import { textsOf } from "./template-messages.ts";

/** ChatML without a template: for models that bring none, and where `useJinja` is off. */
export function renderChatml(messages: readonly Message[]): RenderedPrompt {
  const last = messages.at(-1);
  const continues = last?.role === "assistant" && last.content.length > 0;
  const turns = messages.map((message) => {
    const role = message.role === "developer" ? "system" : message.role;
    const end = continues && message === last ? "" : "<|im_end|>\n";
    return `<|im_start|>${role}\n${textsOf(message.content).join("\n")}${end}`;
  });
  const text = turns.join("") + (continues ? "" : "<|im_start|>assistant\n");
  return { text, continues: continues ? "answer" : null };
}
