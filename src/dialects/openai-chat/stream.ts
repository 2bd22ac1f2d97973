import type { ChatEvent, ChatRequest, TokenLogprob } from "../../core/chat.ts";
import { toApiError } from "../../core/errors.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import { endedEarly, reasonWith, totalUsage } from "../answer.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "../dialect.ts";
import {
  encodeLogprobs,
  encodeStreamError,
  encodeTimings,
  encodeUsage,
  finishReasons,
  inventCallId,
  withComments,
} from "./wire.ts";

type Finish = ChatEvent & { readonly type: "finish" };

/**
 * Events → `chat.completion.chunk` frames, one string for each event. Reasoning is said under both names that clients
 * read. The usage chunk comes unless the client declined it; without it opencode never compacts a conversation.
 * A failure of `events` becomes the error frame, and is then thrown on.
 */
export function encodeStream(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  body: JsonObject,
  head: ReplyHead,
): Frames {
  return withComments(encodeChunks(events, request, body, head));
}

async function* encodeChunks(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  body: JsonObject,
  head: ReplyHead,
): AsyncGenerator<string> {
  const frames = new ChunkWriter(head);
  const choices: ChoiceWriter[] = [];
  const finishes: Finish[] = [];
  try {
    for await (const { choice, event } of events) {
      if (event.type === "progress") {
        yield encodeProgress(event);
        continue;
      }
      const writer = (choices[choice] ??= new ChoiceWriter(frames, choice, head.id));
      const frame = writer.write(event);
      if (event.type === "finish" && finishes.push(event) >= request.n) {
        yield frame + ending(frames, finishes, body);
        return;
      }
      if (frame !== "") yield frame;
    }
    throw endedEarly();
  } catch (thrown) {
    yield encodeStreamError(toApiError(thrown));
    throw thrown;
  }
}

function ending(frames: ChunkWriter, finishes: readonly Finish[], body: JsonObject): string {
  const declined = isObject(body.stream_options) && body.stream_options.include_usage === false;
  if (declined) return "data: [DONE]\n\n";
  const [first] = finishes;
  const timings = first?.timings === undefined ? null : encodeTimings(first.usage, first.timings);
  return `${frames.usage(encodeUsage(totalUsage(finishes.map(({ usage }) => usage))), timings)}data: [DONE]\n\n`;
}

/** A comment line, which clients skip and people read: `: prefill 512/2048`. */
function encodeProgress({ phase, position, done, total }: Extract<ChatEvent, { type: "progress" }>): string {
  const ahead = position === undefined ? "" : ` ${position} ahead`;
  const share = done === undefined || total === undefined ? "" : ` ${done}/${total}`;
  return `: ${phase}${ahead}${share}\n\n`;
}

/** The constant part of every chunk, written once. */
class ChunkWriter {
  readonly #prefix: string;

  constructor({ id, created, model }: ReplyHead) {
    this.#prefix = `data: {"id":${JSON.stringify(id)},"object":"chat.completion.chunk","created":${created},"model":${JSON.stringify(model)},"choices":[`;
  }

  /** `delta` is JSON text. */
  delta(choice: number, delta: string): string {
    return `${this.#prefix}{"index":${choice},"delta":${delta},"finish_reason":null}]}\n\n`;
  }

  /** `rest` is JSON text that follows the delta: `,"logprobs":…`. */
  full(choice: number, delta: string, rest: string): string {
    return `${this.#prefix}{"index":${choice},"delta":${delta}${rest}}]}\n\n`;
  }

  usage(usage: JsonObject, timings: JsonObject | null): string {
    const rest = timings === null ? "" : `,"timings":${JSON.stringify(timings)}`;
    return `${this.#prefix}],"usage":${JSON.stringify(usage)}${rest}}\n\n`;
  }
}

class ChoiceWriter {
  readonly #frames: ChunkWriter;
  readonly #choice: number;
  readonly #replyId: string;
  readonly #calls = new Set<number>();
  #logprobs: TokenLogprob[] = [];
  #started = false;

  constructor(frames: ChunkWriter, choice: number, replyId: string) {
    this.#frames = frames;
    this.#choice = choice;
    this.#replyId = replyId;
  }

  write(event: Exclude<ChatEvent, { type: "progress" }>): string {
    const frame = this.#encode(event);
    if (this.#started) return frame;
    this.#started = true;
    return this.#frames.delta(this.#choice, '{"role":"assistant","content":""}') + frame;
  }

  #encode(event: Exclude<ChatEvent, { type: "progress" }>): string {
    switch (event.type) {
      case "text":
        return this.#text(event.text);
      case "reasoning": {
        const text = JSON.stringify(event.text);
        return this.#frames.delta(this.#choice, `{"reasoning_content":${text},"reasoning":${text}}`);
      }
      case "tool-call":
        return this.#frames.delta(this.#choice, `{"tool_calls":[${this.#toolCall(event)}]}`);
      case "logprobs":
        // They ride on the next text or on the finish: no frame of their own.
        this.#logprobs.push(...event.tokens);
        return "";
      case "finish": {
        const reason = finishReasons[reasonWith(this.#calls.size > 0, event.reason)];
        return this.#frames.full(this.#choice, "{}", `${this.#takeLogprobs()},"finish_reason":"${reason}"`);
      }
    }
  }

  #text(text: string): string {
    const delta = `{"content":${JSON.stringify(text)}}`;
    if (this.#logprobs.length === 0) return this.#frames.delta(this.#choice, delta);
    return this.#frames.full(this.#choice, delta, `${this.#takeLogprobs()},"finish_reason":null`);
  }

  #takeLogprobs(): string {
    if (this.#logprobs.length === 0) return "";
    const text = `,"logprobs":${JSON.stringify(encodeLogprobs(this.#logprobs))}`;
    this.#logprobs = [];
    return text;
  }

  /** The first fragment must bring a non-empty id and the name: opencode breaks off without them. */
  #toolCall({ index, id, name, arguments: fragment }: Extract<ChatEvent, { type: "tool-call" }>): string {
    const text = JSON.stringify(fragment);
    if (this.#calls.has(index)) return `{"index":${index},"function":{"arguments":${text}}}`;
    this.#calls.add(index);
    const callId = JSON.stringify(
      id === undefined || id === "" ? inventCallId(this.#replyId, this.#choice, index) : id,
    );
    return `{"index":${index},"id":${callId},"type":"function","function":{"name":${JSON.stringify(name ?? "")},"arguments":${text}}}`;
  }
}
