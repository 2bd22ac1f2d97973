import type { ChatEvent } from "../../../core/chat.ts";
import { isErrorCode } from "../../../core/errors.ts";
import { isObject } from "../../../core/json.ts";
import type { ChildMessage } from "../messages.ts";

/**
 * What a model's process says, or null for what none says that is in its right mind: llama.cpp reads hostile files in
 * there, and what it may have overwritten is not believed.
 */
export function readChildMessage(value: unknown): ChildMessage | null {
  if (!isRecord(value)) return null;
  const { type } = value;
  const check = typeof type === "string" && Object.hasOwn(checks, type) ? checks[type as ChildMessage["type"]] : null;
  return check?.(value) === true ? (value as unknown as ChildMessage) : null;
}

type Fields = Readonly<Record<string, unknown>>;

const checks: Record<ChildMessage["type"], (message: Fields) => boolean> = {
  loading: ({ permille }) => isCount(permille),
  ready: ({ model }) =>
    isRecord(model) && isCount(model.contextLength) && typeof model.release === "string" && isList(model.devices),
  warning: ({ message }) => typeof message === "string",
  "load-failed": ({ reason, message }) =>
    ["file", "memory", "library"].includes(reason as string) && typeof message === "string",
  events: ({ events }) => isList(events) && events.every(isEventsOfOne),
  answer: ({ id, answer }) => isCount(id) && answer !== undefined,
  failed: ({ id, failure }) =>
    isCount(id) && isRecord(failure) && isErrorCode(failure.code) && typeof failure.message === "string",
  pong: ({ report }) => isRecord(report) && isCount(report.beats) && isCount(report.rows),
};

const eventTypes = new Set<string>([
  "text",
  "reasoning",
  "tool-call",
  "logprobs",
  "progress",
  "finish",
] satisfies ChatEvent["type"][]);

function isEventsOfOne(entry: unknown): boolean {
  if (!isList(entry) || entry.length !== 2 || !isCount(entry[0]) || !isList(entry[1])) return false;
  return entry[1].every((event) => isRecord(event) && typeof event.type === "string" && eventTypes.has(event.type));
}

function isRecord(value: unknown): value is Fields {
  return isObject(value as never);
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
