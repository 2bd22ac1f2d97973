/** A tool as the client knows it. */
export interface NamedTool {
  /** `custom`: called with text, which travels as the one property `input` of a function's arguments. */
  readonly kind: "function" | "custom";
  readonly name: string;
  readonly namespace?: string;
}

/** The names of the functions that the model is given for a client's tools, and the ways back. */
export class ToolNames {
  readonly #tools = new Map<string, NamedTool>();
  /** By the tool's name alone, and by namespace and name; null where several are called that. */
  readonly #functions = new Map<string, string | null>();

  /**
   * A name for the tool's function that no other has, of the characters and the length that OpenAI's chat allows:
   * `crm__find` for `find` of the namespace `crm`.
   */
  add(tool: NamedTool): string {
    const flat = flatName(tool);
    let name = flat;
    for (let count = 2; this.#tools.has(name); count++) name = `${flat.slice(0, 58)}_${count}`;
    this.#tools.set(name, tool);
    if (tool.namespace !== undefined) this.#remember(keyOf(tool), name);
    this.#remember(tool.name, name);
    return name;
  }

  /** Whether the tool was added already. */
  has({ name, namespace }: NamedTool): boolean {
    if (namespace !== undefined) return this.#functions.has(`${namespace}\n${name}`);
    return this.#tools.has(name) && this.#tools.get(name)?.namespace === undefined;
  }

  /** The function that a client means by a tool's name: by its calls in a history, by its `tool_choice`. */
  functionOf(name: string, namespace: string | undefined): string {
    const exact = this.#tools.get(name);
    if (exact !== undefined && exact.namespace === namespace) return name;
    const tool: NamedTool = { kind: "function", name, ...(namespace === undefined ? {} : { namespace }) };
    return this.#functions.get(keyOf(tool)) ?? flatName(tool);
  }

  /** The functions of a namespace. */
  functionsIn(namespace: string): string[] {
    return [...this.#tools].filter(([, tool]) => tool.namespace === namespace).map(([name]) => name);
  }

  /** The tool that a model means by what it calls: also `crm.find`, and `find` alone where one tool only is called that. */
  toolOf(called: string): NamedTool {
    const name = this.#tools.has(called) ? called : (this.#functions.get(called) ?? called.replace(/[./:]/, "__"));
    return this.#tools.get(name) ?? { kind: "function", name: called };
  }

  #remember(key: string, name: string): void {
    this.#functions.set(key, this.#functions.has(key) ? null : name);
  }
}

function keyOf({ namespace, name }: NamedTool): string {
  return namespace === undefined ? name : `${namespace}\n${name}`;
}

function flatName({ name, namespace }: NamedTool): string {
  return namespace === undefined ? name : `${namespace}__${name}`.replace(/[^A-Za-z0-9_-]/g, "_").slice(-64);
}
