import { readFile } from "node:fs/promises";
import {
  applyEdits,
  findNodeAtLocation,
  modify,
  type Node,
  parse,
  type ParseError,
  parseTree,
  printParseErrorCode,
  stripComments,
} from "jsonc-parser";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { ClientError } from "./client.ts";

/** A place in an object, and what is to stand there. */
export interface JsonChange {
  readonly at: readonly string[];
  readonly value: Json;
}

/** JSON as programs let their users write it: with comments and trailing commas; "" is an empty object. Throws `ClientError` with the line. */
export function readJson(text: string, path: string): JsonObject {
  if (text.trim() === "") return {};
  const errors: ParseError[] = [];
  const value: unknown = parse(text, errors, { allowTrailingComma: true });
  const [first] = errors;
  if (first !== undefined) {
    const line = text.slice(0, first.offset).split("\n").length;
    const problem = printParseErrorCode(first.error);
    throw new ClientError(`${path} is no valid JSON (${problem} in line ${line}); put that right first`);
  }
  if (!isObject(value)) throw new ClientError(`${path} does not hold a JSON object; put that right first`);
  return value;
}

/** What a file of a program holds; {} where there is none, or it cannot be read: its program says why. */
export async function readJsonFile(path: string): Promise<JsonObject> {
  try {
    return readJson(await readFile(path, "utf8"), path);
  } catch {
    return {};
  }
}

/** The text with the changes, everything else as it stood, comments too. Throws `ClientError` when it is no JSON. */
export function editJson(text: string, path: string, changes: readonly JsonChange[]): string {
  readJson(text, path);
  return changes.reduce(change, text.trim() === "" ? "{}\n" : text);
}

function change(text: string, { at, value }: JsonChange): string {
  const form = formOf(text);
  return (
    insertBehindComment(text, { at, value }, form) ??
    applyEdits(text, modify(text, [...at], value, { formattingOptions: form }))
  );
}

interface Form {
  readonly insertSpaces: boolean;
  readonly tabSize: number;
  readonly eol: string;
}

function formOf(text: string): Form {
  return {
    insertSpaces: !/^\t/m.test(text),
    tabSize: /^( +)"/m.exec(text)?.[1]?.length ?? 2,
    eol: text.includes("\r\n") ? "\r\n" : "\n",
  };
}

/** The text with a new last entry where a comment ends an object, which jsonc-parser would move behind the new entry; undefined: nothing of that. */
function insertBehindComment(text: string, { at, value }: JsonChange, form: Form): string | undefined {
  const tree = parseTree(text);
  const found = tree === undefined ? undefined : deepest(tree, at);
  const last = found?.node.children?.at(-1);
  if (found === undefined || last === undefined) return undefined;
  const end = last.offset + last.length;
  const tail = text.slice(end, found.node.offset + found.node.length - 1);
  if (!/\/[/*]/.test(tail)) return undefined;
  const [name = "", ...deeper] = at.slice(found.depth);
  const nested = deeper.reduceRight<Json>((inner, key) => ({ [key]: inner }), value);
  const unit = form.insertSpaces ? " ".repeat(form.tabSize) : "\t";
  const indent = /^[ \t]*/.exec(text.slice(text.lastIndexOf("\n", last.offset) + 1))?.[0] ?? "";
  const entry = `${JSON.stringify(name)}: ${JSON.stringify(nested, null, unit)}`.replaceAll("\n", form.eol + indent);
  const comma = stripComments(tail).includes(",") ? "" : ",";
  const outer = /[ \t]*$/.exec(tail)?.[0] ?? "";
  return (
    text.slice(0, end) +
    comma +
    tail.trimEnd() +
    form.eol +
    indent +
    entry +
    form.eol +
    outer +
    text.slice(end + tail.length)
  );
}

/** The object on the way to a place that is there while the next one is not; undefined where the place itself is there. */
function deepest(tree: Node, at: readonly string[]): { node: Node; depth: number } | undefined {
  for (let depth = at.length; depth >= 0; depth--) {
    const node = findNodeAtLocation(tree, at.slice(0, depth));
    if (node !== undefined) return depth === at.length || node.type !== "object" ? undefined : { node, depth };
  }
  return undefined;
}
