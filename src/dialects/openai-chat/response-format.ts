import type { ResponseFormat } from "../../core/chat.ts";
import type { JsonObject } from "../../core/json.ts";
import {
  defined,
  invalidValue,
  quoted,
  readArray,
  readObject,
  readString,
  readBoolean,
  required,
  wrongType,
} from "../fields.ts";

/**
 * The fields that say what an answer is held to: OpenAI's `response_format`, llama-server's `grammar` and `json_schema`,
 * vLLM's `structured_outputs` and, before it, `guided_…`. At most one may be there.
 */
export const responseFormatFields: readonly string[] =
  `response_format grammar json_schema structured_outputs guided_json guided_regex guided_grammar guided_choice`.split(
    " ",
  );

/** Throws `ApiError` naming the field. */
export function decodeResponseFormat(body: JsonObject): ResponseFormat {
  const found = [
    decodeFormat(body),
    ...decodeOptions(body, { json: "json_schema", grammar: "grammar" }),
    ...decodeOptions(body, {
      json: "guided_json",
      regex: "guided_regex",
      grammar: "guided_grammar",
      choice: "guided_choice",
    }),
    ...decodeStructured(body),
  ].filter((format) => format !== undefined);
  if (found.length > 1) throw invalidValue("response_format", "is given in more than one way: give one of them");
  return found[0] ?? { type: "text" };
}

/** `{type: "json_schema", json_schema: {…}}` and its flat form in the Responses API. */
export function decodeJsonSchema(described: JsonObject, at: string): ResponseFormat {
  const schema = required(readObject(described, "schema", at), `${at}.schema`);
  const strict = readBoolean(described, "strict", at);
  return {
    type: "json-schema",
    name: readString(described, "name", at) ?? "response",
    schema,
    ...(strict === undefined ? {} : { strict }),
  };
}

/** As OpenAI's wire says it, and where that has no word, as llama-server and vLLM do. */
export function encodeResponseFormat(format: ResponseFormat): JsonObject {
  switch (format.type) {
    case "text":
      return {};
    case "json":
      return { response_format: { type: "json_object" } };
    case "grammar":
      return { grammar: format.grammar, structured_outputs: { grammar: format.grammar } };
    case "regex":
      return { structured_outputs: { regex: format.pattern } };
    case "choice":
      return { structured_outputs: { choice: [...format.choices] } };
    case "json-schema": {
      const { name, schema, strict } = format;
      return { response_format: { type: "json_schema", json_schema: { name, schema, ...defined({ strict }) } } };
    }
  }
}

function decodeFormat(body: JsonObject): ResponseFormat | undefined {
  const format = readObject(body, "response_format");
  if (format === undefined) return undefined;
  const type = required(readString(format, "type", "response_format"), "response_format.type");
  switch (type) {
    case "text":
      // It asks for nothing: another field may.
      return undefined;
    case "json_object":
      // llama.cpp takes a schema here.
      return readObject(format, "schema", "response_format") === undefined
        ? { type: "json" }
        : decodeJsonSchema(format, "response_format");
    case "json_schema": {
      const at = "response_format.json_schema";
      return decodeJsonSchema(required(readObject(format, "json_schema", "response_format"), at), at);
    }
    case "grammar":
      return {
        type,
        grammar: required(readString(format, "grammar", "response_format"), "response_format.grammar"),
      };
    default:
      throw invalidValue(
        "response_format.type",
        `must be text, json_object, json_schema or grammar, not ${quoted(type)}`,
      );
  }
}

function decodeStructured(body: JsonObject): ResponseFormat[] {
  const options = readObject(body, "structured_outputs");
  if (options === undefined) return [];
  const named = decodeOptions(
    options,
    { json: "json", regex: "regex", grammar: "grammar", choice: "choice" },
    "structured_outputs",
  );
  return readBoolean(options, "json_object", "structured_outputs") === true ? [...named, { type: "json" }] : named;
}

interface OptionNames {
  readonly json: string;
  readonly grammar: string;
  readonly regex?: string;
  readonly choice?: string;
}

function decodeOptions(body: JsonObject, names: OptionNames, at?: string): ResponseFormat[] {
  const found: ResponseFormat[] = [];
  // Clients send what they do not use as empty text.
  const text = (key: string | undefined): string =>
    (key === undefined || typeof body[key] === "object" ? undefined : readString(body, key, at)) ?? "";
  const schema = decodeSchema(body, names.json, at);
  if (schema !== undefined) found.push({ type: "json-schema", name: "response", schema });
  if (text(names.grammar) !== "") found.push({ type: "grammar", grammar: text(names.grammar) });
  if (text(names.regex) !== "") found.push({ type: "regex", pattern: text(names.regex) });
  const choices = names.choice === undefined ? undefined : readArray(body, names.choice, at);
  if (choices !== undefined) {
    found.push({
      type: "choice",
      choices: choices.map((choice) => {
        if (typeof choice !== "string") throw wrongType(names.choice ?? "", "an array of strings", choice);
        return choice;
      }),
    });
  }
  return found;
}

/** A schema, or, as vLLM takes it too, its JSON text. */
function decodeSchema(body: JsonObject, key: string, at?: string): JsonObject | undefined {
  const value = body[key];
  if (typeof value !== "string") return readObject(body, key, at);
  try {
    return readObject({ [key]: JSON.parse(value) }, key, at);
  } catch {
    throw invalidValue(key, "must be a JSON schema");
  }
}
