import { basename } from "node:path";
import { DraftModel, draftMisfit } from "./draft-model.ts";
import type { ThreadPoolHandle } from "../native/declarations.ts";
import type { NativeContext } from "../native/native-context.ts";
import { ModelError, NativeModel } from "../native/native-model.ts";
import { LogprobReader } from "../generation/logprobs.ts";
import { openContext } from "../native/open-context.ts";
import { PromptLookup } from "./prompt-lookup.ts";
import { Speculation } from "./speculation.ts";
import type { WorkerSettings } from "../settings.ts";

/** What a model's speculation is made of. */
export interface SpeculationPlan {
  readonly settings: WorkerSettings;
  readonly contextLength: number;
  readonly interrupt: SharedArrayBuffer;
  readonly pool: ThreadPoolHandle | null;
  /** Told why a draft model is not used. */
  readonly onWarning: (message: string) => void;
}

/**
 * What guesses tokens for a model, as the settings want it; null for nothing, as where the model's own memory cannot go
 * back after a wrong guess. A draft model that does not fit costs the guesses, with a warning: the answers are the same.
 */
export function openSpeculation(model: NativeModel, context: NativeContext, plan: SpeculationPlan): Speculation | null {
  const { draft, draftMax, draftMin, path } = plan.settings;
  if (draft === "off" || draft === path || draftMax <= 0) return null;
  if (!context.rewindsFreely) {
    plan.onWarning("nothing is guessed ahead: the model's memory cannot go back after a wrong guess");
    return null;
  }
  const drafter = draft === "lookup" ? new PromptLookup() : openDraftModel(model, plan);
  return drafter && new Speculation(drafter, { most: draftMax, least: Math.min(draftMin, draftMax) });
}

function openDraftModel(model: NativeModel, plan: SpeculationPlan): DraftModel | null {
  const { settings, contextLength } = plan;
  try {
    const small = NativeModel.load(model.library, { ...settings, path: settings.draft }, () => undefined);
    // What the small one was not trained to look back on, it does not guess.
    const length = small.trainedContext > 0 ? Math.min(contextLength, small.trainedContext) : contextLength;
    const context = openContext(small, { ...plan, contextLength: length });
    const drafter = new DraftModel(small, context, new LogprobReader((token) => small.vocabulary.piece(token)));
    const misfit = draftMisfit(small, model, context);
    if (misfit === null) return drafter;
    drafter.free();
    plan.onWarning(`nothing is guessed ahead: the draft model ${basename(settings.draft)} does not fit, ${misfit}`);
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    plan.onWarning(`nothing is guessed ahead: for the draft model ${basename(settings.draft)}, ${error.message}`);
  }
  return null;
}
