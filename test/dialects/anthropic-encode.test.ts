import type {
  ContentBlock,
  Message,
  RawContentBlockDelta,
  RawMessageStreamEvent,
} from "@anthropic-ai/sdk/resources/messages/messages";
import { describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import { anthropicMessages } from "../../src/dialects/anthropic-messages.ts";
import type { ChoiceEvent } from "../../src/dialects/dialect.ts";
import { expectAnthropic, readEvents } from "../support/anthropic-spec.ts";
import { drain, seeded } from "../support/bytes.ts";
import { asChoice, chatRequest, finish, reasoning, replyHead, text } from "../support/chat.ts";

const call = (index: number, args: string, first: { id?: string; name?: string } = {}): ChatEvent => ({
  type: "tool-call",
  index,
  arguments: args,
  ...first,
});

const answers: Record<string, ChatEvent[]> = {
  text: [text("Hello"), text(' "Grüße"\n'), text("\u2028🦙"), finish()],
  empty: [finish("length")],
  thinking: [reasoning("Let me "), reasoning("think."), text("Hi"), finish()],
  signed: [{ type: "reasoning", text: "Hm.", signature: "c2ln" }, text("Hi"), finish()],
  filtered: [text("x"), finish("content-filter")],
  stopped: [text("a"), { ...finish(), stopSequence: "END" } as ChatEvent],
  tools: [
    reasoning("I must look."),
    text("I will read."),
    call(0, "", { id: "call_a", name: "read" }),
    call(0, '{"path":'),
    call(0, '"a"}'),
    // As Ollama says it.
    finish("stop"),
  ],
  "calls-by-turns": [
    call(0, '{"a":', { id: "call_a", name: "read" }),
    call(1, '{"b":', { name: "ls" }),
    call(0, "1}"),
    call(1, "2}"),
    call(2, "", { id: "", name: "pwd" }),
    finish("tool-calls"),
  ],
  cached: [
    text("Hi"),
    {
      type: "finish",
      reason: "stop",
      usage: { promptTokens: 9, completionTokens: 2, cachedTokens: 8, reasoningTokens: 1 },
    },
  ],
};

const stream = async (events: AsyncIterable<ChoiceEvent>) =>
  drain(anthropicMessages.encodeStream(events, chatRequest(), {}, replyHead));
const reply = (events: AsyncIterable<ChoiceEvent>) =>
  anthropicMessages.encodeReply(events, chatRequest(), {}, replyHead) as Promise<Record<string, unknown>>;

/** The message that a stream tells, as a client puts it together. */
function messageOf(frames: readonly string[]): Message {
  const events = readEvents(frames) as unknown as RawMessageStreamEvent[];
  const [start] = events;
  if (start?.type !== "message_start") throw new Error("the first event is no message_start");
  expect(events.at(-1)?.type).toBe("message_stop");
  const { message } = start;
  const inputs: string[] = [];
  let open: number | undefined;
  for (const event of events) {
    if (event.type === "content_block_start") {
      expect(open).toBeUndefined();
      expect(event.index).toBe(message.content.length);
      open = event.index;
      message.content.push(event.content_block);
      inputs.push("");
    } else if (event.type === "content_block_delta") {
      expect(event.index).toBe(open);
      if (event.delta.type === "input_json_delta") inputs[event.index] += event.delta.partial_json;
      else append(message.content[event.index]!, event.delta);
    } else if (event.type === "content_block_stop") {
      expect(event.index).toBe(open);
      open = undefined;
      const block = message.content[event.index];
      if (block?.type === "tool_use") block.input = JSON.parse(inputs[event.index]!);
    } else if (event.type === "message_delta") {
      Object.assign(message, event.delta);
      Object.assign(message.usage, event.usage);
    }
  }
  expect(open).toBeUndefined();
  return message;
}

function saidIn(content: readonly ContentBlock[]): { text: string; thinking: string } {
  const said = { text: "", thinking: "" };
  for (const block of content) {
    if (block.type === "text") said.text += block.text;
    else if (block.type === "thinking") said.thinking += block.thinking;
  }
  return said;
}

function append(block: ContentBlock, delta: RawContentBlockDelta): void {
  if (block.type === "text" && delta.type === "text_delta") block.text += delta.text;
  else if (block.type === "thinking" && delta.type === "thinking_delta") block.thinking += delta.thinking;
  else if (block.type === "thinking" && delta.type === "signature_delta") block.signature = delta.signature;
  else throw new Error(`a ${delta.type} in a block of ${block.type}`);
}

describe.each(Object.entries(answers))("an answer of %s", (name, events) => {
  test("is a stream as the SDK's types describe it", async () => {
    const { items } = await stream(asChoice(events));
    readEvents(items);
    await expect(items.join("")).toMatchFileSnapshot(`./fixtures/anthropic-messages/ours-${name}.sse`);
  });

  test("is a message as the SDK's types describe it, the same as the stream tells", async () => {
    const message = await reply(asChoice(events));
    expectAnthropic("Message", message);
    if (name === "signed") return;
    const { items } = await stream(asChoice(events));
    expect(messageOf(items)).toEqual(message);
  });
});

describe("a stream of Messages", () => {
  test("tells the same message however text and calls are cut and mixed", async () => {
    const chance = seeded(7);
    const random = (below: number): number => Math.floor(chance() * below);
    for (let round = 0; round < 200; round++) {
      const events = randomAnswer(random);
      const { items } = await stream(asChoice(events));
      const told = messageOf(items).content;
      const whole = ((await reply(asChoice(events))) as unknown as Message).content;
      // Calls stand where they began; in a whole message by their indexes.
      const callsIn = (content: ContentBlock[]) =>
        content
          .flatMap((block) => (block.type === "tool_use" ? [block] : []))
          .toSorted((a, b) => (a.id < b.id ? -1 : 1));
      expect(callsIn(told)).toEqual(callsIn(whole));
      expect(saidIn(told)).toEqual(saidIn(whole));
    }
  });

  test("ends in the event `error` where the engine fails, with what the SDK reads as its code", async () => {
    const failing = async function* (): AsyncGenerator<ChoiceEvent> {
      yield { choice: 0, event: text("a") };
      throw new ApiError("insufficient_memory", "no room is left");
    };
    const { items, error } = await stream(failing());
    expect(error).toBeInstanceOf(ApiError);
    expect(readEvents(items).at(-1)).toEqual({
      type: "error",
      error: {
        type: "overloaded_error",
        message: "no room is left",
        details: { error_code: "insufficient_memory" },
      },
    });
  });

  test("that has no finish is a failure, never a whole answer", async () => {
    const { items } = await stream(asChoice([text("a")]));
    expect(readEvents(items).at(-1)?.type).toBe("error");
  });

  test("keeps its client alive with pings, which stand between events", () => {
    const frames = anthropicMessages.encodeStream(asChoice([finish()]), chatRequest(), {}, replyHead);
    expect(frames.heartbeat()).toBe('event: ping\ndata: {"type": "ping"}\n\n');
  });
});

describe("a whole message", () => {
  test("leaves out a call that was cut in the middle of its arguments", async () => {
    const cut = [text("a"), call(0, '{"path": "/ho', { name: "rm" }), finish("length")];
    expect(await reply(asChoice(cut))).toMatchObject({ stop_reason: "max_tokens", content: [{ text: "a" }] });
  });
});

/** Text and thinking, then calls, whose fragments may come by turns. */
function randomAnswer(random: (below: number) => number): ChatEvent[] {
  const events: ChatEvent[] = [];
  for (let at = random(4); at > 0; at--) events.push(random(2) === 0 ? text(`t${at}`) : reasoning(`r${at}`));
  const calls = Array.from({ length: random(4) }, (_, index) => [
    call(index, "", { id: `call_${index}`, name: "f" }),
    ...cut(`{"value":${index}}`, random).map((piece) => call(index, piece)),
  ]);
  for (let left = calls; left.length > 0; left = left.filter((pieces) => pieces.length > 0))
    events.push(left[random(left.length)]!.shift()!);
  return [...events, finish()];
}

function cut(whole: string, random: (below: number) => number): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < whole.length;) {
    const next = at + 1 + random(6);
    pieces.push(whole.slice(at, next));
    at = next;
  }
  return pieces;
}
