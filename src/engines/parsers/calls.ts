import { isObject, type JsonObject } from "../../core/json.ts";

/** A tool call as a model wrote it: arguments as JSON text. */
export interface WrittenCall {
  readonly name: string;
  readonly arguments: string;
}

/**
 * `{"name": …, "arguments": …}` (or `parameters`) as JSON text, or a list of such → calls. Null when the text is no
 * JSON or any of it is no call.
 */
export function readCalls(text: string): WrittenCall[] | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const list = Array.isArray(value) ? value : [value];
  const calls = list.map((entry) => (isObject(entry) ? readCall(entry) : null));
  return calls.length > 0 && calls.every((call) => call !== null) ? calls : null;
}

function readCall(object: JsonObject): WrittenCall | null {
  const inner = isObject(object["function"]) ? object["function"] : object;
  const { name } = inner;
  const given = inner["arguments"] ?? inner["parameters"] ?? {};
  if (typeof name !== "string" || name === "") return null;
  if (isObject(given)) return { name, arguments: JSON.stringify(given) };
  if (typeof given !== "string") return null;
  try {
    return isObject(JSON.parse(given)) ? { name, arguments: given } : null;
  } catch {
    return null;
  }
}

/** Whether a JSON text breaks off inside a string: a tag seen there is part of the string. */
export function endsInString(json: string): boolean {
  let inside = false;
  for (let index = 0; index < json.length; index++) {
    if (inside && json[index] === "\\") index++;
    else if (json[index] === '"') inside = !inside;
  }
  return inside;
}
