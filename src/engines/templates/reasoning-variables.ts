import type { JsonObject } from "../../core/json.ts";

/**
 * What templates ask for to know how much to think: `reasoning_effort` (GPT-OSS, Mistral, Solar), `enable_thinking`
 * (Qwen, GLM, Nemotron), `thinking` (DeepSeek, Granite, Kimi). Without an effort, the template's own default holds.
 */
export function reasoningVariables(effort: string | undefined, template: string): JsonObject {
  if (effort === undefined) return {};
  const thinks = effort !== "none";
  return { enable_thinking: thinks, thinking: thinks, reasoning_effort: nearestEffort(effort, template) };
}

/** Efforts as OpenAI names them, from none to most. */
const efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/** The effort itself where the template names it or any effort is taken, otherwise the nearest that models are trained on. */
function nearestEffort(effort: string, template: string): string {
  const named = efforts.filter((one) => template.includes(`'${one}'`) || template.includes(`"${one}"`));
  const at = efforts.indexOf(effort);
  if (at < 0 || named.includes(effort)) return effort;
  const known =
    named.filter((one) => ["low", "medium", "high"].includes(one)).length > 1 ? named : ["low", "medium", "high"];
  const distance = (one: string): number => Math.abs(efforts.indexOf(one) - at);
  return known.reduce((best, one) => (distance(one) < distance(best) ? one : best));
}
