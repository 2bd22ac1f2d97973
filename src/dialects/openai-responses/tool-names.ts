/** A tool as the client knows it, by the name of the function that the model is given for it. */
export interface NamedTool {
  /** `custom`: called with text, which travels as the one property `input` of the function's arguments. */
  readonly kind: "function" | "custom";
  readonly name: string;
  readonly namespace?: string;
}

/** The functions that the model is given, by their names, which are unique. */
export type ToolNames = ReadonlyMap<string, NamedTool>;

/**
 * A name for a tool of a namespace, e.g. `crm__find`, that no other function has: of the characters and the length that
 * OpenAI's chat allows.
 */
export function functionNameFor(tool: NamedTool, taken: ToolNames): string {
  const flat = flatName(tool);
  if (!taken.has(flat)) return flat;
  let count = 2;
  while (taken.has(`${flat}_${count}`)) count++;
  return `${flat}_${count}`;
}

/** The function that a client means by a tool's name: its calls in a history, its `tool_choice`. */
export function toFunctionName(names: ToolNames, name: string, namespace: string | undefined): string {
  const found = names.get(name);
  if (found !== undefined && found.namespace === namespace) return name;
  const matches = entriesOf(names, name).filter(([, tool]) => namespace === undefined || tool.namespace === namespace);
  if (matches.length === 1 && matches[0] !== undefined) return matches[0][0];
  return namespace === undefined ? name : flatName({ kind: "function", name, namespace });
}

/** The tool that a model means by what it calls: also `crm.find`, and `find` alone when no other tool is called that. */
export function fromFunctionName(names: ToolNames, called: string): NamedTool {
  const exact = names.get(called) ?? names.get(called.replace(/[./:]/, "__"));
  if (exact !== undefined) return exact;
  const matches = entriesOf(names, called);
  return matches.length === 1 && matches[0] !== undefined ? matches[0][1] : { kind: "function", name: called };
}

function entriesOf(names: ToolNames, name: string): [string, NamedTool][] {
  return [...names].filter(([, tool]) => tool.name === name);
}

function flatName({ name, namespace }: NamedTool): string {
  return namespace === undefined ? name : `${namespace}__${name}`.replace(/[^A-Za-z0-9_-]/g, "_").slice(-64);
}
