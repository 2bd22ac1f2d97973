import type { JsonObject } from "../core/json.ts";
import { keyState } from "../state/issue-key.ts";
import type { KeyRecord } from "../state/state.ts";

/** A key as it is shown: everything but what could be used to find its text. Times are ISO 8601, `lastUsed` milliseconds since 1970. */
export function toKeyJson(key: KeyRecord, now: number, lastUsed?: number): JsonObject {
  return {
    id: key.id,
    name: key.name,
    owner: key.owner ?? null,
    state: keyState(key, now),
    ending: key.ending,
    roles: [...key.roles],
    models: [...key.models],
    limits: { ...key.limits },
    created: isoTime(key.created),
    expires: isoTime(key.expires),
    revoked: isoTime(key.revoked),
    /** Until when the text before the last rotation works. */
    previousUntil: key.previous !== undefined && key.previous.until > now ? isoTime(key.previous.until) : null,
    lastUsed: isoTime(lastUsed),
  };
}

function isoTime(time: number | undefined): string | null {
  return time === undefined ? null : new Date(time).toISOString();
}
