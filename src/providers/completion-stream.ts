import type { ChatEvent, FinishReason, Usage } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json } from "../core/json.ts";
import { estimateTokens } from "../dialects/estimate.ts";
import { parseSse } from "../wire/sse.ts";
import { errorInReply } from "./upstream-error.ts";

/** The SSE of `/v1/completions` of an OpenAI-compatible server → events. Throws what it tells of, and for an early end. */
export async function* decodeCompletionStream(
  bytes: AsyncIterable<Uint8Array>,
  { provider, promptTokens }: { provider: string; promptTokens: number },
): AsyncGenerator<ChatEvent> {
  let reason: FinishReason | undefined;
  let usage: Usage | undefined;
  let said = 0;
  for await (const { data, stray } of parseSse(bytes)) {
    if (data === "[DONE]") break;
    const json = parsed(stray ?? data);
    const error = errorInReply(provider, json);
    if (error !== undefined) throw error;
    if (!isObject(json)) continue;
    if (isObject(json.usage)) usage = toUsage(json.usage.prompt_tokens, json.usage.completion_tokens);
    const choice = Array.isArray(json.choices) ? json.choices[0] : undefined;
    if (!isObject(choice)) continue;
    if (typeof choice.text === "string" && choice.text !== "") {
      said += choice.text.length;
      yield { type: "text", text: choice.text };
    }
    const told = choice.finish_reason;
    if (told === "abort" || told === "error")
      throw new ApiError("upstream_error", `${provider} broke off its answer (finish_reason "${told}")`, { provider });
    if (typeof told === "string" && told !== "") reason = told === "length" ? "length" : "stop";
  }
  if (reason === undefined)
    throw new ApiError("upstream_error", `${provider}: the stream ended early, the answer is not complete`, {
      provider,
    });
  yield {
    type: "finish",
    reason,
    usage: usage ?? { promptTokens, completionTokens: said === 0 ? 0 : estimateTokens(said) },
  };
}

function toUsage(prompt: Json | undefined, completion: Json | undefined): Usage {
  return { promptTokens: Number(prompt ?? 0), completionTokens: Number(completion ?? 0) };
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
