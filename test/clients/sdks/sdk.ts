import type { JsonObject } from "../../../src/core/json.ts";
import type { Dialect } from "../rows.ts";
import type { Part } from "../scenes.ts";
import type { Target } from "../ways.ts";

/** A library with which a program asks a model; it lets the model use its tools until the model has said its last words. */
export interface Sdk {
  /** Its npm name. */
  readonly client: string;
  readonly dialect: Dialect;
  /** Gives the model's last words. `libraries` is the folder in which those are that the project does not have itself. */
  ask(target: Pick<Target, "url" | "key" | "model">, toolbox: Toolbox, how: How): Promise<string>;
}

export interface How {
  readonly stream: boolean;
  readonly libraries: string;
}

/** The tools that the model may use, and what it has used. */
export interface Toolbox {
  readonly prompt: string;
  readonly tools: readonly { readonly name: string; readonly description: string; readonly parameters: JsonObject }[];
  /** Every call so far. */
  readonly used: readonly { readonly name: string; readonly arguments: unknown }[];
  /** Does what the model wants; gives the result in words. Arguments come as JSON or parsed. */
  use(name: string, parameters: unknown): string;
}

/** Limit of what the model may say at a time. */
export const maxTokens = 4096;
/** More answers than the task takes. */
export const maxTurns = 6;

const text = { type: "string" };

/** Two tools over one file in memory and one to be written. */
export function makeToolbox(token: string): { toolbox: Toolbox; part: Part } {
  const used: { name: string; arguments: unknown }[] = [];
  const first = { name: "read_file", arguments: { path: "input.txt" } };
  const second = { name: "write_file", arguments: { path: "output.txt", content: `${token}\n` } };
  const object = (...names: string[]): JsonObject => ({
    type: "object",
    properties: Object.fromEntries(names.map((name) => [name, text])),
    required: names,
    additionalProperties: false,
  });
  return {
    part: { first, second, last: `DONE ${token}` },
    toolbox: {
      prompt: "Copy the token of input.txt into output.txt, then say DONE and the token.",
      tools: [
        { name: first.name, description: "Reads a file.", parameters: object("path") },
        { name: second.name, description: "Writes a file.", parameters: object("path", "content") },
      ],
      used,
      use(name, parameters) {
        used.push({ name, arguments: typeof parameters === "string" ? JSON.parse(parameters) : parameters });
        return name === first.name ? token : "written";
      },
    },
  };
}
