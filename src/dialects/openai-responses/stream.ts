import type { ChatEvent, ChatRequest, TokenLogprob, Usage } from "../../core/chat.ts";
import { toApiError } from "../../core/errors.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import { endedEarly } from "../answer.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "../dialect.ts";
import { inventCallId } from "../openai-chat/wire.ts";
import { encodeLogprobs, encodeResponse, type ResponseState } from "./response.ts";

/** Events → the full sequence of response events; clients differ in which of them they need. A failure is `response.failed`. */
export function encodeStream(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  body: JsonObject,
  head: ReplyHead,
): Frames {
  const writer = new EventWriter((state) => encodeResponse(head, request, body, state));
  const frames = encodeEvents(events, writer, head.id);
  return { [Symbol.asyncIterator]: () => frames, heartbeat: () => writer.running() };
}

async function* encodeEvents(
  events: AsyncIterable<ChoiceEvent>,
  writer: EventWriter,
  replyId: string,
): AsyncGenerator<string> {
  const items = new OutputItems(replyId);
  try {
    yield writer.opening();
    for await (const { event } of events) {
      if (event.type === "finish") {
        const closing = items.close(isCut(event) ? "incomplete" : "completed");
        yield writer.write(closing) + writer.closing(finalState(event, items));
        return;
      }
      const frame = event.type === "progress" ? writer.running() : writer.write(items.add(event));
      if (frame !== "") yield frame;
    }
    throw endedEarly();
  } catch (thrown) {
    yield writer.closing({ status: "failed", output: items.output, error: toApiError(thrown) });
    throw thrown;
  }
}

/** Numbers the events of a reply, and names each in a line of its own. */
class EventWriter {
  readonly #response: (state: ResponseState) => JsonObject;
  #sequence = 0;

  constructor(response: (state: ResponseState) => JsonObject) {
    this.#response = response;
  }

  write(events: readonly JsonObject[]): string {
    return events
      .map(
        (event) =>
          `event: ${String(event.type)}\ndata: ${JSON.stringify({ ...event, sequence_number: this.#sequence++ })}\n\n`,
      )
      .join("");
  }

  opening(): string {
    return this.#lifecycle("response.created", { status: "in_progress", output: [] }) + this.running();
  }

  /** A sign of life. Codex counts events, not bytes, so a comment is none; and the openai SDK fails on an event `ping`. */
  running(): string {
    return this.#lifecycle("response.in_progress", { status: "in_progress", output: [] });
  }

  closing(state: ResponseState): string {
    return this.#lifecycle(`response.${state.status}`, state);
  }

  #lifecycle(type: string, state: ResponseState): string {
    return this.write([{ type, response: this.#response(state) }]);
  }
}

/** Events → the whole response. Throws what `events` throws, and `upstream_error` where there is no finish. */
export async function encodeReply(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  body: JsonObject,
  head: ReplyHead,
): Promise<Json> {
  const items = new OutputItems(head.id);
  for await (const { event } of events) {
    if (event.type === "progress") continue;
    if (event.type !== "finish") items.add(event);
    else {
      items.close(isCut(event) ? "incomplete" : "completed");
      return encodeResponse(head, request, body, finalState(event, items));
    }
  }
  throw endedEarly();
}

type Finish = Extract<ChatEvent, { type: "finish" }>;
type Saying = Exclude<ChatEvent, { type: "finish" | "progress" }>;

function isCut({ reason }: Finish): boolean {
  return reason === "length" || reason === "content-filter";
}

function finalState(event: Finish, items: OutputItems): ResponseState {
  const usage: Usage = event.usage;
  return { status: isCut(event) ? "incomplete" : "completed", output: items.output, usage, reason: event.reason };
}

/** A block of text that is being said: an item of one content part. */
interface OpenText {
  readonly kind: "text" | "reasoning";
  readonly id: string;
  readonly index: number;
  text: string;
  logprobs: TokenLogprob[];
}

interface OpenCall {
  readonly id: string;
  readonly callId: string;
  readonly name: string;
  readonly index: number;
  arguments: string;
}

/**
 * The output items as they grow, and the events that tell of it. A change between thinking, text and calls ends a text
 * item; calls stay open until the end, for fragments of parallel calls may alternate.
 */
class OutputItems {
  readonly output: JsonObject[] = [];
  readonly #replyId: string;
  #open: OpenText | undefined;
  readonly #calls = new Map<number, OpenCall>();
  #logprobs: TokenLogprob[] = [];

  constructor(replyId: string) {
    this.#replyId = replyId;
  }

  add(event: Saying): JsonObject[] {
    switch (event.type) {
      case "text":
      case "reasoning":
        return this.#addText(event.type, event.text);
      case "tool-call":
        return this.#addCall(event);
      case "logprobs":
        this.#logprobs.push(...event.tokens);
        return [];
    }
  }

  /** Ends every open item. */
  close(status: "completed" | "incomplete"): JsonObject[] {
    const events = this.#closeText(status);
    for (const call of this.#calls.values()) events.push(...this.#closeCall(call, status));
    this.#calls.clear();
    return events;
  }

  #addText(kind: OpenText["kind"], text: string): JsonObject[] {
    const events = this.#open?.kind === kind ? [] : [...this.#closeText("completed"), ...this.#openText(kind)];
    const open = this.#open;
    if (open === undefined) return events;
    open.text += text;
    const at = { item_id: open.id, output_index: open.index, content_index: 0 };
    if (kind === "reasoning") return [...events, { type: "response.reasoning_text.delta", ...at, delta: text }];
    const tokens = this.#takeLogprobs(open);
    return [...events, { type: "response.output_text.delta", ...at, delta: text, logprobs: tokens }];
  }

  #openText(kind: OpenText["kind"]): JsonObject[] {
    const index = this.output.length;
    const id = this.#itemId(kind === "text" ? "msg" : "rs", index);
    this.#open = { kind, id, index, text: "", logprobs: [] };
    const item: JsonObject =
      kind === "text"
        ? { id, type: "message", role: "assistant", status: "in_progress", content: [] }
        : { id, type: "reasoning", status: "in_progress", summary: [], content: [] };
    this.output.push(item);
    return [
      { type: "response.output_item.added", output_index: index, item },
      {
        type: "response.content_part.added",
        item_id: id,
        output_index: index,
        content_index: 0,
        part: partOf(this.#open),
      },
    ];
  }

  #closeText(status: "completed" | "incomplete"): JsonObject[] {
    const open = this.#open;
    if (open === undefined) return [];
    this.#takeLogprobs(open);
    this.#open = undefined;
    const part = partOf(open);
    const item: JsonObject =
      open.kind === "text"
        ? { id: open.id, type: "message", role: "assistant", status, content: [part] }
        : { id: open.id, type: "reasoning", status, summary: [], content: [part] };
    this.output[open.index] = item;
    const at = { item_id: open.id, output_index: open.index, content_index: 0 };
    const done: JsonObject =
      open.kind === "text"
        ? { type: "response.output_text.done", ...at, text: open.text, logprobs: encodeLogprobs(open.logprobs) }
        : { type: "response.reasoning_text.done", ...at, text: open.text };
    return [
      done,
      { type: "response.content_part.done", ...at, part },
      { type: "response.output_item.done", output_index: open.index, item },
    ];
  }

  #addCall({ index, id, name, arguments: fragment }: Extract<ChatEvent, { type: "tool-call" }>): JsonObject[] {
    const events = this.#closeText("completed");
    let call = this.#calls.get(index);
    if (call === undefined) {
      const position = this.output.length;
      const callId = id === undefined || id === "" ? inventCallId(this.#replyId, 0, index) : id;
      call = { id: this.#itemId("fc", position), callId, name: name ?? "", index: position, arguments: "" };
      this.#calls.set(index, call);
      const item = itemOf(call, "in_progress");
      this.output.push(item);
      events.push({ type: "response.output_item.added", output_index: position, item });
    }
    if (fragment === "") return events;
    call.arguments += fragment;
    events.push({
      type: "response.function_call_arguments.delta",
      item_id: call.id,
      output_index: call.index,
      delta: fragment,
    });
    return events;
  }

  #closeCall(call: OpenCall, status: "completed" | "incomplete"): JsonObject[] {
    const item = itemOf(call, status);
    this.output[call.index] = item;
    const at = { item_id: call.id, output_index: call.index };
    return [
      { type: "response.function_call_arguments.done", ...at, name: call.name, arguments: call.arguments },
      { type: "response.output_item.done", output_index: call.index, item },
    ];
  }

  /** Log probabilities that came since the last text; kept for the whole text too. */
  #takeLogprobs(open: OpenText): JsonObject[] {
    if (this.#logprobs.length === 0 || open.kind !== "text") return [];
    const tokens = this.#logprobs;
    this.#logprobs = [];
    open.logprobs.push(...tokens);
    return encodeLogprobs(tokens);
  }

  #itemId(prefix: string, index: number): string {
    return `${prefix}_${this.#replyId.replace(/^resp_/, "")}_${index}`;
  }
}

function partOf({ kind, text, logprobs }: OpenText): JsonObject {
  if (kind === "reasoning") return { type: "reasoning_text", text };
  return { type: "output_text", text, annotations: [], logprobs: encodeLogprobs(logprobs) };
}

function itemOf(call: OpenCall, status: string): JsonObject {
  return {
    id: call.id,
    type: "function_call",
    status,
    call_id: call.callId,
    name: call.name,
    arguments: call.arguments,
  };
}
