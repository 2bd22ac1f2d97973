import type { Family } from "./family.ts";
import { genericFamily, jsonFamilies } from "./json-families.ts";
import { markupFamilies } from "./markup-families.ts";
import type { OutputParser, ParserOptions } from "./parser.ts";

/** All families but the generic one, in the order in which they are tried. */
const families: readonly Family[] = [...markupFamilies, ...jsonFamilies];

/**
 * The family of a chat template. Those that no family claims, and those that are not told of tools, so that our own
 * prompt tells of them, are the generic one's.
 */
export function detectFamily(template: string | null): Family {
  if (template === null || !/\b(?:tools|functions)\b/.test(template)) return genericFamily;
  return families.find((family) => family.matches(template)) ?? genericFamily;
}

/** Reads what models write that were told of tools by our own prompt. */
export function promptedParser(options: Pick<ParserOptions, "tools" | "newId">): OutputParser {
  return genericFamily.createParser({ ...options, opened: false });
}

/** Every family, the generic one last. */
export function allFamilies(): Family[] {
  return [...families, genericFamily];
}

/** A family by its name; undefined for none. */
export function findFamily(name: string): Family | undefined {
  return allFamilies().find((family) => family.name === name);
}

/** Whether a prompt ends inside the reasoning that it opened. */
export function opensReasoning(family: Family, prompt: string): boolean {
  return prompt.trimEnd().endsWith(family.reasoning.open.trimEnd());
}
