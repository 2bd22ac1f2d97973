import type { JsonObject } from "../core/json.ts";
import type { Provider } from "../core/provider.ts";
import { openaiServer } from "./openai-server.ts";
import type { ProviderTools } from "./settings.ts";
import { countedByChat } from "./token-counters.ts";
import type { Upstream } from "./upstream.ts";

/**
 * vLLM. It forces tool calls itself, and refuses prompt and `max_tokens` together beyond its context, which is asked
 * again with what fits. Its `/tokenize` counts a whole chat.
 */
export function vllm(upstream: Upstream, tools: ProviderTools): Provider {
  const server = openaiServer(upstream, tools, {
    kind: "vllm",
    toolChoice: "all",
    maxStops: 4,
    healthPath: "/health",
    adapt: toPrompt,
  });
  return { ...server, countTokens: countedByChat(upstream) };
}

/** llama-server's name for the text, and ours. */
function toPrompt(body: JsonObject, path: string): JsonObject | undefined {
  if (path !== "/tokenize" || body.prompt !== undefined || body.messages !== undefined) return undefined;
  return { prompt: body.content ?? body.text ?? body.input, content: undefined };
}
