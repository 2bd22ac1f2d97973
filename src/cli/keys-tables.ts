import { limitNames } from "../access/key-fields.ts";
import { toKeyJson } from "../access/key-json.ts";
import type { CallerLimits } from "../core/access.ts";
import { keyState } from "../state/issue-key.ts";
import type { KeyRecord } from "../state/state.ts";
import { toColumns } from "./columns.ts";
import { plainText } from "./command.ts";

/** A table of keys, as lines. `used`: when each was last used, by id. */
export function keyTable(keys: readonly KeyRecord[], used: ReadonlyMap<string, number>, now: number): string[] {
  const rows = keys.map((key) => [
    key.name,
    key.id,
    `…${key.ending}`,
    keyState(key, now),
    key.roles.join(", "),
    key.models.length === 0 ? "all" : shortened(key.models.join(", "), 30),
    shortened(limitsText(key.limits), 40),
    day(key.expires) ?? "never",
    day(used.get(key.id)) ?? "-",
    key.owner ?? "-",
  ]);
  const heads = ["NAME", "ID", "ENDS IN", "STATE", "ROLES", "MODELS", "LIMITS", "EXPIRES", "LAST USED", "OWNER"];
  return toColumns([heads, ...rows]).map(plainText);
}

/** Everything that is known of one key, as lines. */
export function keyLines(key: KeyRecord, lastUsed: number | undefined, now: number): string[] {
  const { created, expires, revoked, previousUntil, lastUsed: used } = toKeyJson(key, now, lastUsed);
  const rows: [string, unknown][] = [
    ["name", key.name],
    ["id", key.id],
    ["ends in", key.ending === "" ? "unknown: it was imported by its digest" : key.ending],
    ["owner", key.owner],
    ["state", keyState(key, now)],
    ["roles", key.roles.join(", ")],
    ["models", key.models.length === 0 ? "all" : key.models.join(", ")],
    ["limits", limitsText(key.limits)],
    ["created", created],
    ["expires", expires ?? "never"],
    ["revoked", revoked],
    ["old text until", previousUntil],
    ["last used", used ?? "never, as far as is known"],
  ];
  return toColumns(
    rows.flatMap(([label, value]) => (value === undefined || value === null ? [] : [[label, String(value)]])),
  ).map(plainText);
}

const limitWords: Readonly<Record<keyof CallerLimits, string>> = {
  requestsPerMinute: "requests/min",
  tokensPerMinute: "tokens/min",
  concurrent: "at a time",
  tokensPerDay: "tokens/day",
  tokensPerMonth: "tokens/month",
  spendPerDay: "spend/day",
  spendPerMonth: "spend/month",
};

function limitsText(limits: CallerLimits): string {
  const texts = (Object.keys(limitNames) as (keyof CallerLimits)[]).flatMap((name) =>
    limits[name] === undefined ? [] : [`${limits[name]} ${limitWords[name]}`],
  );
  return texts.length === 0 ? "none of its own" : texts.join(", ");
}

function shortened(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

function day(time: number | undefined): string | undefined {
  return time === undefined ? undefined : new Date(time).toISOString().slice(0, 10);
}
