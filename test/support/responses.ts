import type { ChatEvent } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";
import { drain } from "./bytes.ts";
import { asChoice, dataOf, replyHead } from "./chat.ts";

const head = { ...replyHead, id: "resp_req1" };

/** The whole reply to a call with this body, when the model says these events. */
export async function responseOf(body: JsonObject, events: readonly ChatEvent[]): Promise<JsonObject> {
  const request = openaiResponses.decodeRequest({ input: "hi", ...body }, "m", {});
  return (await openaiResponses.encodeReply(asChoice(events), request, body, head)) as JsonObject;
}

/** The same as a stream: its events. */
export async function streamOf(body: JsonObject, events: readonly ChatEvent[]): Promise<JsonObject[]> {
  const request = openaiResponses.decodeRequest({ input: "hi", ...body }, "m", {});
  const { items } = await drain(openaiResponses.encodeStream(asChoice(events), request, body, head));
  return dataOf(items) as JsonObject[];
}

/** The output of the response that ends a stream. */
export function outputOf(sent: readonly JsonObject[]): JsonObject[] {
  const { response } = sent.at(-1) as { response: { output: JsonObject[] } };
  return response.output;
}
