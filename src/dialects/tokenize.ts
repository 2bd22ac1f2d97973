import type { Json, JsonObject } from "../core/json.ts";
import { readArray, readString, required, unsupportedParameter } from "./fields.ts";
import { decodeTokens } from "./openai-completions.ts";

/** llama-server says `content`, vLLM `prompt`: the reply keeps to the form of the request. */
export type TokenizeForm = "content" | "prompt";

/** The body of `POST /tokenize`. Throws `ApiError` naming the field. */
export function decodeTokenize(body: JsonObject): { text: string; form: TokenizeForm } {
  if (body.messages !== undefined)
    throw unsupportedParameter("messages", "is not supported; send the text as `content` or `prompt`");
  const prompt = readString(body, "prompt");
  if (prompt !== undefined) return { text: prompt, form: "prompt" };
  return { text: required(readString(body, "content"), "content"), form: "content" };
}

/** `maxModelLength`: the context of the model in tokens, where it is known. */
export function encodeTokenize(tokens: number[], form: TokenizeForm, maxModelLength: number | undefined): Json {
  if (form === "content") return { tokens };
  return { count: tokens.length, max_model_len: maxModelLength ?? null, tokens };
}

/** The body of `POST /detokenize`. */
export function decodeDetokenize(body: JsonObject): number[] {
  return decodeTokens(required(readArray(body, "tokens"), "tokens"), "tokens");
}

/** llama-server answers `content`, vLLM `prompt`: their requests are the same, so both are said. */
export function encodeDetokenize(text: string): Json {
  return { content: text, prompt: text };
}
