import { expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import type { ChoiceEvent } from "../../src/dialects/dialect.ts";
import { encodeReply } from "../../src/dialects/openai-chat/reply.ts";
import { encodeStream } from "../../src/dialects/openai-chat/stream.ts";
import { replyHead } from "../support/chat.ts";
import { chatRequest } from "../support/chat-request.ts";

const head = { ...replyHead, id: "chatcmpl-1", created: 1, model: "m" };
const request = chatRequest("m", "Hi");
const finish: ChatEvent = {
  type: "finish",
  reason: "stop",
  usage: { promptTokens: 100, completionTokens: 20, cachedTokens: 60, acceptedDraftTokens: 9, rejectedDraftTokens: 3 },
  timings: {
    queuedMs: 5,
    promptMs: 80,
    completionMs: 400,
    cacheMiss: { reason: "changed", position: 60, cached: " old", found: " new", message: 2 },
  },
};

async function* answer(last: ChatEvent): AsyncGenerator<ChoiceEvent> {
  yield { choice: 0, event: { type: "text", text: "Hello" } };
  yield { choice: 0, event: last };
}

const timings = {
  cache_n: 60,
  prompt_n: 40,
  prompt_ms: 80,
  prompt_per_token_ms: 2,
  prompt_per_second: 500,
  predicted_n: 20,
  predicted_ms: 400,
  predicted_per_token_ms: 20,
  predicted_per_second: 50,
  draft_n: 12,
  draft_n_accepted: 9,
  queued_ms: 5,
  cache_miss: { reason: "changed", position: 60, cached: " old", found: " new", message: 2 },
};

test("a reply tells where its time went, as llama-server does, and why the cache was missed", async () => {
  const reply = await encodeReply(answer(finish), request, {}, head);
  expect(reply).toMatchObject({
    timings,
    usage: { completion_tokens_details: { accepted_prediction_tokens: 9, rejected_prediction_tokens: 3 } },
  });
});

test("a stream tells it beside the usage", async () => {
  let text = "";
  for await (const frame of encodeStream(answer(finish), request, {}, head)) text += frame;
  const frames = text
    .split("\n\n")
    .flatMap((frame) => (frame.startsWith("data: {") ? [JSON.parse(frame.slice(6))] : []));
  expect(frames.filter((frame) => frame.timings !== undefined)).toEqual([
    expect.objectContaining({ choices: [], timings, usage: expect.objectContaining({ prompt_tokens: 100 }) }),
  ]);
});

test("an engine that tells no times adds none", async () => {
  const { timings: _told, ...silent } = finish as ChatEvent & { type: "finish" };
  const reply = await encodeReply(
    answer({ ...silent, usage: { promptTokens: 1, completionTokens: 1 } }),
    request,
    {},
    head,
  );
  expect(reply).not.toHaveProperty("timings");
  expect((reply as { usage: object }).usage).toEqual({ prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 });
});
