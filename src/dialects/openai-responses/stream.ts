import type { ChatEvent, ChatRequest } from "../../core/chat.ts";
import { toApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { endedEarly } from "../answer.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "../dialect.ts";
import { EventWriter } from "./event-writer.ts";
import { OutputItems, type OutputForm } from "./output-items.ts";
import { responseWriter, type ResponseState, type ResponseWriter } from "./response.ts";
import { decodeTools } from "./tools.ts";

/** Events → the full sequence of response events; clients differ in which of them they need. A failure is `response.failed`. */
export function encodeStream(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  body: JsonObject,
  head: ReplyHead,
): Frames {
  const { writer, items } = begin(request, body, head);
  const frames = encodeEvents(events, writer, items);
  return { [Symbol.asyncIterator]: () => frames, heartbeat: () => writer.running() };
}

/** Events → the whole response. Throws what `events` throws, and `upstream_error` where there is no finish. */
export async function encodeReply(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  body: JsonObject,
  head: ReplyHead,
): Promise<Json> {
  const { items, response } = begin(request, body, head);
  for await (const { event } of events) {
    if (event.type === "progress") continue;
    if (event.type !== "finish") items.add(event);
    else {
      items.close(endOf(event));
      // The stream's last event says the same, in the same words.
      return JSON.parse(response(finalState(event, items))) as Json;
    }
  }
  throw endedEarly();
}

interface Output {
  readonly writer: EventWriter;
  readonly items: OutputItems;
  readonly response: ResponseWriter;
}

function begin(request: ChatRequest, body: JsonObject, head: ReplyHead): Output {
  const { names, notes } = decodeTools(body);
  const response = responseWriter(head, request, body, notes);
  const writer = new EventWriter(response);
  const reasoning = isObject(body.reasoning) ? body.reasoning : {};
  const form: OutputForm = {
    names,
    // `generate_summary` is what OpenAI called it first.
    summary: typeof (reasoning.summary ?? reasoning.generate_summary) === "string",
    encrypted: Array.isArray(body.include) && body.include.includes("reasoning.encrypted_content"),
  };
  return { writer, items: new OutputItems(writer, form, head.id), response };
}

async function* encodeEvents(
  events: AsyncIterable<ChoiceEvent>,
  writer: EventWriter,
  items: OutputItems,
): AsyncGenerator<string> {
  try {
    yield writer.opening();
    for await (const { event } of events) {
      if (event.type === "finish") {
        yield items.close(endOf(event)) + writer.closing(finalState(event, items));
        return;
      }
      // The sign of life that clients count holds the whole request: heartbeats are enough of it.
      const frame = event.type === "progress" ? "" : items.add(event);
      if (frame !== "") yield frame;
    }
    throw endedEarly();
  } catch (thrown) {
    items.abandon();
    yield writer.closing({ status: "failed", output: items.output, error: toApiError(thrown) });
    throw thrown;
  }
}

type Finish = Extract<ChatEvent, { type: "finish" }>;

/** A model that was stopped has not completed its answer. */
function endOf({ reason }: Finish): "completed" | "incomplete" {
  return reason === "length" || reason === "content-filter" ? "incomplete" : "completed";
}

function finalState(event: Finish, { output }: OutputItems): ResponseState {
  const { reason, usage, timings } = event;
  return { status: endOf(event), output, usage, reason, ...(timings === undefined ? {} : { timings }) };
}
