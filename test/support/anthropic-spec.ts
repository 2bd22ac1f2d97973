import { readFileSync } from "node:fs";
import { Ajv, type ValidateFunction } from "ajv";

/** What Anthropic's API answers, by the names of its SDK's types. */
export type AnthropicSchema =
  | "Message"
  | "RawMessageStreamEvent"
  | "MessageTokensCount"
  | "ModelInfo"
  | "ErrorResponse";

const validators = new Map<string, ValidateFunction>();
let ajv: Ajv | undefined;

/** Throws, naming each place at fault, unless `json` is what the SDK's types say of `schema`. Extra fields are allowed. */
export function expectAnthropic(schema: AnthropicSchema, json: unknown): void {
  const validate = validatorOf(schema);
  if (validate(json)) return;
  const faults = (validate.errors ?? [])
    .slice(0, 12)
    .map((error) => `  ${error.instancePath || "/"} ${error.message ?? ""}`);
  throw new Error(`not a valid ${schema}:\n${faults.join("\n")}\n${JSON.stringify(json, null, 1)}`);
}

/** Throws unless the frames are events of Anthropic's stream, each under its own name. Returns them without pings. */
export function readEvents(frames: readonly string[]): { type: string; [key: string]: unknown }[] {
  const events = frames.join("").split("\n\n").slice(0, -1);
  return events.flatMap((event) => {
    const [, name, data] = /^event: (\w+)\ndata: ([^\n]*)$/.exec(event) ?? [];
    if (name === undefined || data === undefined) throw new Error(`not an event: ${event}`);
    const json = JSON.parse(data) as { type: string };
    if (json.type !== name) throw new Error(`an event of type ${json.type} is called ${name}`);
    if (name === "ping") return [];
    if (name !== "error") expectAnthropic("RawMessageStreamEvent", json);
    return [json];
  });
}

function validatorOf(schema: string): ValidateFunction {
  let validate = validators.get(schema);
  if (validate === undefined) {
    ajv ??= load();
    validate = ajv.compile({ $ref: `sdk#/definitions/${schema}` });
    validators.set(schema, validate);
  }
  return validate;
}

function load(): Ajv {
  const text = readFileSync(new URL("../fixtures/spec/anthropic.json", import.meta.url), "utf8");
  const made = new Ajv({ strict: false, logger: false });
  made.addSchema(JSON.parse(text) as object, "sdk");
  return made;
}
