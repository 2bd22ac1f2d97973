import { readFileSync } from "node:fs";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";

/** The replies of OpenAI's own description that tests may ask for by name. */
export type SpecSchema =
  | "CreateChatCompletionResponse"
  | "CreateChatCompletionStreamResponse"
  | "CreateCompletionResponse"
  | "CreateEmbeddingResponse"
  | "ListModelsResponse"
  | "Model"
  | "Error"
  | "ErrorResponse"
  | "Response"
  | "ResponseStreamEvent"
  | "CompactResource";

/** Those of the Open Responses specification. */
type OpenResponsesSchema = "ResponseResource" | "StreamingEvent" | "CompactResource" | "WebSocketErrorEvent";

/** Throws, naming each place at fault, unless `json` is what OpenAI's description says of `schema`. Extra fields are allowed. */
export function expectValid(schema: SpecSchema, json: unknown): void {
  expectOf(openai, schema, json);
}

/** As `expectValid`, by the Open Responses specification. */
export function expectValidOpen(schema: OpenResponsesSchema, json: unknown): void {
  expectOf(openResponses, schema, json);
}

interface Spec {
  readonly file: string;
  readonly validators: Map<string, ValidateFunction>;
  ajv?: Ajv2020;
}

const openai: Spec = { file: "openai.json", validators: new Map() };
const openResponses: Spec = { file: "open-responses.json", validators: new Map() };

function expectOf(spec: Spec, schema: string, json: unknown): void {
  const validate = validatorOf(spec, schema);
  if (validate(json)) return;
  const faults = (validate.errors ?? [])
    .slice(0, 12)
    .map((error) => `  ${error.instancePath || "/"} ${error.message ?? ""}`);
  throw new Error(`not a valid ${schema}:\n${faults.join("\n")}\n${JSON.stringify(json, null, 1)}`);
}

function validatorOf(spec: Spec, schema: string): ValidateFunction {
  let validate = spec.validators.get(schema);
  if (validate === undefined) {
    spec.ajv ??= load(spec.file);
    validate = spec.ajv.compile({ $ref: `spec#/$defs/${schema}` });
    spec.validators.set(schema, validate);
  }
  return validate;
}

function load(file: string): Ajv2020 {
  const text = readFileSync(new URL(`../fixtures/spec/${file}`, import.meta.url), "utf8");
  const spec = JSON.parse(text) as { $id: string; $defs: Record<string, unknown> };
  // OpenAI's own server sends `usage: null` until the end, as Open Responses demands; its description says otherwise.
  if (spec.$defs.ResponseUsage !== undefined)
    spec.$defs.ResponseUsage = { anyOf: [spec.$defs.ResponseUsage, { type: "null" }] };
  // The descriptions use formats and keywords of their own (`unixtime`), which say nothing about shape.
  return new Ajv2020({ strict: false, validateFormats: false, allErrors: true }).addSchema(spec, "spec");
}
