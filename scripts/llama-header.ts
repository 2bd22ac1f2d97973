/** What a C header declares, as far as the check of our own declarations needs it. */
export interface Header {
  /** Name → declaration, as written but on one line. */
  readonly functions: ReadonlyMap<string, Signature>;
  readonly structs: ReadonlyMap<string, readonly Field[]>;
  /** Enum members and `#define`s with a whole number. */
  readonly constants: ReadonlyMap<string, number>;
  /** Typedef → what it stands for; a pointer to a function counts as `void *`. */
  readonly types: ReadonlyMap<string, string>;
  readonly enums: ReadonlySet<string>;
}

export interface Signature {
  readonly result: string;
  readonly parameters: readonly Field[];
  readonly line: string;
}

export interface Field {
  readonly name: string;
  readonly type: string;
}

/** Reads the text of one or more headers of llama.cpp (C, with its macros for export and deprecation). */
export function readHeader(text: string): Header {
  const constants = new Map<string, number>();
  const code = withoutComments(text);
  for (const [, name = "", value = ""] of code.matchAll(/^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(\S[^\n]*)$/gm)) {
    const number = evaluate(value, constants);
    if (number !== undefined) constants.set(name, number);
  }
  const plain = withoutMacros(code.replace(/^[ \t]*#(?:[^\n\\]|\\[\s\S])*$/gm, ""));
  const enums = new Set<string>();
  for (const [, name = "", body = ""] of plain.matchAll(/\benum\s+(\w+)\s*\{([^}]*)\}/g)) {
    enums.add(name);
    readEnum(body, constants);
  }
  const structs = new Map<string, readonly Field[]>();
  for (const [, name = "", body = ""] of plain.matchAll(/\bstruct\s+(\w+)\s*\{([^{}]*)\}/g)) {
    structs.set(name, statements(body).map(readField));
  }
  // Without bodies what is left are typedefs and prototypes.
  const flat = plain.replace(/\{[^{}]*\}/g, "").replace(/extern\s+"C"\s*\{/g, "");
  const types = new Map<string, string>();
  const functions = new Map<string, Signature>();
  for (const statement of statements(flat)) {
    if (statement.startsWith("typedef ")) readTypedef(statement, types);
    else readPrototype(statement, functions);
  }
  return { functions, structs, constants, types, enums };
}

/** One prototype, e.g. one of our own. Throws when it is none. */
export function readSignature(prototype: string): Signature & { readonly name: string } {
  const functions = new Map<string, Signature>();
  readPrototype(prototype, functions);
  const [found] = functions;
  if (found === undefined) throw new Error(`this is no prototype: ${prototype}`);
  return { name: found[0], ...found[1] };
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, "");
}

/** `DEPRECATED(declaration, "hint")` → the declaration; export and attribute macros → nothing. */
function withoutMacros(code: string): string {
  return code
    .replace(/\bDEPRECATED\s*\(([\s\S]*?),\s*"[^"]*"(?:\s*"[^"]*")*\s*\)\s*;/g, "$1;")
    .replace(/\bGGML_ATTRIBUTE_FORMAT\s*\([^)]*\)/g, "")
    .replace(/\b(?:LLAMA|GGML|GGML_BACKEND)_API\b|\bGGML_CALL\b|\bGGML_NORETURN\b|\bGGML_RESTRICT\b/g, "");
}

function statements(code: string): string[] {
  return code
    .split(";")
    .map((statement) =>
      statement
        .replace(/\s+/g, " ")
        .replace(/^[\s{}]+/, "")
        .trim(),
    )
    .filter((statement) => statement !== "");
}

function readEnum(body: string, constants: Map<string, number>): void {
  let next = 0;
  for (const entry of body.split(",")) {
    const [name = "", value] = entry.split("=").map((part) => part.trim());
    if (name === "") continue;
    const number = value === undefined ? next : evaluate(value, constants);
    if (number === undefined) continue;
    constants.set(name, number);
    next = number + 1;
  }
}

/** A whole number, a name that is known, or one shifted; undefined for anything else. */
function evaluate(text: string, constants: ReadonlyMap<string, number>): number | undefined {
  const value = text
    .trim()
    .replace(/^\((.*)\)$/, "$1")
    .replace(/(?<=[\da-f])[uUlL]+$/i, "");
  if (/^-?(0x[\da-f]+|\d+)$/i.test(value)) return Number(value);
  const shift = /^(\S+)\s*<<\s*(\S+)$/.exec(value);
  if (shift !== null) {
    const [left, right] = [evaluate(shift[1] ?? "", constants), evaluate(shift[2] ?? "", constants)];
    return left === undefined || right === undefined ? undefined : left << right;
  }
  return constants.get(value);
}

function readTypedef(statement: string, types: Map<string, string>): void {
  const pointer = /^typedef .*\(\s*\*\s*(\w+)\s*\)\s*\(/.exec(statement);
  if (pointer !== null) {
    types.set(pointer[1] ?? "", "void *");
    return;
  }
  const plain = /^typedef (.*?)(\w+)$/.exec(statement);
  if (plain !== null && plain[2] !== undefined) types.set(plain[2], (plain[1] ?? "").trim());
}

function readPrototype(statement: string, functions: Map<string, Signature>): void {
  const match = /^([\w\s*]+?)\b(\w+)\s*\((.*)\)$/.exec(statement.trim());
  if (match === null || match[2] === undefined) return;
  const inside = (match[3] ?? "").trim();
  const parameters = inside === "" || inside === "void" ? [] : splitParameters(inside).map(readField);
  functions.set(match[2], { result: tidy(match[1] ?? ""), parameters, line: statement });
}

function splitParameters(text: string): string[] {
  return text.split(/,(?![^()]*\))/).map((part) => part.trim());
}

/** `const char * key`, `bool cpumask[512]`, a pointer to a function → its name and type. */
function readField(text: string): Field {
  const pointer = /\(\s*\*\s*(\w+)\s*\)\s*\(/.exec(text);
  if (pointer !== null) return { name: pointer[1] ?? "", type: "void *" };
  const array = /^(.*?)(\w+)\s*\[\s*(\w*)\s*\]$/.exec(text);
  if (array !== null) return { name: array[2] ?? "", type: `${tidy(array[1] ?? "")} [${array[3] ?? ""}]` };
  const plain = /^(.*[\s*])(\w+)$/.exec(text);
  return plain === null ? { name: "", type: tidy(text) } : { name: plain[2] ?? "", type: tidy(plain[1] ?? "") };
}

function tidy(type: string): string {
  return type.replace(/\*/g, " * ").replace(/\s+/g, " ").trim();
}
