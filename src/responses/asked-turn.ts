import { randomBytes } from "node:crypto";
import type { Call } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { type Archive, previousNotFound } from "./archive.ts";
import { type KeptResponse, outputOf, toItems } from "./kept-response.ts";

/** What a call asks of the responses that are kept. */
export interface AskedTurn {
  /** The body for whoever answers, who keeps nothing: with the whole `input`. Undefined: as it came. */
  readonly body: JsonObject | undefined;
  /** The items of this turn alone, each with an id. */
  readonly items: JsonObject[];
  /** The response that it goes on from, and the whole conversation until then, its answer too. */
  readonly previous: { readonly kept: KeptResponse; readonly history: JsonObject[] } | undefined;
  /** Whether the answer is to be kept. */
  readonly stored: boolean;
  readonly background: boolean;
}

/** References in one input that are looked up; a conversation has far fewer items. */
const mostReferences = 2000;

/**
 * Reads what the body of a call asks of kept responses, and brings it. Throws `previous_response_not_found` and what
 * `checkBody` throws.
 */
export async function readTurn(archive: Archive, call: Call, body: JsonObject): Promise<AskedTurn> {
  const stored = body["store"] !== false;
  const background = body["background"] === true;
  checkBody(body, stored);
  const principal = call.principal?.id ?? "";
  const previous = await findPrevious(archive, principal, body["previous_response_id"] ?? null);
  const input = await resolveReferences(archive, principal, body["input"]);
  const items = stored || previous !== undefined ? withIds(input) : [];
  if (!stored && previous === undefined && input === body["input"])
    return { body: undefined, items, previous, stored, background };
  const { background: _background, previous_response_id: _previous, ...rest } = body;
  const whole = previous === undefined ? input : [...previous.history, ...items];
  const asked: JsonObject = { ...rest, store: false, ...(whole === undefined ? {} : { input: whole }) };
  return { body: asked, items, previous, stored, background };
}

/** Throws `unsupported_parameter`, `invalid_type` and `invalid_value` for what cannot be asked here. */
function checkBody(body: JsonObject, keepable: boolean): void {
  for (const key of ["conversation", "prompt"]) {
    if ((body[key] ?? null) === null) continue;
    const instead =
      key === "prompt" ? "send its text as `instructions`" : "go on from a response by `previous_response_id`";
    throw new ApiError("unsupported_parameter", `${key} is not supported: there are none here; ${instead}`, {
      param: key,
    });
  }
  for (const key of ["store", "background"]) {
    const value = body[key] ?? null;
    if (value !== null && typeof value !== "boolean")
      throw new ApiError("invalid_type", `${key} must be true or false`, { param: key });
  }
  if (body["background"] === true && !keepable)
    throw new ApiError("invalid_value", "background needs an answer that is kept: leave out `store: false`", {
      param: "background",
    });
}

async function findPrevious(archive: Archive, principal: string, id: Json): Promise<AskedTurn["previous"]> {
  if (id === null) return undefined;
  if (typeof id !== "string")
    throw new ApiError("invalid_type", "previous_response_id must be a string", { param: "previous_response_id" });
  const kept = await archive.find(principal, id);
  if (kept === undefined) throw previousNotFound(id);
  const status = String(kept.response["status"]);
  if (status !== "completed" && status !== "incomplete")
    throw new ApiError(
      "invalid_value",
      `previous_response_id names a response whose status is ${status}: only one that is completed or incomplete can be gone on from`,
      { param: "previous_response_id" },
    );
  return { kept, history: [...(await archive.inputOf(principal, kept)), ...outputOf(kept)] };
}

/**
 * The input with the items that it only refers to; those that nobody kept are left out, as for the AI SDK, which refers to
 * every answer that it was not told to be unkept.
 */
async function resolveReferences(
  archive: Archive,
  principal: string,
  input: Json | undefined,
): Promise<Json | undefined> {
  if (!Array.isArray(input)) return input;
  const ids = input.map(referenceOf).filter((id) => id !== undefined);
  if (ids.length === 0) return input;
  if (ids.length > mostReferences)
    throw new ApiError(
      "invalid_value",
      `input refers to ${ids.length} items; at most ${mostReferences} are looked up`,
      {
        param: "input",
      },
    );
  const found = await archive.findItems(principal, ids);
  return input.flatMap((item) => {
    const id = referenceOf(item);
    if (id === undefined) return [item];
    const kept = found.get(id);
    return kept === undefined ? [] : [kept];
  });
}

function referenceOf(item: Json): string | undefined {
  if (!isObject(item) || typeof item["id"] !== "string") return undefined;
  const { type } = item;
  // OpenAI's schema lets the type be left out of a reference, which then has nothing but its id.
  const isReference = type === "item_reference" || ((type ?? null) === null && item["role"] === undefined);
  return isReference ? item["id"] : undefined;
}

/** What ids of items begin with, by type. */
const idPrefixes: Readonly<Record<string, string>> = {
  message: "msg",
  function_call: "fc",
  function_call_output: "fco",
  custom_tool_call: "ctc",
  custom_tool_call_output: "ctco",
  reasoning: "rs",
  compaction: "cmp",
};

/** The items of an input, each with an id by which it can be listed. */
function withIds(input: Json | undefined): JsonObject[] {
  const items: JsonObject[] =
    typeof input === "string"
      ? [{ type: "message", role: "user", content: [{ type: "input_text", text: input }] }]
      : toItems(input);
  const stem = randomBytes(12).toString("hex");
  return items.map((item, index) => {
    if (typeof item["id"] === "string" && item["id"] !== "") return item;
    const type = typeof item["type"] === "string" ? item["type"] : "message";
    return { ...item, id: `${idPrefixes[type] ?? "item"}_${stem}${index.toString(16).padStart(4, "0")}` };
  });
}
