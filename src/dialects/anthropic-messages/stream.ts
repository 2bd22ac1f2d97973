import type { ChatEvent, ChatRequest } from "../../core/chat.ts";
import { toApiError } from "../../core/errors.ts";
import type { JsonObject } from "../../core/json.ts";
import { endedEarly, reasonWith } from "../answer.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "../dialect.ts";
import { encodeErrorEvent, pingEvent } from "../error-events.ts";
import { estimatePrompt } from "../estimate.ts";
import { inventCallId } from "../openai-chat/wire.ts";
import { encodeMessage, encodeStop, encodeUsage, localSignature, unstopped } from "./usage.ts";

/**
 * Events → Anthropic's events, one string for each event. The message starts at once with an estimate of its prompt, as
 * clients insist on a usage there; its end tells the true one. A failure of `events` becomes `error`, and is thrown on.
 */
export function encodeStream(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  _body: JsonObject,
  head: ReplyHead,
): Frames {
  const frames = encodeEvents(events, request, head);
  return { [Symbol.asyncIterator]: () => frames, heartbeat: () => pingEvent };
}

async function* encodeEvents(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  head: ReplyHead,
): AsyncGenerator<string> {
  const blocks = new BlockWriter(head.id);
  try {
    yield opening(request, head);
    for await (const { event } of events) {
      if (event.type === "finish") {
        yield blocks.end() + closing(event, blocks.called);
        return;
      }
      const frame = blocks.write(event);
      if (frame !== "") yield frame;
    }
    throw endedEarly();
  } catch (thrown) {
    yield encodeErrorEvent(toApiError(thrown));
    throw thrown;
  }
}

function opening(request: ChatRequest, head: ReplyHead): string {
  const usage = { promptTokens: estimatePrompt(request), completionTokens: 0 };
  const message = encodeMessage(head, { content: [], stop: unstopped, usage });
  return named({ type: "message_start", message }) + pingEvent;
}

type Finish = Extract<ChatEvent, { type: "finish" }>;
type CallEvent = Extract<ChatEvent, { type: "tool-call" }>;

function closing({ reason, usage, stopSequence }: Finish, called: boolean): string {
  const delta = { ...encodeStop(reasonWith(called, reason), stopSequence), container: null };
  return named({ type: "message_delta", delta, usage: encodeUsage(usage) }) + named({ type: "message_stop" });
}

function named(event: JsonObject): string {
  return `event: ${String(event.type)}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** What is said of a call while another one's block is open. */
interface WaitingCall {
  id: string | undefined;
  name: string | undefined;
  arguments: string;
}

/** Blocks come one after the other: text, thinking and calls, each opened by what it says first. */
class BlockWriter {
  readonly #replyId: string;
  /** Of the block that is open, or was last. */
  #index = -1;
  #open: "text" | "thinking" | "call" | undefined;
  /** The index of the call whose block is open. */
  #call = -1;
  #anyArguments = false;
  #signature: string | undefined;
  /** The head of each delta of the open block. */
  #delta = "";
  /** A server may say several calls by turns; only one of them can be told at a time. */
  readonly #waiting = new Map<number, WaitingCall>();
  readonly #told = new Set<number>();

  constructor(replyId: string) {
    this.#replyId = replyId;
  }

  /** Whether any tool was called. */
  get called(): boolean {
    return this.#told.size > 0;
  }

  write(event: Exclude<ChatEvent, Finish>): string {
    switch (event.type) {
      case "text":
        return event.text === "" ? "" : this.#say("text", event.text);
      case "reasoning":
        return this.#think(event.text, event.signature);
      case "tool-call":
        return this.#tell(event);
      case "progress":
      case "logprobs":
        return "";
    }
  }

  /** Ends the open block, and tells of the calls that had to wait. */
  end(): string {
    let frames = this.#close();
    for (const [index, call] of [...this.#waiting].toSorted(([left], [right]) => left - right)) {
      frames += this.#begin({ type: "tool-call", index, ...call }) + this.#close();
    }
    this.#waiting.clear();
    return frames;
  }

  #think(text: string, signature: string | undefined): string {
    const frame = text === "" ? "" : this.#say("thinking", text);
    if (signature !== undefined && this.#open === "thinking") this.#signature = signature;
    return frame;
  }

  #say(kind: "text" | "thinking", text: string): string {
    let frames = "";
    if (this.#open !== kind) {
      frames = this.end() + this.#start(kind, kind === "text" ? textBlock : thinkingBlock);
    }
    return `${frames}${this.#delta}${JSON.stringify(text)}}}\n\n`;
  }

  #tell(event: CallEvent): string {
    if (this.#open !== "call") return this.end() + this.#begin(event);
    if (event.index === this.#call) return this.#arguments(event.arguments);
    const call = this.#waiting.get(event.index);
    if (call === undefined) {
      // Of a call whose block is closed nothing more can be told.
      if (!this.#told.has(event.index)) this.#waiting.set(event.index, toWaiting(event));
    } else {
      call.id ??= event.id;
      call.name ??= event.name;
      call.arguments += event.arguments;
    }
    return "";
  }

  #begin({
    index,
    id,
    name,
    arguments: text,
  }: CallEvent | (WaitingCall & { type: "tool-call"; index: number })): string {
    const callId = id === undefined || id === "" ? inventCallId(this.#replyId, 0, index) : id;
    const block = `{"type":"tool_use","id":${JSON.stringify(callId)},"name":${JSON.stringify(name ?? "")},"input":{},"caller":{"type":"direct"}}`;
    this.#call = index;
    this.#anyArguments = false;
    this.#told.add(index);
    return this.#start("call", block) + this.#arguments(text);
  }

  #arguments(text: string): string {
    if (text === "") return "";
    this.#anyArguments = true;
    return `${this.#delta}${JSON.stringify(text)}}}\n\n`;
  }

  #start(kind: "text" | "thinking" | "call", block: string): string {
    this.#index++;
    this.#open = kind;
    this.#delta = `event: content_block_delta\ndata: {"type":"content_block_delta","index":${this.#index},"delta":${deltas[kind]}`;
    return `event: content_block_start\ndata: {"type":"content_block_start","index":${this.#index},"content_block":${block}}\n\n`;
  }

  #close(): string {
    if (this.#open === undefined) return "";
    const rest =
      this.#open === "thinking"
        ? this.#sign()
        : this.#open === "call" && !this.#anyArguments
          ? this.#arguments("{}")
          : "";
    this.#open = undefined;
    return `${rest}event: content_block_stop\ndata: {"type":"content_block_stop","index":${this.#index}}\n\n`;
  }

  #sign(): string {
    const signature = JSON.stringify(this.#signature ?? localSignature);
    this.#signature = undefined;
    return `event: content_block_delta\ndata: {"type":"content_block_delta","index":${this.#index},"delta":{"type":"signature_delta","signature":${signature}}}\n\n`;
  }
}

const textBlock = '{"type":"text","text":"","citations":null}';
const thinkingBlock = '{"type":"thinking","thinking":"","signature":""}';

/** The head of a delta of each kind of block. */
const deltas = {
  text: '{"type":"text_delta","text":',
  thinking: '{"type":"thinking_delta","thinking":',
  call: '{"type":"input_json_delta","partial_json":',
};

function toWaiting({ id, name, arguments: text }: CallEvent): WaitingCall {
  return { id, name, arguments: text };
}
