import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { StateError } from "../state/state.ts";

/** A response as it is kept, with what was asked. */
export interface KeptResponse {
  /** As its caller was told; of one that was deleted, while others go on from it, its `id` and `output` alone. */
  readonly response: JsonObject;
  /** The input of this turn; each item has an id. Of a turn without `turns`, the whole conversation's. */
  readonly items: readonly JsonObject[];
  /** Ids of the turns before, the oldest first: their items and their outputs come before `items`. */
  readonly turns: readonly string[];
  /** Characters of those turns, as they are kept; at most so many as one text may have. */
  readonly before: number;
  /** When the oldest of them was kept, and until when this one may be fetched; milliseconds since 1970. */
  readonly since: number;
  readonly until: number;
  /** Of one that is made in the background: the process that is at work on it. */
  readonly owner?: string;
  /** Of one that is made in the background: whether its events can be read. */
  readonly streamed?: boolean;
  readonly deleted?: boolean;
}

const version = 1;

export function encodeKept(kept: KeptResponse): string {
  return JSON.stringify({ version, ...kept });
}

/** Characters that a response and all turns that it points at may have together: as many as one that holds them all. */
const longestConversation = 8 * 1024 * 1024;

/** What stands in the next turn's `before`. Throws `request_too_large` for a conversation that is too long to be kept. */
export function lengthWith(kept: KeptResponse): number {
  const length = kept.before + encodeKept(kept).length;
  if (length <= longestConversation) return length;
  throw new ApiError(
    "request_too_large",
    "the conversation before this turn is too long to be kept; send it as `input`, with store: false",
    { param: "previous_response_id" },
  );
}

/** Throws `StateError` for a text of another version. */
export function decodeKept(text: string): KeptResponse {
  const json = JSON.parse(text) as Json;
  if (isObject(json) && json["version"] === version) return json as unknown as KeptResponse;
  throw new StateError("a kept response was written by another version of this program, and cannot be read");
}

/** The id that its caller knows it by. */
export function idOf({ response }: KeptResponse): string {
  return String(response["id"]);
}

/** What the model has said in it. */
export function outputOf({ response }: KeptResponse): JsonObject[] {
  return toItems(response["output"]);
}

/** Whether it is still being made. */
export function isUnderWay({ response: { status } }: KeptResponse): boolean {
  return status === "queued" || status === "in_progress";
}

/** Those elements of a list that are items. */
export function toItems(list: Json | undefined): JsonObject[] {
  return Array.isArray(list) ? list.filter(isObject) : [];
}
