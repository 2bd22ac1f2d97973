import type { JsonObject } from "../core/json.ts";
import type { Provider } from "../core/provider.ts";
import { openaiServer } from "./openai-server.ts";
import type { ProviderTools } from "./settings.ts";
import type { Upstream } from "./upstream.ts";

/**
 * Any OpenAI-compatible server: llama-server, LM Studio, another runtime, a hosted one. Whether it honours
 * `tool_choice` is seen by its answer: llama-server takes the object form for "auto" without a word.
 */
export function openai(upstream: Upstream, tools: ProviderTools): Provider {
  return openaiServer(upstream, tools, {
    kind: "openai",
    toolChoice: "unknown",
    maxStops: 4,
    healthPath: "/v1/models",
    adapt: toContent,
  });
}

/** vLLM's name for the text → llama-server's. */
function toContent(body: JsonObject, path: string): JsonObject | undefined {
  return path === "/tokenize" && body.content === undefined && body.prompt !== undefined
    ? { content: body.prompt }
    : undefined;
}
