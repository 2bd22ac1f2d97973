import type { Json, JsonObject } from "../../core/json.ts";

/** What a chat template makes of messages, found out by rendering some. */
export interface TemplateTraits {
  /** It prints the tools that it is given. */
  readonly tools: boolean;
  /** It prints calls of the history; and results, be it without their calls. */
  readonly calls: boolean;
  readonly results: boolean;
  /** It prints several calls of one message. */
  readonly parallelCalls: boolean;
  /** How it wants a call's arguments. */
  readonly arguments: "object" | "text";
  /** What it makes of content beside calls: prints it, leaves it out, prints it instead of the calls, or knows it as `tool_plan`. */
  readonly besideCalls: "kept" | "dropped" | "instead" | "tool_plan";
  /** It takes reasoning and content beside calls. */
  readonly thoughtfulCalls: boolean;
  /** What it wants as content beside calls where there is none. */
  readonly emptyContent: "" | null;
  /** Ids of calls: any; nine letters and digits (Mistral); `functions.name:0` instead of the name (Kimi K2). */
  readonly ids: "any" | "nine" | "named";
  /** It refuses tools without a description. */
  readonly describedTools: boolean;
  /** It has a system role, also behind the first message, and the role `developer`. */
  readonly system: boolean;
  readonly laterSystem: boolean;
  readonly developer: boolean;
  /** It takes two messages of one role in a row. */
  readonly repeatedRoles: boolean;
  /** Content as a text, as a list of parts, or as either. */
  readonly content: "text" | "parts" | "either";
  /** The field of an assistant's message that holds its reasoning; `part`: a part of the content; null: none. */
  readonly reasoning: "reasoning_content" | "thinking" | "reasoning" | "part" | null;
  /** It wants the tools as a text `functions`, and a `datetime` (Firefunction). */
  readonly functionsText: boolean;
}

/** Renders messages with more variables; null when the template refuses them. */
export type Probe = (messages: JsonObject[], variables?: JsonObject) => string | null;

/** What template variables stand for tools in `functionsText` templates, for the probe. */
const functionsProbe = { functions: "[]", datetime: "Jan 01 2026" };

// Words that no template says by itself.
const word = {
  user: "Quser",
  system: "Qsystem",
  answer: "Qanswer",
  tool: "qtool",
  property: "qproperty",
  key: "qkey",
  value: "Qvalue",
  other: "Qother",
  result: "Qresult",
  reasoning: "Qreasoning",
};

export function findTraits(source: string, render: Probe): TemplateTraits {
  const functionsText = render([user()]) === null && render([user()], functionsProbe) !== null;
  const probe: Probe = functionsText
    ? (messages, variables) => render(messages, { ...functionsProbe, ...variables })
    : render;
  const content = findContent(probe);
  if (content === null) return { ...openMinded, functionsText };
  const inForm: Probe =
    content === "parts" ? (messages, variables) => probe(messages.map(withParts), variables) : probe;
  return {
    ...findRoles(source, inForm),
    ...findCalls(inForm),
    ...findTools(inForm, functionsText),
    content,
    functionsText,
    reasoning: findReasoning(inForm),
  };
}

/** What is taken for granted of a template that prints nothing of what is said. */
const openMinded: TemplateTraits = {
  tools: true,
  calls: true,
  results: true,
  parallelCalls: true,
  arguments: "object",
  emptyContent: "",
  besideCalls: "kept",
  thoughtfulCalls: true,
  ids: "any",
  describedTools: false,
  system: true,
  laterSystem: true,
  developer: false,
  repeatedRoles: true,
  content: "text",
  reasoning: "reasoning_content",
  functionsText: false,
};

/** Null when a user's words do not show. */
function findContent(probe: Probe): TemplateTraits["content"] | null {
  const text = probe([user()])?.includes(word.user) ?? false;
  const parts = probe([withParts(user()), says(word.answer), user([word.user, word.other])]);
  const takesParts =
    parts !== null && parts.includes(word.user) && parts.includes(word.other) && !/['"]text['"]/.test(parts);
  if (!takesParts) return text ? "text" : null;
  return text ? "either" : "parts";
}

function findRoles(
  source: string,
  probe: Probe,
): Pick<TemplateTraits, "system" | "laterSystem" | "developer" | "repeatedRoles"> {
  const shows = (messages: JsonObject[], ...words: string[]): boolean => {
    const text = probe(messages);
    return text !== null && words.every((one) => text.includes(one));
  };
  const { system, other, user: asked } = word;
  const takesSystem = shows([message("system", system), user()], system);
  return {
    system: takesSystem,
    laterSystem:
      takesSystem &&
      shows([message("system", system), user(), says(word.answer), message("system", other), user()], system, other),
    // Most templates print any role as it is; only those that name this one know it.
    developer: source.includes("developer") && shows([message("developer", system), user()], system),
    repeatedRoles:
      shows([user(), user([other])], asked, other) && shows([user(), says(asked), says(other), user()], other),
  };
}

type CallTraits = Pick<
  TemplateTraits,
  "besideCalls" | "thoughtfulCalls" | "calls" | "results" | "parallelCalls" | "arguments" | "emptyContent" | "ids"
>;

function findCalls(probe: Probe): CallTraits {
  for (const form of ["object", "text"] as const) {
    for (const emptyContent of ["", null] as const) {
      for (const ids of ["any", "nine"] as const) {
        const found = tryCalls(probe, { arguments: form, emptyContent, ids });
        if (found !== null) return found;
      }
    }
  }
  const results = probe([user(), says(word.answer), result(longId)])?.includes(word.result) ?? false;
  const { parallelCalls, besideCalls, thoughtfulCalls, emptyContent, ids } = openMinded;
  return { calls: false, results, parallelCalls, besideCalls, thoughtfulCalls, arguments: "object", emptyContent, ids };
}

const longId = "call_0123456789abcdef";

/** What is true of a template that prints calls written this way; null for one that does not. */
function tryCalls(probe: Probe, form: Pick<CallTraits, "arguments" | "emptyContent" | "ids">): CallTraits | null {
  const id = form.ids === "any" ? longId : "abcdefgh1";
  const call = (value: string): JsonObject =>
    toCall(id, form.arguments === "object" ? { [word.key]: value } : `{"${word.key}": "${value}"}`);
  const say = (message: JsonObject, results = 1): string | null =>
    probe([user(), message, ...Array.from({ length: results }, () => result(id))], { tools: [tool()] });
  const text = say(says(form.emptyContent, [call(word.value)]));
  if (text === null || !isGood(text)) return null;
  const both = say(says(form.emptyContent, [call(word.value), call(word.other)]), 2);
  const beside = { ...says(word.answer, [call(word.value)]) };
  const reasoning = { reasoning_content: word.reasoning, thinking: word.reasoning };
  const alone = probe([user(), says(form.emptyContent, [call(word.value)]), { ...result(id), name: undefined }]);
  const named = alone !== null && alone.includes(id) && !alone.includes(word.tool);
  return {
    ...form,
    calls: true,
    results: true,
    parallelCalls: both !== null && isGood(both) && both.includes(word.other),
    besideCalls: findBeside(say(beside), say({ ...beside, tool_plan: word.other })),
    thoughtfulCalls: say({ ...beside, ...reasoning }) !== null,
    ids: named ? "named" : form.ids,
  };
}

function findBeside(text: string | null, planned: string | null): TemplateTraits["besideCalls"] {
  if (planned?.includes(word.other) === true) return "tool_plan";
  if (text === null || !isGood(text)) return "instead";
  return text.includes(word.answer) ? "kept" : "dropped";
}

/** Arguments as JSON or in marks of their own; not as Python prints a dict, nor as a text in quotes. */
function isGood(text: string): boolean {
  const { key, value } = word;
  return (
    text.includes(value) && text.includes(word.result) && !text.includes(`'${key}':`) && !text.includes(`\\"${key}\\"`)
  );
}

function findTools(probe: Probe, functionsText: boolean): Pick<TemplateTraits, "tools" | "describedTools"> {
  const shows = (one: JsonObject): boolean => {
    const variables: JsonObject = functionsText ? { functions: JSON.stringify([one]) } : { tools: [one] };
    // Llama 3.1 writes tools into the system message or the first user's.
    return [[user()], [message("system", word.system), user()]].some((messages) =>
      probe(messages, variables)?.includes(word.tool),
    );
  };
  const tools = shows(tool());
  return { tools, describedTools: tools && !shows(toolWithoutDescription()) };
}

function findReasoning(probe: Probe): TemplateTraits["reasoning"] {
  const id = "abcdefgh1";
  const shows = (more: JsonObject): boolean => {
    const call = toCall(id, { [word.key]: word.value });
    const conversations = [
      [user(), { ...says("", [call]), ...more }, result(id)],
      [user(), { ...says(word.answer), ...more }, user()],
      [user(), { ...says(word.answer), ...more }],
    ];
    const variables = { tools: [tool()], thinking: true, enable_thinking: true };
    return conversations.some((messages) => probe(messages, variables)?.includes(word.reasoning));
  };
  for (const field of ["reasoning_content", "thinking", "reasoning"] as const) {
    if (shows({ [field]: word.reasoning })) return field;
  }
  const part = { type: "thinking", thinking: word.reasoning };
  const text = probe([user(), { role: "assistant", content: [part, { type: "text", text: word.answer }] }, user()]);
  return text !== null && text.includes(word.reasoning) && !/['"]type['"]/.test(text) ? "part" : null;
}

function message(role: string, text: string): JsonObject {
  return { role, content: text };
}

function user(texts: readonly string[] = [word.user]): JsonObject {
  if (texts.length === 1) return message("user", texts[0] ?? "");
  return { role: "user", content: texts.map((text) => ({ type: "text", text })) };
}

function says(content: string | null, calls: readonly JsonObject[] = []): JsonObject {
  return { role: "assistant", content, ...(calls.length === 0 ? {} : { tool_calls: [...calls] }) };
}

function toCall(id: string, given: Json): JsonObject {
  return { id, type: "function", function: { name: word.tool, arguments: given } };
}

function result(id: string): JsonObject {
  return { role: "tool", tool_call_id: id, name: word.tool, content: word.result };
}

function tool(): JsonObject {
  const { type, function: described } = toolWithoutDescription();
  return { type: type ?? null, function: { ...(described as JsonObject), description: "Does it." } };
}

function toolWithoutDescription(): JsonObject {
  const parameters = {
    type: "object",
    properties: { [word.property]: { type: "string", description: "A key." } },
    required: [word.property],
  };
  return { type: "function", function: { name: word.tool, parameters } };
}

function withParts(one: JsonObject): JsonObject {
  return typeof one.content === "string" ? { ...one, content: [{ type: "text", text: one.content }] } : one;
}
