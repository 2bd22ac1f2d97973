import { applyEdits, modify, parse, type ParseError, printParseErrorCode } from "jsonc-parser";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { ClientError } from "./client.ts";

/** A place in an object, and what is to stand there; undefined: nothing. */
export interface JsonChange {
  readonly at: readonly string[];
  readonly value: Json | undefined;
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

/** The text with the changes, everything else as it stood, comments too. Throws `ClientError` when it is no JSON. */
export function editJson(text: string, path: string, changes: readonly JsonChange[]): string {
  readJson(text, path);
  const formattingOptions = {
    insertSpaces: !/^\t/m.test(text),
    tabSize: /^( +)"/m.exec(text)?.[1]?.length ?? 2,
    eol: text.includes("\r\n") ? "\r\n" : "\n",
  };
  let next = text.trim() === "" ? "{}\n" : text;
  for (const { at, value } of changes) next = applyEdits(next, modify(next, [...at], value, { formattingOptions }));
  return next;
}
