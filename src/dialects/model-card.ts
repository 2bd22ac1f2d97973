import type { JsonObject } from "../core/json.ts";
import type { Model } from "../core/model.ts";

/** A name under which a model is called, and who has it. */
interface Listing {
  readonly name: string;
  readonly provider: string;
  readonly kind: string;
}

/** A model in OpenAI's form, its limits under all the names that clients read. */
export function encodeModel(model: Model, { name, provider, kind }: Listing): JsonObject {
  const { capabilities: can, contextLength, maxOutput } = model;
  return {
    id: name,
    object: "model",
    created: model.created ?? 0,
    owned_by: model.ownedBy ?? kind,
    provider,
    state: model.state,
    ...(model.problem === undefined ? {} : { problem: model.problem }),
    ...encodeLimits({ contextLength, maxOutput }),
    capabilities: { ...can },
    modalities: { input: can.vision ? ["text", "image"] : ["text"], output: can.chat ? ["text"] : [] },
  };
}

/** The tokens of context and of one answer: vLLM's, LM Studio's, llama-server's and OpenRouter's names for them. */
export function encodeLimits({
  contextLength,
  maxOutput,
}: {
  readonly contextLength: number | undefined;
  readonly maxOutput: number | undefined;
}): JsonObject {
  return {
    ...(contextLength === undefined
      ? {}
      : {
          context_length: contextLength,
          max_model_len: contextLength,
          max_context_length: contextLength,
          context_window: contextLength,
        }),
    ...(maxOutput === undefined ? {} : { max_output_tokens: maxOutput }),
  };
}
