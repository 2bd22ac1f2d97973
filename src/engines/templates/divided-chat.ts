import type { Message, Tool } from "../../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import type { ControlTexts } from "./control-texts.ts";

/** What the caller wrote of a prompt. */
export interface CallerTexts {
  readonly messages: readonly Message[];
  readonly tools: readonly Tool[];
  readonly variables?: JsonObject | undefined;
}

/**
 * The same with every control token's name divided, so that whatever a template makes of it stays text. In the
 * assistant's words those of `assistant` are divided: the tags around its reasoning count there.
 */
export function divideTexts(texts: CallerTexts, controls: ControlTexts, assistant: ControlTexts): CallerTexts {
  const divide = (text: string): string => controls.divide(text);
  return {
    messages: texts.messages.map((message) =>
      divideMessage(message, message.role === "assistant" ? assistant : controls),
    ),
    tools: texts.tools.map((tool) => ({
      ...tool,
      name: divide(tool.name),
      ...(tool.description === undefined ? {} : { description: divide(tool.description) }),
      parameters: mapTexts(tool.parameters, divide) as JsonObject,
    })),
    ...(texts.variables === undefined ? {} : { variables: mapTexts(texts.variables, divide) as JsonObject }),
  };
}

function divideMessage(message: Message, controls: ControlTexts): Message {
  const divide = (text: string): string => controls.divide(text);
  const texts = controls.divideParts(message.content.map((part) => (part.type === "text" ? part.text : "")));
  const content = message.content.map((part, index) =>
    part.type === "text" ? { ...part, text: texts[index] ?? "" } : part,
  );
  switch (message.role) {
    case "system":
    case "developer":
      return { ...message, content };
    case "user":
      return { ...message, content, ...(message.name === undefined ? {} : { name: divide(message.name) }) };
    case "tool": {
      const name = message.name === undefined ? {} : { name: divide(message.name) };
      return { ...message, content, toolCallId: divide(message.toolCallId), ...name };
    }
    case "assistant": {
      const toolCalls = message.toolCalls.map((call) => ({
        id: divide(call.id),
        name: divide(call.name),
        arguments: divide(call.arguments),
      }));
      const reasoning = message.reasoning === undefined ? {} : { reasoning: divide(message.reasoning) };
      return { ...message, content, toolCalls, ...reasoning };
    }
  }
}

/** JSON with every text changed, keys included. */
function mapTexts(json: Json, change: (text: string) => string): Json {
  if (typeof json === "string") return change(json);
  if (Array.isArray(json)) return json.map((item) => mapTexts(item, change));
  if (!isObject(json)) return json;
  // `__proto__` would be lost to an assignment.
  return Object.fromEntries(
    Object.entries(json).map(([key, value]) => [change(key), value === undefined ? value : mapTexts(value, change)]),
  ) as JsonObject;
}
