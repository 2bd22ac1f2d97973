import { isUtf8 } from "node:buffer";
import type { TokenizeOptions } from "../core/engine.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { defined, readArray, readBoolean, readString, required, unsupportedParameter } from "./fields.ts";
import { decodeTokens } from "./openai-completions.ts";

/** A text to be made tokens of. llama-server says `content`, vLLM `prompt`: the reply keeps to the form of the request. */
export interface TokenizeCall {
  readonly text: string;
  readonly form: "content" | "prompt";
  readonly options: TokenizeOptions;
  /** The text of each token is wanted too. */
  readonly withPieces: boolean;
}

/** The body of `POST /tokenize`. Throws `ApiError` naming the field. */
export function decodeTokenize(body: JsonObject): TokenizeCall {
  if (body.messages !== undefined)
    throw unsupportedParameter("messages", "is not supported; send the text as `content` or `prompt`");
  const prompt = readString(body, "prompt");
  if (prompt !== undefined) {
    return {
      text: prompt,
      form: "prompt",
      options: { addSpecial: readBoolean(body, "add_special_tokens") ?? true },
      withPieces: readBoolean(body, "return_token_strs") ?? false,
    };
  }
  return {
    text: required(readString(body, "content"), "content"),
    form: "content",
    options: defined({
      addSpecial: readBoolean(body, "add_special"),
      parseSpecial: readBoolean(body, "parse_special"),
    }),
    withPieces: readBoolean(body, "with_pieces") ?? false,
  };
}

/** `pieces`: the bytes of each token, if they were asked for. `maxModelLength`: the context in tokens, where it is known. */
export function encodeTokenize(
  tokens: number[],
  form: TokenizeCall["form"],
  about: { readonly pieces?: number[][] | undefined; readonly maxModelLength?: number | undefined },
): Json {
  const { pieces } = about;
  if (form === "content") {
    return {
      tokens: pieces === undefined ? tokens : tokens.map((id, index) => ({ id, piece: toPiece(pieces[index]) })),
    };
  }
  const strings =
    pieces === undefined ? {} : { token_strs: pieces.map((bytes) => Buffer.from(bytes).toString("utf8")) };
  return { count: tokens.length, max_model_len: about.maxModelLength ?? null, tokens, ...strings };
}

/** The body of `POST /detokenize`. */
export function decodeDetokenize(body: JsonObject): number[] {
  return decodeTokens(required(readArray(body, "tokens"), "tokens"), "tokens");
}

/** llama-server answers `content`, vLLM `prompt`: their requests are the same, so both are said. */
export function encodeDetokenize(text: string): Json {
  return { content: text, prompt: text };
}

/** Text, or the bytes of a part of a character, as llama-server says it. */
function toPiece(bytes: readonly number[] = []): Json {
  const piece = Buffer.from(bytes);
  return isUtf8(piece) ? piece.toString("utf8") : [...bytes];
}
