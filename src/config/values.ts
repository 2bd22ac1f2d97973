import type { Setting } from "./describe.ts";
import type { Environment } from "./environment.ts";
import { parseBoolean } from "./units.ts";

/** A value as the schema wants it; `unset` when its spelling means "as if not set"; or what is wrong with it. */
export type ReadValue = { readonly value: unknown } | { readonly unset: true } | { readonly problem: string };

/** What people write → what the schema checks: texts become numbers, yes and no, lists and maps where those are wanted. */
export function readValue(setting: Setting, raw: unknown): ReadValue {
  if (hasControlCharacter(raw)) {
    return {
      problem:
        'holds a control character; in YAML write Windows paths without quotes or in single quotes (\'M:\\models\'), for "\\t" and "\\n" mean tab and line break',
    };
  }
  const meaning = meantBy(setting, raw);
  if (meaning === null) return { unset: true };
  if (meaning !== undefined) return { value: meaning };
  const { accepts } = setting;
  if (typeof raw === "number" && accepts.has("boolean")) return { value: parseBoolean(String(raw)) ?? raw };
  if (typeof raw !== "string") return { value: raw };
  const text = raw.trim();
  if (accepts.has("list") && !accepts.has("string"))
    return {
      value: text
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    };
  if (accepts.has("map")) return { value: toMap(text) ?? raw };
  if (accepts.has("number") && /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return { value: Number(text) };
  if (accepts.has("boolean")) return { value: parseBoolean(text) ?? raw };
  return { value: raw };
}

/** The value with every `${env:NAME}` replaced. `missing` lists variables that are not set. */
export function interpolate(raw: unknown, env: Environment): { value: unknown; missing: string[]; replaced: boolean } {
  const missing: string[] = [];
  let replaced = false;
  const fill = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(fill);
    if (typeof value === "object" && value !== null)
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, fill(one)]));
    if (typeof value !== "string") return value;
    return value.replace(/\$\{env:([^}]*)\}/g, (_, name: string) => {
      replaced = true;
      const found = env[name.trim()];
      if (found === undefined || found === "") missing.push(name.trim());
      return found ?? "";
    });
  };
  return { value: fill(raw), missing, replaced };
}

function meantBy(setting: Setting, raw: unknown): string | number | null | undefined {
  if (typeof raw !== "string" && typeof raw !== "number" && typeof raw !== "boolean") return undefined;
  const spellings = setting.facts.spellings ?? {};
  const word = String(raw).trim().toLowerCase();
  return Object.hasOwn(spellings, word) ? spellings[word] : undefined;
}

function toMap(text: string): unknown {
  if (text.startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  }
  const pairs = text.split(",").map((part) => /^([^=]+)=(.*)$/.exec(part.trim()));
  if (pairs.some((pair) => pair === null)) return undefined;
  return Object.fromEntries(pairs.map((pair) => [pair?.[1]?.trim() ?? "", pair?.[2]?.trim() ?? ""]));
}

function hasControlCharacter(raw: unknown): boolean {
  if (typeof raw === "string") return /\p{Cc}/u.test(raw);
  if (Array.isArray(raw)) return raw.some(hasControlCharacter);
  return typeof raw === "object" && raw !== null && Object.values(raw).some(hasControlCharacter);
}
