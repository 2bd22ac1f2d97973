import type { Call, Handler } from "../core/call.ts";
import type { Engine } from "../core/engine.ts";
import { ApiError } from "../core/errors.ts";
import { addressProblem, type ImageSources, noImageSources } from "../core/image-source.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Endpoint, Provider } from "../core/provider.ts";
import { asObject, invalidValue, readArray, readString, required } from "../dialects/fields.ts";
import { mediaAddresses } from "../dialects/media-addresses.ts";
import { fromEngine } from "../dialects/translate.ts";
import { clampMaxTokens, OpenAiClient } from "./openai-client.ts";
import { withMendedCalls, withOneSystemMessage } from "./mended-messages.ts";
import { listModels, probe } from "./openai-models.ts";
import { passthrough } from "./passthrough.ts";
import { lift, type ProviderTools } from "./settings.ts";
import type { ToolChoiceSupport } from "./tool-choice.ts";
import type { Upstream } from "./upstream.ts";

export interface OpenAiServerOptions {
  readonly kind: string;
  readonly toolChoice: ToolChoiceSupport;
  /** Most stop strings that the server takes. */
  readonly maxStops: number;
  /** Path that tells whether the server is up. */
  readonly healthPath: string;
  /** Changes to requests of endpoints other than chat. */
  readonly adapt?: (body: JsonObject, path: string) => JsonObject | undefined;
}

const speaks: ReadonlySet<Endpoint> = new Set([
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/v1/rerank",
  "/tokenize",
  "/detokenize",
]);

/**
 * A server that speaks OpenAI's formats: bytes pass through. Only chats that ask for more than the server is known to
 * keep (a forced tool call, many stop strings) are read as events and held to it.
 */
export function openaiServer(upstream: Upstream, tools: ProviderTools, options: OpenAiServerOptions): Provider {
  const { name } = upstream;
  const client = new OpenAiClient(upstream, {
    toolChoice: options.toolChoice,
    maxStops: options.maxStops,
    mend: mendRefused,
  });
  const direct = passthrough({
    name,
    upstream,
    adapt: (body, call) => (call.path === "/v1/chat/completions" ? adaptChat(body) : options.adapt?.(body, call.path)),
    mend: mendRefused,
    askAgain: (request, signal) => client.chat(request, signal),
    log: tools.log,
    ...(tools.heartbeat === undefined ? {} : { heartbeat: tools.heartbeat }),
  });
  const models: Engine["models"] = (signal) => listModels(upstream, signal);
  const health: Engine["health"] = (signal) => probe(upstream, options.healthPath, signal);
  const close = (): Promise<void> => upstream.close();
  const enforced = fromEngine(
    { name, kind: options.kind, chat: (request, signal) => client.chat(request, signal), models, health, close },
    lift(tools),
  );
  const handle: Handler = async (call) => {
    await refuseAddresses(call, tools.images ?? noImageSources);
    return (await needsEnforcing(call, options)) ? enforced.handle(call) : direct(call);
  };
  return { name, kind: options.kind, speaks, soundCalls: true, handle, models, health, close };
}

async function needsEnforcing(call: Call, options: OpenAiServerOptions): Promise<boolean> {
  if (call.path !== "/v1/chat/completions") return false;
  const body = await call.json();
  if (!isObject(body)) return false;
  if (Array.isArray(body.stop) && body.stop.length > options.maxStops) return true;
  const { tool_choice: choice } = body;
  // What no server knows: OpenAI's list of allowed tools, and Mistral's word for "required".
  if (choice === "any" || (isObject(choice) && choice.type === "allowed_tools")) return true;
  return options.toolChoice !== "all" && (choice === "required" || isObject(choice));
}

/** What may help after a refusal: fewer tokens, or one system message where a template takes no other. */
function mendRefused(error: ApiError, body: JsonObject): JsonObject | undefined {
  return clampMaxTokens(error, body) ?? withOneSystemMessage(error, body);
}

function adaptChat(body: JsonObject): JsonObject | undefined {
  checkMessages(body);
  const changes: JsonObject = {};
  // The template shows the tools to the model even so, and nobody would read its call.
  if (body.tool_choice === "none") {
    changes.tools = undefined;
    changes.tool_choice = undefined;
  }
  const messages = withMendedCalls(body) ?? body.messages;
  // OpenAI's newer name for "system", which templates of open models do not know.
  if (Array.isArray(messages) && messages.some(isDeveloper))
    changes.messages = messages.map((message) => (isDeveloper(message) ? { ...message, role: "system" } : message));
  else if (messages !== body.messages) changes.messages = messages;
  return Object.keys(changes).length === 0 ? undefined : changes;
}

/** What each server would refuse in words of its own, llama-server with a 500. */
function checkMessages(body: JsonObject): void {
  const messages = required(readArray(body, "messages"), "messages");
  if (messages.length === 0) throw invalidValue("messages", "must not be empty");
  for (const [index, message] of messages.entries()) {
    const at = `messages[${index}]`;
    required(readString(asObject(message, at), "role", at), `${at}.role`);
  }
}

function isDeveloper(message: Json): message is JsonObject {
  return isObject(message) && message.role === "developer";
}

/** A server that fetches what a caller names would let callers reach into its network. */
async function refuseAddresses(call: Call, sources: ImageSources): Promise<void> {
  const body = await call.json();
  if (!isObject(body)) return;
  for (const { at, address } of mediaAddresses(body, call.path)) {
    const problem = await addressProblem(address, sources);
    if (problem === undefined) continue;
    throw new ApiError(
      "invalid_image",
      `images are taken as data URLs (data:image/png;base64,…), and from hosts that images.allow names; \`${at}\` cannot be used: ${problem}`,
      { param: at },
    );
  }
}
