import { checkDraftModel, DraftModel } from "./draft-model.ts";
import type { ThreadPoolHandle } from "./declarations.ts";
import type { NativeContext } from "./native-context.ts";
import { NativeModel } from "./native-model.ts";
import { LogprobReader } from "./logprobs.ts";
import { openContext } from "./open-context.ts";
import { PromptLookup } from "./prompt-lookup.ts";
import { Speculation } from "./speculation.ts";
import type { WorkerSettings } from "./settings.ts";

/** What a model's speculation is made of. */
export interface SpeculationPlan {
  readonly settings: WorkerSettings;
  readonly contextLength: number;
  readonly interrupt: SharedArrayBuffer;
  readonly pool: ThreadPoolHandle | null;
}

/**
 * What guesses tokens for a model, as the settings want it; null for nothing, also where the model's own memory cannot
 * go back after a wrong guess. Throws `ModelError` for a draft model that does not fit.
 */
export function openSpeculation(
  model: NativeModel,
  context: NativeContext,
  { settings, contextLength, interrupt, pool }: SpeculationPlan,
): Speculation | null {
  const { draft, draftMax, draftMin } = settings;
  if (draft === "off" || draftMax <= 0 || !context.rewindsFreely) return null;
  const pace = { most: draftMax, least: Math.min(draftMin, draftMax) };
  if (draft === "lookup") return new Speculation(new PromptLookup(), pace);
  const small = NativeModel.load(model.library, { ...settings, path: draft }, () => undefined);
  // What the small one was not trained to look back on, it does not guess.
  const length = Math.min(contextLength, small.trainedContext > 0 ? small.trainedContext : contextLength);
  const own = openContext(small, { settings, contextLength: length, interrupt, pool });
  checkDraftModel(small, model, own);
  return new Speculation(new DraftModel(small, own, new LogprobReader(() => Buffer.alloc(0))), pace);
}
