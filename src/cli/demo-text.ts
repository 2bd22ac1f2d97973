import type { Environment } from "../config/environment.ts";
import { formatBytes } from "../config/units.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import { demoOwner, type ModelWeights } from "../core/model.ts";

/** Whether a card of `GET /v1/models` is that of the built-in demo model. */
export function isDemo(card: JsonObject): boolean {
  return card["owned_by"] === demoOwner;
}

/** What the built-in demo model is and can do, in two sentences; `name` as requests name it. */
export function demoText(name: string, weights: Pick<ModelWeights, "parameters" | "bytes"> = {}): string {
  const { parameters, bytes } = weights;
  const facts = [
    ...(parameters === undefined ? [] : [`${countText(parameters)} parameters`]),
    ...(bytes === undefined ? [] : [formatBytes(bytes)]),
  ];
  const size = facts.length === 0 ? "" : ` (${facts.join(", ")})`;
  return `${name} is the tiny demo model that comes with this program${size}. It greets, answers questions about this program, adds, counts, spells and calls tools, in English and Chinese; it knows nothing else, and coding agents need far more.`;
}

/** The same of a card. */
export function demoCardText(card: JsonObject): string {
  const weights = isObject(card["weights"]) ? card["weights"] : {};
  const number = (key: string): number | undefined => {
    const value = weights[key];
    return typeof value === "number" ? value : undefined;
  };
  const [parameters, bytes] = [number("parameters"), number("bytes")];
  return demoText(String(card["id"]), {
    ...(parameters === undefined ? {} : { parameters }),
    ...(bytes === undefined ? {} : { bytes }),
  });
}

/** The command that fetches a model with real answers: in a clone there is no `lair` yet. */
export function pullCommand(env: Environment): string {
  const clone = env["npm_package_name"] === "local-ai-runtime";
  return `${clone ? "npm run lair --" : "lair"} pull hf:Qwen/Qwen3-8B-GGUF`;
}

/** The ways to a model with real answers, a line each. */
export function modelWays(env: Environment): string[] {
  return [
    pullCommand(env),
    "LLAMA_CPP_MODEL=<a .gguf file, or a folder of them>",
    "OLLAMA_HOST=http://127.0.0.1:11434",
  ];
}

/** A text in lines of at most `width` characters, where its words allow. */
export function wrap(text: string, width = 100): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** e.g. `7 million`. */
function countText(count: number): string {
  return count >= 1e6 ? `${Math.round(count / 1e6)} million` : count.toLocaleString("en-US");
}
