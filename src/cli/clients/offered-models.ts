import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { isDemo } from "../demo-text.ts";

/** A model as clients need to know it. */
export interface OfferedModel {
  /** As the server lists it. May hold `:` and `/`. */
  readonly id: string;
  /** Tokens of context; assumed where the server does not tell. */
  readonly context: number;
  /** Whether the server does not tell the context. */
  readonly assumed: boolean;
  /** Most tokens of one answer, that leaves room for the question. */
  readonly output: number;
  readonly tools: boolean;
  readonly vision: boolean;
  readonly reasoning: boolean;
  readonly loaded: boolean;
  /** Whether it is the built-in demo model, which is nothing for agents. */
  readonly demo: boolean;
}

/** Tokens of context where a server tells none: what most of today's models have at least, and agents need. */
const assumedContext = 32_768;
/** Most tokens of an answer that a client asks for, also where the model allows more: it reserves them. */
const longestAnswer = 16_384;

/**
 * What no model is called, and a server that means harm might call one: opencode reads `{file:…}` and `{env:…}` anywhere
 * in its configuration (https://opencode.ai/docs/config/#variables) and would send the server what it finds there, and a
 * dash begins a flag.
 */
const unsafe = /[\p{Cc}{}]|^-/u;

/** The models of `GET /v1/models` that can be chatted with, the server's own order. */
export function toOfferedModels(cards: readonly JsonObject[]): OfferedModel[] {
  return cards.flatMap((card) => {
    const { id, state } = card;
    const can = isObject(card["capabilities"]) ? card["capabilities"] : {};
    if (typeof id !== "string" || id === "" || unsafe.test(id)) return [];
    return state === "failed" || can["chat"] === false ? [] : [toOfferedModel(id, card, can)];
  });
}

function toOfferedModel(id: string, card: JsonObject, can: JsonObject): OfferedModel {
  const told = count(card["context_length"]) ?? count(card["max_model_len"]);
  const context = told ?? assumedContext;
  return {
    id,
    context,
    assumed: told === undefined,
    output: answerLimit(context, count(card["max_output_tokens"])),
    tools: can["tools"] !== false,
    vision: can["vision"] === true,
    reasoning: can["reasoning"] === true,
    loaded: card["state"] === "loaded",
    demo: isDemo(card),
  };
}

/** A quarter of the context: clients compact a conversation when less than an answer is left. */
function answerLimit(context: number, most = longestAnswer): number {
  return Math.max(1, Math.min(most, longestAnswer, Math.floor(context / 4)));
}

function count(value: Json | undefined): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}
