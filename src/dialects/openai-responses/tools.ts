import type { Tool } from "../../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { asObject, invalidValue, quoted, readArray, readObject, readString, required } from "../fields.ts";
import { choose, decodeFunctionTool, type ToolSet } from "../openai-chat/tools.ts";
import { type NamedTool, ToolNames } from "./tool-names.ts";

/** The tools of a request, as the model is given them. */
export interface ResponseTools extends ToolSet {
  readonly names: ToolNames;
  /** What of the request was left out, in sentences for the user. */
  readonly notes: string[];
}

/**
 * `tools` and `tool_choice`. Custom tools become functions of one text, namespaces are flattened. What only OpenAI or
 * the client's own product knows (web_search, local_shell, …) is left out with a note: Codex sends such tools always.
 * Throws `ApiError` naming the field.
 */
export function decodeTools(body: JsonObject): ResponseTools {
  const draft = new Draft();
  for (const [list, at] of toolLists(body))
    for (const [index, item] of list.entries()) draft.add(asObject(item, `${at}[${index}]`), `${at}[${index}]`);
  const { tools, names, notes } = draft;
  const choice = body.tool_choice ?? undefined;
  if (choice === undefined) return { tools, toolChoice: tools.length === 0 ? "none" : "auto", names, notes };
  return { ...choose(rewriteChoice(choice, draft), "tool_choice", tools), names, notes };
}

/** `tools`, and those that items of the input bring later. */
function toolLists(body: JsonObject): [list: Json[], at: string][] {
  const lists: [Json[], string][] = [[readArray(body, "tools") ?? [], "tools"]];
  if (!Array.isArray(body.input)) return lists;
  for (const [index, item] of body.input.entries()) {
    if (!isObject(item) || (item.type !== "additional_tools" && item.type !== "tool_search_output")) continue;
    lists.push([readArray(item, "tools", `input[${index}]`) ?? [], `input[${index}].tools`]);
  }
  return lists;
}

/** No model can choose among more. */
const mostTools = 1024;
const mostNotes = 16;

class Draft {
  readonly tools: Tool[] = [];
  readonly names = new ToolNames();
  readonly notes: string[] = [];

  add(tool: JsonObject, at: string, namespace?: string): void {
    const type = required(readString(tool, "type", at), `${at}.type`);
    if (type === "function") this.#give(decodeFunctionTool(tool, at), "function", namespace);
    else if (type === "custom") this.#give(decodeCustomTool(tool, at), "custom", namespace);
    else if (type === "namespace" && namespace === undefined) this.#addNamespace(tool, at);
    else
      this.note(
        `the tool ${quoted(type)} was left out: models here are given function, custom and namespace tools only`,
      );
  }

  note(text: string): void {
    if (this.notes.length < mostNotes && !this.notes.includes(text)) this.notes.push(text);
  }

  #addNamespace(space: JsonObject, at: string): void {
    const name = required(readString(space, "name", at), `${at}.name`);
    for (const [index, item] of (readArray(space, "tools", at) ?? []).entries())
      this.add(asObject(item, `${at}.tools[${index}]`), `${at}.tools[${index}]`, name);
  }

  #give(tool: Tool, kind: NamedTool["kind"], namespace: string | undefined): void {
    const named: NamedTool = { kind, name: tool.name, ...(namespace === undefined ? {} : { namespace }) };
    // What a search for tools has found is sent again with each of its results.
    if (this.names.has(named)) return;
    if (this.tools.length === mostTools) throw invalidValue("tools", `may hold at most ${mostTools} tools in all`);
    this.tools.push({ ...tool, name: this.names.add(named) });
  }
}

/** A tool that is called with text instead of arguments. */
function decodeCustomTool(tool: JsonObject, at: string): Tool {
  const { name, description } = decodeFunctionTool({ name: tool.name, description: tool.description }, at);
  const format = readObject(tool, "format", at);
  const syntax = format?.type === "grammar" ? readString(format, "syntax", `${at}.format`) : undefined;
  const definition = readString(format ?? {}, "definition", `${at}.format`) ?? "";
  const pattern = syntax === "regex" ? wholePattern(definition) : undefined;
  const rule = syntax === undefined ? [] : [`Its input must match this ${syntax} grammar:\n${definition}`];
  return {
    name,
    description: [...(description === undefined ? [] : [description]), ...rule].join("\n\n"),
    parameters: {
      type: "object",
      properties: { input: { type: "string", ...(pattern === undefined ? {} : { pattern }) } },
      required: ["input"],
      additionalProperties: false,
    },
  };
}

/** A pattern of the whole input, or undefined for one that JSON Schema's expressions cannot say (the API's are Rust's). */
function wholePattern(definition: string): string | undefined {
  // llama.cpp's converter knows groups, but none that begin with `(?`.
  const pattern = `^(${definition.replace(/^\^|\$$/g, "")})$`;
  try {
    return new RegExp(pattern, "u").source;
  } catch {
    return undefined;
  }
}

/** The choice in words that `choose` knows: by the functions' names, without the tools that were left out. */
function rewriteChoice(choice: Json, draft: Draft): Json {
  if (choice === "required" && draft.tools.length === 0 && draft.notes.length > 0) return "auto";
  if (!isObject(choice)) return choice;
  if (choice.type === "allowed_tools") return rewriteAllowed(choice, draft);
  if (choice.type === "function" || choice.type === "custom")
    return { type: "function", name: functionIn(choice, "tool_choice", draft.names) };
  if (typeof choice.type !== "string") return choice;
  draft.note(`the tool choice ${quoted(choice.type)} was taken for auto: the model was not given that tool`);
  return "auto";
}

function rewriteAllowed(choice: JsonObject, draft: Draft): JsonObject | string {
  const allowed = readObject(choice, "allowed_tools", "tool_choice") ?? choice;
  const at = allowed === choice ? "tool_choice.tools" : "tool_choice.allowed_tools.tools";
  const list = required(readArray(allowed, "tools", "tool_choice"), at);
  if (list.length > mostTools) throw invalidValue(at, `may hold at most ${mostTools} tools`);
  const names = new Set(
    list.flatMap((item, index) => allowedNames(asObject(item, `${at}[${index}]`), `${at}[${index}]`, draft)),
  );
  const mode = names.size === 0 && list.length > 0 ? "none" : (allowed.mode ?? "auto");
  if (mode === "none") return "none";
  return { type: "allowed_tools", mode, tools: [...names].map((name) => ({ type: "function", name })) };
}

/** Functions; none for a tool that the model was not given. */
function allowedNames(tool: JsonObject, at: string, { names }: Draft): string[] {
  if (tool.type === "namespace") return names.functionsIn(required(readString(tool, "name", at), `${at}.name`));
  return tool.type === "function" || tool.type === "custom" ? [functionIn(tool, at, names)] : [];
}

function functionIn(choice: JsonObject, at: string, names: ToolNames): string {
  return names.functionOf(required(readString(choice, "name", at), `${at}.name`), readString(choice, "namespace", at));
}
