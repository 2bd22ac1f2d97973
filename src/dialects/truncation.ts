import type { ChatEvent, ChatRequest, Message } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { overflowFigures } from "./overflow.ts";

/** Times that a conversation is made shorter before its overflow is told. */
const mostAttempts = 4;
/** Share of the context that the prompt shall take: the rest is for the answer. */
const promptShare = 0.75;

/**
 * One answer to a chat whose oldest turns may be left out (`truncation: "auto"` of the Responses API): as long as it does
 * not fit its model's context, it is asked anew with fewer. Instructions and the last turn stay. Throws what `ask` throws.
 */
export async function* askShortened(
  request: ChatRequest,
  ask: (request: ChatRequest) => AsyncIterable<ChatEvent>,
): AsyncGenerator<ChatEvent> {
  let asked = request;
  for (let attempt = 1; ; attempt++) {
    let begun = false;
    try {
      for await (const event of ask(asked)) {
        begun ||= event.type !== "progress";
        yield event;
      }
      return;
    } catch (error) {
      const shorter = begun || attempt === mostAttempts ? undefined : withoutOldest(asked, error);
      if (shorter === undefined) throw error;
      asked = shorter;
    }
  }
}

/** The request without as many of its oldest turns as its overflow says; undefined where that is not the trouble, or nothing can go. */
function withoutOldest(request: ChatRequest, error: unknown): ChatRequest | undefined {
  if (!(error instanceof ApiError) || error.code !== "context_length_exceeded") return undefined;
  const { limit, prompt } = overflowFigures(error);
  const { messages, tools } = request;
  const sizes = messages.map(sizeOf);
  const sum = (counts: (message: Message) => boolean): number =>
    sizes.reduce((total, size, index) => total + (counts(messages[index] as Message) ? size : 0), 0);
  const fixed = sizeOf(tools) + sum(isInstruction);
  const all = sizeOf(tools) + sum(() => true);
  const share = limit === undefined || prompt === undefined ? 0.5 : (promptShare * limit) / prompt;
  const from = firstKept(messages, sizes, all * share - fixed);
  if (from === 0) return undefined;
  return { ...request, messages: messages.filter((message, index) => index >= from || isInstruction(message)) };
}

/** Index of the question from which on all that is said has room, or of the last one; 0 where that leaves nothing out. */
function firstKept(messages: readonly Message[], sizes: readonly number[], room: number): number {
  let left = room;
  let kept = messages.findLastIndex(({ role }) => role === "user");
  const last = kept;
  for (let index = messages.length - 1; index >= 0; index--) {
    const message = messages[index] as Message;
    if (!isInstruction(message)) left -= sizes[index] as number;
    if (left < 0) break;
    // A result without its call, or an answer without its question, would be half a turn.
    if (message.role === "user" && index < last) kept = index;
  }
  return messages.slice(0, Math.max(0, kept)).every(isInstruction) ? 0 : kept;
}

function isInstruction({ role }: Message): boolean {
  return role === "system" || role === "developer";
}

function sizeOf(json: unknown): number {
  return JSON.stringify(json).length;
}
