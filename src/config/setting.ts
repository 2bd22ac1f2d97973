import { z } from "zod";
import { durationPattern, parseDuration, parseSize, sizePattern } from "./units.ts";

/**
 * Commands that have flags of settings of their own: the same name may mean another setting for another one, as `port`
 * does. `serve` stands for all that work with the runtime.
 */
export const flagCommands = ["serve", "cloud", "agent", "gateway", "keys", "usage"] as const;
export type FlagCommand = (typeof flagCommands)[number];
/** Those of them that run until they are stopped. */
export const serverCommands = ["serve", "cloud", "agent", "gateway"] as const;

/** What the loader and the reference docs know about one setting beyond its type. */
export interface SettingFacts {
  /** Environment variables that set it, strongest first; all others are named `LAIR_<PATH>`. */
  readonly env?: readonly string[];
  /** Name of its own command-line flag, without dashes. */
  readonly flag?: string;
  /** Letter of the flag, without dash. */
  readonly short?: string;
  /** Whose flag it is; default: that of `serve`. */
  readonly commands?: readonly FlagCommand[];
  /** Flag and variable hold a list of `value` and `name=value`, one for each entry of a section; the flag may be repeated. */
  readonly named?: true;
  /** Never printed. */
  readonly secret?: true;
  /** How a value is printed, of which a part may be secret. */
  readonly shown?: (value: string) => string;
  readonly unit?: "duration" | "size";
  /** Further spellings → the value they mean; null: as if not set. Compared in lower case. */
  readonly spellings?: Readonly<Record<string, string | number | null>>;
}

/** The facts of each setting, by its schema. */
export const facts = z.registry<SettingFacts>();

/** A setting: its schema with what is said about it. */
export function setting<T extends z.ZodType>(schema: T, about: string, more: SettingFacts = {}): T {
  const described = schema.meta({ description: about, ...(more.secret === true ? { writeOnly: true } : {}) });
  facts.add(described, more);
  return described;
}

/** Whether the setting has a flag for the command. */
export function hasFlag({ flag, commands = ["serve"] }: SettingFacts, command: FlagCommand): boolean {
  return flag !== undefined && commands.includes(command);
}

/** Read as `30s`, `10m` or seconds; milliseconds when parsed. */
export const duration = z.union([z.string().regex(durationPattern), z.number().min(0)]).transform(parseDuration);
/** Read as `64MB` or bytes; bytes when parsed. */
export const size = z.union([z.string().regex(sizePattern), z.int().min(0)]).transform(parseSize);
/** How many of something; at least one. */
export const count = z.int().min(1);
/** A model's name, or a pattern of such, as the key of a map. */
export const patternName = z.string().min(1).max(200);
