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
  | "ResponseStreamEvent";

const validators = new Map<SpecSchema, ValidateFunction>();
let ajv: Ajv2020 | undefined;

/** Throws, naming each place at fault, unless `json` is what OpenAI's description says of `schema`. Extra fields are allowed. */
export function expectValid(schema: SpecSchema, json: unknown): void {
  const validate = validatorOf(schema);
  if (validate(json)) return;
  const faults = (validate.errors ?? [])
    .slice(0, 12)
    .map((error) => `  ${error.instancePath || "/"} ${error.message ?? ""}`);
  throw new Error(`not a valid ${schema}:\n${faults.join("\n")}\n${JSON.stringify(json, null, 1)}`);
}

function validatorOf(schema: SpecSchema): ValidateFunction {
  let validate = validators.get(schema);
  if (validate === undefined) {
    ajv ??= load();
    validate = ajv.compile({ $ref: `https://openai.test/spec#/$defs/${schema}` });
    validators.set(schema, validate);
  }
  return validate;
}

function load(): Ajv2020 {
  const spec: object = JSON.parse(readFileSync(new URL("../fixtures/spec/openai.json", import.meta.url), "utf8"));
  // The description uses formats and keywords of its own (`unixtime`), which say nothing about shape.
  return new Ajv2020({ strict: false, validateFormats: false, allErrors: true }).addSchema(spec);
}
