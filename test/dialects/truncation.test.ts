import { describe, expect, test } from "vitest";
import type { ChatEvent, ChatRequest, Message } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";
import { askShortened } from "../../src/dialects/truncation.ts";
import { chatRequest } from "../support/chat-request.ts";

/** Tokens of a context; the model of these tests makes one of four characters of JSON. */
const limit = 1000;

function message(role: "system" | "user", text: string): Message {
  return { role, content: [{ type: "text", text }] };
}

function answer(text: string, called = false): Message {
  const toolCalls = called ? [{ id: `call_${text}`, name: "read", arguments: "{}" }] : [];
  return { role: "assistant", content: [{ type: "text", text: text.padEnd(400, ".") }], toolCalls };
}

/** Turns of about 1,100 characters: a question, a call, its result, an answer. */
function turn(name: string): Message[] {
  return [
    message("user", name),
    answer(name, true),
    { role: "tool", toolCallId: `call_${name}`, content: [{ type: "text", text: "x".repeat(200) }] },
    answer(name),
  ];
}

/** A model with a context: answers, or refuses as servers do. Tells what it was asked. */
function withContext(figures = true): {
  asked: ChatRequest[];
  ask: (request: ChatRequest) => AsyncIterable<ChatEvent>;
} {
  const asked: ChatRequest[] = [];
  const ask = async function* (request: ChatRequest): AsyncGenerator<ChatEvent> {
    asked.push(request);
    const tokens = Math.ceil(JSON.stringify(request.messages).length / 4);
    const told = figures
      ? `This model's maximum context length is ${limit} tokens. However, your messages resulted in ${tokens} tokens.`
      : "the prompt is too long";
    if (tokens >= limit) throw new ApiError("context_length_exceeded", told);
    yield { type: "text", text: "fits" };
    yield { type: "finish", reason: "stop", usage: { promptTokens: tokens, completionTokens: 1 } };
  };
  return { asked, ask };
}

async function said(events: AsyncIterable<ChatEvent>): Promise<string> {
  let text = "";
  for await (const event of events) if (event.type === "text") text += event.text;
  return text;
}

function conversation(...messages: Message[]): ChatRequest {
  return { ...chatRequest("m", "", {}), messages, truncation: "auto" };
}

const names = Array.from({ length: 12 }, (_, index) => `turn ${index}`);
const long = conversation(message("system", "Be brief."), ...names.flatMap(turn), message("user", "and now?"));

describe("a conversation that does not fit, under truncation: auto", () => {
  test.each([
    ["by the server's own figures", true, 2],
    ["by halves, where it tells none", false, 4],
  ])("loses its oldest turns, whole ones, %s", async (_, figures, attempts) => {
    const { asked, ask } = withContext(figures);
    expect(await said(askShortened(long, ask))).toBe("fits");
    expect(asked.length).toBeLessThanOrEqual(attempts);
    const { messages } = asked.at(-1) as ChatRequest;
    expect(messages[0]).toEqual(long.messages[0]);
    expect(messages[1]?.role).toBe("user");
    expect(messages.slice(1)).toEqual(long.messages.slice(1 - messages.length));
    expect(messages.length).toBeGreaterThan(figures ? 6 : 2);
  });

  test("keeps its instructions and its last turn, and is refused where these alone do not fit", async () => {
    const { asked, ask } = withContext();
    const request = conversation(message("system", "s".repeat(5000)), ...turn("old"), message("user", "last"));
    await expect(said(askShortened(request, ask))).rejects.toMatchObject({ code: "context_length_exceeded" });
    expect(asked.at(-1)?.messages).toEqual([request.messages[0], request.messages.at(-1)]);
    expect(asked).toHaveLength(2);
  });

  test("is asked once where the failure is another one, or comes in the middle of the answer", async () => {
    for (const code of ["upstream_error", "context_length_exceeded"] as const) {
      let asked = 0;
      const ask = async function* (): AsyncGenerator<ChatEvent> {
        asked++;
        if (code === "context_length_exceeded") yield { type: "text", text: "half" };
        throw new ApiError(code, "no");
      };
      await expect(said(askShortened(long, ask))).rejects.toMatchObject({ code });
      expect(asked).toBe(1);
    }
  });

  test("is what the Responses API asks for by that word, and by no other", () => {
    const decode = (truncation: string): string | undefined =>
      openaiResponses.decodeRequest({ model: "m", input: "Hi", truncation }, "m", {}).truncation;
    expect([decode("auto"), decode("disabled")]).toEqual(["auto", undefined]);
  });
});
