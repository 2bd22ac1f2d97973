import { createHash } from "node:crypto";
import type { Message, Part, ToolCall } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { withToolPrompt } from "./hermes-prompt.ts";
import type { TemplateTraits } from "./template-traits.ts";
import { withWrittenCalls } from "./tool-prompts.ts";

/** Puts messages into a form that the template takes, with nothing lost: what it has no role for goes where it has one. */
export function fitMessages(messages: readonly Message[], traits: TemplateTraits, template: string): Message[] {
  let fitted = [...messages];
  if (!traits.calls) fitted = traits.results ? withWrittenCalls(messages, template) : withToolPrompt(messages, []);
  if (!traits.developer)
    fitted = fitted.map((message) => (message.role === "developer" ? { ...message, role: "system" } : message));
  if (!traits.laterSystem) fitted = foldLaterSystem(fitted);
  if (!traits.system) fitted = foldFirstSystem(fitted);
  if (!traits.parallelCalls) fitted = splitCalls(fitted);
  if (traits.besideCalls === "instead") fitted = fitted.flatMap(splitContent);
  if (!traits.thoughtfulCalls) fitted = fitted.map(joinThought);
  return traits.repeatedRoles ? fitted : withTurns(joinRepeated(fitted));
}

/** Messages as the template's variable `messages`. */
export function toTemplateMessages(messages: readonly Message[], traits: TemplateTraits): JsonObject[] {
  const ids = new Map<string, { readonly id: string; readonly name: string }>();
  const calls = messages.flatMap((message) => (message.role === "assistant" ? message.toolCalls : []));
  for (const [index, call] of calls.entries()) ids.set(call.id, { id: toCallId(call, index, traits), name: call.name });
  return messages.map((message) => ({
    ...toTemplateMessage(message, traits, ids),
    content: toContent(message, traits),
  }));
}

/** The texts of a message's content. Throws `unsupported_capability` on an image. */
export function textsOf(parts: readonly Part[]): string[] {
  return parts.map((part) => {
    if (part.type === "text") return part.text;
    throw new ApiError("unsupported_capability", "the embedded llama.cpp reads text only; the messages hold an image", {
      param: "messages",
    });
  });
}

function toContent(message: Message, traits: TemplateTraits): Json {
  const texts = textsOf(message.content);
  const parts: JsonObject[] = texts.map((text) => ({ type: "text", text }));
  if (message.role === "assistant" && message.reasoning !== undefined && traits.reasoning === "part") {
    return [{ type: "thinking", thinking: message.reasoning }, ...parts];
  }
  const text = texts.join("\n");
  if (traits.content === "parts") return [{ type: "text", text }];
  // Templates that read lists read them of users; of others, some print the first part only.
  if (traits.content === "either" && texts.length > 1 && message.role === "user") return parts;
  const calls = message.role === "assistant" && message.toolCalls.length > 0;
  return text === "" && calls ? traits.emptyContent : text;
}

function toTemplateMessage(
  message: Message,
  traits: TemplateTraits,
  ids: ReadonlyMap<string, { readonly id: string; readonly name: string }>,
): JsonObject {
  switch (message.role) {
    case "system":
    case "developer":
      return { role: message.role };
    case "user":
      return { role: "user", ...(message.name === undefined ? {} : { name: message.name }) };
    case "tool": {
      // OpenAI's tool messages name only the call; many templates print the tool's name.
      const call = ids.get(message.toolCallId);
      const name = message.name ?? call?.name;
      const id = call?.id ?? message.toolCallId;
      return { role: "tool", tool_call_id: id, ...(name === undefined ? {} : { name }) };
    }
    case "assistant": {
      const { reasoning, toolCalls } = message;
      const field = traits.reasoning === "part" ? null : traits.reasoning;
      return {
        role: "assistant",
        ...(field === null || reasoning === undefined ? {} : { [field]: reasoning }),
        ...(traits.besideCalls === "tool_plan" && toolCalls.length > 0
          ? { tool_plan: textsOf(message.content).join("\n") }
          : {}),
        ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls.map((call) => toTemplateCall(call, traits, ids)) }),
      };
    }
  }
}

function toTemplateCall(
  call: ToolCall,
  traits: TemplateTraits,
  ids: ReadonlyMap<string, { readonly id: string }>,
): JsonObject {
  const given = readArguments(call.arguments, traits);
  return {
    id: ids.get(call.id)?.id ?? call.id,
    type: "function",
    function: { name: call.name, arguments: given },
  };
}

/** Most templates print arguments with `tojson`, so they get an object; broken ones of a history become one. */
function readArguments(text: string, traits: TemplateTraits): Json {
  if (traits.arguments === "text") return text === "" ? "{}" : text;
  try {
    const value = JSON.parse(text === "" ? "{}" : text) as Json;
    if (isObject(value)) return value;
  } catch {
    // What the model wrote was cut short: it is shown as it was.
  }
  return { arguments: text };
}

/** Alike for alike, so that results find their calls. */
function toCallId(call: ToolCall, index: number, traits: TemplateTraits): string {
  switch (traits.ids) {
    case "any":
      return call.id;
    case "nine":
      if (/^[a-zA-Z0-9]{9}$/.test(call.id)) return call.id;
      return createHash("sha256").update(call.id).digest("hex").slice(0, 9);
    case "named":
      return /^functions\..+:\d+$/.test(call.id) ? call.id : `functions.${call.name}:${index}`;
  }
}

/** System messages behind the first become the opening of the user message that follows, or one of their own. */
function foldLaterSystem(messages: readonly Message[]): Message[] {
  const folded: Message[] = [];
  let held: Part[] = [];
  for (const [index, message] of messages.entries()) {
    const first = folded[0];
    if (isSystem(message) && index > 0) {
      if (folded.length === 1 && first !== undefined && isSystem(first)) folded[0] = joinMessages(first, message);
      else held.push(...message.content);
      continue;
    }
    if (held.length > 0) {
      if (message.role === "user") {
        folded.push({ ...message, content: [...held, ...message.content] });
        held = [];
        continue;
      }
      // Between a call and its result nobody else may speak.
      if (message.role !== "tool") {
        folded.push({ role: "user", content: held });
        held = [];
      }
    }
    folded.push(message);
  }
  return held.length === 0 ? folded : [...folded, { role: "user", content: held }];
}

/** For templates without a system role: its text opens the first user message. */
function foldFirstSystem(messages: readonly Message[]): Message[] {
  const [first, ...rest] = messages;
  if (first === undefined || !isSystem(first)) return [...messages];
  const at = rest.findIndex((message) => message.role === "user");
  const user = rest[at];
  if (user === undefined) return [{ role: "user", content: first.content }, ...rest];
  // A blank line between them, where parts are joined by one line break.
  const opening: Part[] = [...first.content, { type: "text", text: "" }];
  return rest.with(at, { ...user, content: [...opening, ...user.content] } as Message);
}

/** For templates that print one call of a message: every call becomes a message, followed by its result. */
function splitCalls(messages: readonly Message[]): Message[] {
  const results = new Map<string, Message>();
  for (const message of messages) if (message.role === "tool") results.set(message.toolCallId, message);
  const split: Message[] = [];
  const moved = new Set<Message>();
  for (const message of messages) {
    if (message.role !== "assistant" || message.toolCalls.length < 2) {
      if (!moved.has(message)) split.push(message);
      continue;
    }
    for (const [index, call] of message.toolCalls.entries()) {
      split.push(
        index === 0 ? { ...message, toolCalls: [call] } : { role: "assistant", content: [], toolCalls: [call] },
      );
      const result = results.get(call.id);
      if (result === undefined || moved.has(result)) continue;
      split.push(result);
      moved.add(result);
    }
  }
  return split;
}

/** For templates that print content instead of calls: it goes into a message before. */
function splitContent(message: Message): Message[] {
  if (message.role !== "assistant" || !hasCalls(message) || textsOf(message.content).join("") === "") return [message];
  return [
    { ...message, toolCalls: [] },
    { role: "assistant", content: [], toolCalls: message.toolCalls },
  ];
}

/** For templates that refuse reasoning and content in one message with calls (GPT-OSS): both become reasoning. */
function joinThought(message: Message): Message {
  if (message.role !== "assistant" || !hasCalls(message) || message.reasoning === undefined) return message;
  const said = textsOf(message.content).join("\n");
  return said === "" ? message : { ...message, reasoning: `${message.reasoning}\n\n${said}`, content: [] };
}

/** For templates that insist on turns: messages of one role in a row become one. */
function joinRepeated(messages: readonly Message[]): Message[] {
  const joined: Message[] = [];
  for (const message of messages) {
    const last = joined.at(-1);
    const joins = last !== undefined && last.role === message.role && message.role !== "tool" && !hasCalls(last);
    if (joins) joined[joined.length - 1] = joinMessages(last, message);
    else joined.push(message);
  }
  return joined;
}

/** The same templates do not count calls and results as turns: a user who interrupts them would speak twice in a row. */
function withTurns(messages: readonly Message[]): Message[] {
  const turns: Message[] = [];
  let user = false;
  for (const message of messages) {
    if (message.role === "user" && user)
      turns.push({ role: "assistant", content: [{ type: "text", text: "…" }], toolCalls: [] });
    if (message.role === "user") user = true;
    else if (message.role === "assistant" && !hasCalls(message)) user = false;
    turns.push(message);
  }
  return turns;
}

function joinMessages(first: Message, second: Message): Message {
  const content = [...first.content, ...second.content];
  if (first.role !== "assistant" || second.role !== "assistant") return { ...first, content } as Message;
  const reasoning = second.reasoning ?? first.reasoning;
  return { ...first, content, toolCalls: second.toolCalls, ...(reasoning === undefined ? {} : { reasoning }) };
}

function hasCalls(message: Message): boolean {
  return message.role === "assistant" && message.toolCalls.length > 0;
}

function isSystem(message: Message): boolean {
  return message.role === "system" || message.role === "developer";
}
