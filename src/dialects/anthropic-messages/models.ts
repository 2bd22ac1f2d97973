import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { invalidValue } from "../fields.ts";

/** Which part of the list is asked for. */
export interface ModelPage {
  /** Models on a page, 1 … 1000. */
  readonly limit: number;
  /** The page begins behind this model, or ends before that one. */
  readonly after: string | undefined;
  readonly before: string | undefined;
}

/** The query of `GET /v1/models`, with its `?`. Throws `invalid_value`. */
export function decodeModelPage(search: string): ModelPage {
  const query = new URLSearchParams(search);
  const limit = query.get("limit") ?? "20";
  if (!/^\d{1,4}$/.test(limit) || Number(limit) < 1 || Number(limit) > 1000)
    throw invalidValue("limit", "must be a whole number from 1 to 1000");
  return {
    limit: Number(limit),
    after: query.get("after_id") ?? undefined,
    before: query.get("before_id") ?? undefined,
  };
}

/** A page of models, each described by its card in OpenAI's form, as Anthropic's list has it. An id that is not listed ends nothing. */
export function encodeModelPage(cards: readonly JsonObject[], { limit, after, before }: ModelPage): JsonObject {
  const ids = cards.map(({ id }) => id);
  const from = after === undefined ? 0 : ids.indexOf(after) + 1;
  const end = before === undefined || !ids.includes(before) ? cards.length : ids.indexOf(before);
  // Before a model come those nearest to it.
  const start = before === undefined ? from : Math.max(from, end - limit);
  const data = cards.slice(start, Math.min(end, start + limit)).map(encodeModelInfo);
  return {
    data,
    has_more: before === undefined ? start + limit < end : start > from,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}

/** A model's card in OpenAI's form → Anthropic's `ModelInfo`. */
export function encodeModelInfo(card: JsonObject): JsonObject {
  const { id = "", created, context_length: context, max_output_tokens: output } = card;
  const contextLength = typeof context === "number" ? context : null;
  return {
    type: "model",
    id,
    display_name: typeof card.name === "string" ? card.name : id,
    created_at: new Date((typeof created === "number" ? created : 0) * 1000).toISOString(),
    // What nothing else bounds, the context does.
    max_input_tokens: contextLength,
    max_tokens: typeof output === "number" ? output : contextLength,
    capabilities: isObject(card.capabilities) ? encodeCapabilities(card.capabilities) : null,
    lifecycle: "active",
    line: null,
    deprecated_at: null,
    retires_at: null,
  };
}

function encodeCapabilities({ vision, reasoning, chat }: JsonObject): JsonObject {
  const none = supported(false);
  const thinks = supported(reasoning);
  return {
    batch: none,
    citations: none,
    code_execution: none,
    context_management: {
      ...none,
      clear_thinking_20251015: null,
      clear_tool_uses_20250919: null,
      compact_20260112: null,
    },
    effort: { ...thinks, low: thinks, medium: thinks, high: thinks, xhigh: thinks, max: thinks },
    image_input: supported(vision),
    pdf_input: none,
    server_tools: { ...none, code_execution: none, web_search: none },
    structured_outputs: supported(chat),
    thinking: {
      ...thinks,
      types: { adaptive: thinks, between_tools: thinks, disabled: supported(true), enabled: thinks },
    },
  };
}

function supported(value: Json | undefined): { supported: boolean } {
  return { supported: value === true };
}
