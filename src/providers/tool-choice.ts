import { ApiError } from "../core/errors.ts";
import type { ChatEvent, ChatRequest, Tool, Usage } from "../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { inlineRefs } from "./json-schema.ts";

/** How much of `tool_choice` a server does itself: `all`, or `none` of it (Ollama, MNN), or `unknown` (ask, then look). */
export type ToolChoiceSupport = "all" | "none" | "unknown";

type Chat = (request: ChatRequest) => AsyncIterable<ChatEvent>;

/**
 * Makes `tool_choice` hold on every server. `none` takes the tools away. A named tool is asked for by sending only that
 * one with `required`, which every server that knows `required` honours, unlike the object form. Where the server does
 * not force, or was asked and did not obey, the model is made to write the call as JSON under a schema, which is
 * turned back into a call. Throws `upstream_error` when the model writes none even so.
 */
export async function* enforceToolChoice(
  provider: string,
  request: ChatRequest,
  support: ToolChoiceSupport,
  chat: Chat,
): AsyncGenerator<ChatEvent> {
  const { toolChoice } = request;
  if (request.tools.length === 0 || toolChoice === "none")
    return yield* chat({ ...request, tools: [], toolChoice: "none" });
  if (toolChoice === "auto") return yield* chat(request);
  const tools =
    toolChoice === "required" ? request.tools : request.tools.filter((tool) => tool.name === toolChoice.name);
  if (tools.length === 0)
    throw new ApiError("invalid_value", "tool_choice names a function that is not among the tools", {
      param: "tool_choice",
    });
  const forced: ChatRequest = { ...request, tools, toolChoice: "required" };
  if (support === "all") return yield* chat(forced);
  if (support === "unknown" && (yield* obeyed(chat(forced)))) return;
  yield* emulated(provider, forced, chat);
}

/**
 * Passes the events on from the first call; text before it is held. False: the answer ended without any call, or the
 * server refuses tools or the choice (LMDeploy and others without a parser), and no answer was passed on.
 */
async function* obeyed(events: AsyncIterable<ChatEvent>): AsyncGenerator<ChatEvent, boolean> {
  let called = false;
  const held: ChatEvent[] = [];
  try {
    for await (const event of events) {
      if (event.type === "tool-call" && !called) {
        called = true;
        yield* held;
      }
      if (called || event.type === "reasoning" || event.type === "progress") yield event;
      else if (event.type === "finish") return false;
      else held.push(event);
    }
  } catch (error) {
    if (called || !(error instanceof ApiError) || !refusals.has(error.code)) throw error;
  }
  return called;
}

/** Refusals that may be meant for the tools; a request that is wrong otherwise is refused without them, too. */
const refusals: ReadonlySet<string> = new Set(["invalid_request", "unsupported_capability"]);

async function* emulated(provider: string, request: ChatRequest, chat: Chat): AsyncGenerator<ChatEvent> {
  const asked = toSchemaRequest(request);
  for (let attempt = 1; ; attempt++) {
    let text = "";
    let finish: Extract<ChatEvent, { type: "finish" }> | undefined;
    for await (const event of chat(asked)) {
      if (event.type === "text") text += event.text;
      else if (event.type === "finish") finish = event;
      else if (event.type === "reasoning" || event.type === "progress") yield event;
    }
    if (finish === undefined) throw new ApiError("upstream_error", `${provider} ended its answer early`, { provider });
    const call = readCall(text, request.tools);
    if (call !== undefined) return yield* asCall(call, finish.usage);
    // Cut off by max_tokens: another attempt would be cut off as well, and half a call is none.
    if (finish.reason === "length") return yield finish;
    if (attempt === 2) {
      throw new ApiError(
        "upstream_error",
        `the model at ${provider} did not write the tool call that tool_choice demands`,
        { provider, param: "tool_choice" },
      );
    }
  }
}

async function* asCall(call: { name: string; arguments: JsonObject }, usage: Usage): AsyncGenerator<ChatEvent> {
  yield { type: "tool-call", index: 0, id: newCallId(), name: call.name, arguments: JSON.stringify(call.arguments) };
  yield { type: "finish", reason: "tool-calls", usage };
}

/** An id for a tool call of a server that gives none. */
export function newCallId(): string {
  return `call_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`;
}

function toSchemaRequest(request: ChatRequest): ChatRequest {
  const variants = request.tools.map((tool) => ({
    type: "object",
    properties: { name: { type: "string", enum: [tool.name] }, arguments: objectSchema(tool) },
    required: ["name", "arguments"],
    additionalProperties: false,
  }));
  const schema: JsonObject = variants.length === 1 ? (variants[0] as JsonObject) : { anyOf: variants };
  const instruction = [
    "You must now call one of these functions. Answer with nothing but one JSON object of the form",
    '{"name": <function name>, "arguments": <object that matches its parameters>}. The functions:',
    ...request.tools.map((tool) =>
      JSON.stringify({ name: tool.name, description: tool.description, parameters: tool.parameters }),
    ),
  ].join("\n");
  const [first, ...others] = request.messages;
  const messages =
    first?.role === "system" || first?.role === "developer"
      ? [{ ...first, content: [...first.content, { type: "text" as const, text: instruction }] }, ...others]
      : [{ role: "system" as const, content: [{ type: "text" as const, text: instruction }] }, ...request.messages];
  return {
    ...request,
    messages,
    tools: [],
    toolChoice: "none",
    responseFormat: { type: "json-schema", name: "tool_call", schema, strict: true },
  };
}

function objectSchema(tool: Tool): JsonObject {
  const schema = inlineRefs(tool.parameters);
  return schema.type === undefined ? { ...schema, type: "object" } : schema;
}

/** The call in what the model wrote; servers without schemas may put a fence or a sentence around it. */
function readCall(text: string, tools: readonly Tool[]): { name: string; arguments: JsonObject } | undefined {
  const json = parsed(text) ?? parsed(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
  if (!isObject(json)) return undefined;
  const { name } = json;
  const args = typeof json.arguments === "string" ? parsed(json.arguments) : json.arguments;
  const tool = tools.find((one) => one.name === name);
  if (tool === undefined || !isObject(args)) return undefined;
  const required = Array.isArray(tool.parameters.required) ? tool.parameters.required : [];
  return required.every((key) => typeof key === "string" && Object.hasOwn(args, key))
    ? { name: tool.name, arguments: args }
    : undefined;
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
