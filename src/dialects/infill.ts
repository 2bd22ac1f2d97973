import type { ChatEvent, CompletionRequest, SourceFile } from "../core/chat.ts";
import { toApiError } from "../core/errors.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { type Answer, collectAnswers, endedEarly } from "./answer.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "./dialect.ts";
import { asObject, defined, readArray, readBoolean, readInteger, readString, required, without } from "./fields.ts";
import { decodeSampling, samplingFields } from "./openai-chat/request.ts";
import { encodeStreamError, encodeTimings, withComments } from "./openai-chat/wire.ts";

/** `POST /infill`, llama-server's: the text between two others, as editors ask for it. */
export interface InfillCall {
  readonly request: CompletionRequest;
  readonly stream: boolean;
}

const knownFields: ReadonlySet<string> = new Set([
  ...samplingFields,
  ..."model input_prefix input_suffix input_extra prompt stream n_probs cache_prompt id_slot".split(" "),
]);

/** Throws `ApiError` naming the field. `prompt` is what stands between the prefix and the gap. */
export function decodeInfill(body: JsonObject, model: string): InfillCall {
  const prefix = required(readString(body, "input_prefix"), "input_prefix");
  const suffix = required(readString(body, "input_suffix"), "input_suffix");
  // Editors warm the cache up by asking for no token: one is the least that is computed here.
  const sampling = decodeSampling(body.n_predict === 0 ? { ...body, n_predict: 1 } : body);
  return {
    request: {
      model,
      ...sampling,
      prompt: prefix + (readString(body, "prompt") ?? ""),
      suffix,
      files: decodeFiles(body),
      ...defined({ topLogprobs: readInteger(body, "n_probs", { min: 0, max: 20 }) || undefined }),
      extra: without(body, knownFields),
    },
    stream: readBoolean(body, "stream") ?? false,
  };
}

/** Events → frames as llama-server writes them: `content` piece by piece, then one with `stop: true`. */
export function encodeInfillStream(events: AsyncIterable<ChoiceEvent>, head: ReplyHead): Frames {
  return withComments(encodeFrames(events, head));
}

async function* encodeFrames(events: AsyncIterable<ChoiceEvent>, head: ReplyHead): AsyncGenerator<string> {
  const frame = (json: JsonObject): string => `data: ${JSON.stringify(json)}\n\n`;
  try {
    for await (const { event } of events) {
      if (event.type === "text") yield frame({ index: 0, content: event.text, stop: false });
      else if (event.type === "finish") return yield frame({ index: 0, content: "", ...encodeEnd(event, head) });
    }
    throw endedEarly();
  } catch (thrown) {
    yield encodeStreamError(toApiError(thrown));
    throw thrown;
  }
}

/** Events → one reply of llama-server's form. */
export async function encodeInfillReply(events: AsyncIterable<ChoiceEvent>, head: ReplyHead): Promise<Json> {
  const [answer] = (await collectAnswers(events, 1, () => "")) as [Answer];
  return { index: 0, content: answer.text, ...encodeEnd(answer, head) };
}

function encodeEnd(
  { reason, usage, timings }: Pick<ChatEvent & { type: "finish" }, "reason" | "usage" | "timings">,
  head: ReplyHead,
): JsonObject {
  return {
    model: head.model,
    stop: true,
    stop_type: reason === "length" ? "limit" : "eos",
    truncated: false,
    tokens_predicted: usage.completionTokens,
    tokens_evaluated: usage.promptTokens,
    tokens_cached: usage.cachedTokens ?? 0,
    ...(timings === undefined ? {} : { timings: encodeTimings(usage, timings) }),
  };
}

function decodeFiles(body: JsonObject): SourceFile[] {
  return (readArray(body, "input_extra") ?? []).map((item, index) => {
    const at = `input_extra[${index}]`;
    const file = asObject(item, at);
    return {
      name: readString(file, "filename", at) ?? "tmp",
      text: required(readString(file, "text", at), `${at}.text`),
    };
  });
}
