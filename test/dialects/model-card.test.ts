import { expect, test } from "vitest";
import { chatModel, type Model } from "../../src/core/model.ts";
import { encodeModel } from "../../src/dialects/model-card.ts";
import { toModel } from "../../src/providers/openai-models.ts";

const listing = { name: "home:m", provider: "home", kind: "llama_cpp" };
const sighted: Model = {
  id: "m",
  state: "loaded",
  contextLength: 32_768,
  maxOutput: 4096,
  memoryBytes: 5_000_000_000,
  expiresAt: Date.UTC(2026, 10, 22, 12),
  capabilities: { ...chatModel, vision: true, reasoning: true },
};

test("says what a model takes and can in the words of OpenRouter, LM Studio and OpenAI's clients", () => {
  expect(encodeModel(sighted, listing)).toMatchObject({
    id: "home:m",
    name: "home:m",
    context_length: 32_768,
    loaded_context_length: 32_768,
    max_output_tokens: 4096,
    modalities: { input: ["text", "image"], output: ["text"] },
    architecture: { modality: "text+image->text", input_modalities: ["text", "image"], output_modalities: ["text"] },
    memory_bytes: 5_000_000_000,
    expires_at: "2026-11-22T12:00:00.000Z",
  });
  expect(encodeModel(sighted, listing)["supported_parameters"]).toEqual(
    expect.arrayContaining(["tools", "tool_choice", "reasoning", "max_tokens"]),
  );
});

test("says how tokens are chosen where a request does not, if anybody decided that", () => {
  const card = encodeModel({ ...sighted, sampling: { temperature: 0, topP: 0.95, samplers: ["top_p"] } }, listing);
  expect(card["default_parameters"]).toEqual({ temperature: 0, top_p: 0.95, samplers: ["top_p"] });
  expect(encodeModel(sighted, listing)).not.toHaveProperty("default_parameters");
});

test("offers no tools where there are none, and nothing of chats for a model that makes vectors", () => {
  const mute = encodeModel({ ...sighted, capabilities: { ...chatModel, tools: false } }, listing);
  expect(mute["supported_parameters"]).not.toContain("tools");
  const vectors = { ...chatModel, chat: false, tools: false, embeddings: true };
  const card = encodeModel({ id: "e", state: "unloaded", capabilities: vectors }, listing);
  expect(card).toMatchObject({ supported_parameters: [], modalities: { output: ["embeddings"] } });
  expect(Object.keys(card)).not.toContain("loaded_context_length");
});

test("is read by another of our servers as it was meant", () => {
  const states = ["available", "loaded", "loading", "unloaded", "failed"] as const;
  for (const state of states) {
    const { memoryBytes: _, expiresAt: __, ...known } = { ...sighted, state };
    const card = encodeModel({ ...sighted, state }, listing) as { id: string };
    expect(toModel(card)).toMatchObject({ ...known, id: "home:m" });
  }
});
