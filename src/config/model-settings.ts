import { z } from "zod";
import { llama } from "./llama-settings.ts";
import { facts, setting, size } from "./setting.ts";

/** What one model may have of its own. */
const ownOfModels = [
  "contextLength",
  "maxNewTokens",
  "flashAttention",
  "batchSize",
  "ubatchSize",
  "gpuLayers",
  "offloadKqv",
  "mainGpu",
  "splitMode",
  "threads",
  "threadsBatch",
  "temperature",
  "topP",
  "topK",
  "minP",
  "seed",
  "repeatPenalty",
  "penaltyLastN",
  "draft",
  "draftMax",
  "draftMin",
  "useJinja",
  "pooling",
  "maxSessions",
  "maxQueue",
  "unloadAfterChat",
  "keepAlive",
] as const;

const modelSettings = z.strictObject({
  ...optional(llama.shape, ownOfModels),
  pinned: setting(
    z.boolean().exactOptional(),
    "Keep this model in memory once it is loaded: it is never unloaded for others.",
  ),
  memory: setting(size.exactOptional(), "Memory that this model needs; absent: what is estimated from its file.", {
    unit: "size",
  }),
});

/** `llama.models`: settings of single models by id, in which `*` stands for any text; of several that fit, later ones win. */
export const models = z.record(z.string().min(1), modelSettings).prefault({});

type Shape = typeof llama.shape;
type Optional<Schema> = Schema extends z.ZodDefault<infer Inner> ? z.ZodExactOptional<Inner> : Schema;

/** The same settings without defaults, and without variables and flags of their own. */
function optional<Name extends keyof Shape>(
  shape: Shape,
  names: readonly Name[],
): { [Key in Name]: Optional<Shape[Key]> } {
  const entries = names.map((key) => {
    const schema: z.ZodType = shape[key];
    const { env: _env, flag: _flag, short: _short, ...rest } = facts.get(schema) ?? {};
    const inner = schema instanceof z.ZodDefault || schema instanceof z.ZodExactOptional ? schema.unwrap() : schema;
    const about = `As \`llama.${key}\`, for this model.`;
    return [key, setting((inner as z.ZodType).exactOptional(), about, rest)];
  });
  return Object.fromEntries(entries) as { [Key in Name]: Optional<Shape[Key]> };
}
