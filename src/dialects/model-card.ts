import type { JsonObject } from "../core/json.ts";
import type { Capabilities, Model, ModelWeights } from "../core/model.ts";
import { encodeSampling } from "./openai-chat/request.ts";

/** A name under which a model is called, and who has it. */
interface Listing {
  readonly name: string;
  readonly provider: string;
  readonly kind: string;
}

/**
 * A model in OpenAI's form. What it can do and take stands under the names of all who ask: `architecture`,
 * `supported_parameters` and `default_parameters` are OpenRouter's (https://openrouter.ai/docs/api-reference/list-available-models), `state` and
 * `loaded_context_length` LM Studio's.
 */
export function encodeModel(model: Model, { name, provider, kind }: Listing): JsonObject {
  const { capabilities: can, contextLength, maxOutput, memoryBytes, expiresAt } = model;
  const modalities = modalitiesOf(can);
  return {
    id: name,
    object: "model",
    created: model.created ?? 0,
    owned_by: model.ownedBy ?? kind,
    name,
    ...(model.description === undefined ? {} : { description: model.description }),
    provider,
    state: model.state,
    ...(model.problem === undefined ? {} : { problem: model.problem }),
    ...encodeLimits({ contextLength, maxOutput }),
    ...(model.state === "loaded" && contextLength !== undefined ? { loaded_context_length: contextLength } : {}),
    capabilities: { ...can },
    modalities,
    architecture: {
      modality: `${modalities.input.join("+")}->${modalities.output.join("+")}`,
      input_modalities: modalities.input,
      output_modalities: modalities.output,
    },
    supported_parameters: parametersOf(can),
    ...(model.sampling === undefined ? {} : { default_parameters: encodeSampling({ stop: [], ...model.sampling }) }),
    ...(memoryBytes === undefined ? {} : { memory_bytes: memoryBytes }),
    ...(model.gpuBytes === undefined ? {} : { gpu_bytes: model.gpuBytes }),
    ...(expiresAt === undefined ? {} : { expires_at: new Date(expiresAt).toISOString() }),
    ...(model.weights === undefined ? {} : { weights: encodeWeights(model.weights) }),
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

function encodeWeights({ fillsGaps, sizeLabel, languages, ...told }: ModelWeights): JsonObject {
  return {
    ...told,
    ...(sizeLabel === undefined ? {} : { size_label: sizeLabel }),
    ...(languages === undefined ? {} : { languages: [...languages] }),
    ...(fillsGaps === undefined ? {} : { fills_gaps: fillsGaps }),
  };
}

function modalitiesOf({ chat, vision, embeddings }: Capabilities): { input: string[]; output: string[] } {
  return { input: vision ? ["text", "image"] : ["text"], output: chat ? ["text"] : embeddings ? ["embeddings"] : [] };
}

/** What a request to a chat model may hold, as far as clients decide by it whether to offer tools, effort and formats. */
function parametersOf({ chat, tools, reasoning }: Capabilities): string[] {
  if (!chat) return [];
  return [
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "response_format",
    "structured_outputs",
    ...(tools ? ["tools", "tool_choice"] : []),
    ...(reasoning ? ["reasoning", "reasoning_effort", "include_reasoning"] : []),
  ];
}
