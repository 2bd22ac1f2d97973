import { readFileSync } from "node:fs";
import path from "node:path";
import type { CorpusAnswers } from "./corpus-answers.ts";

export type Language = "en" | "zh";
/**
 * `drawn` and `paraphrase`: demo_model/hold_out.py says how. `hand-written`: by somebody who had not seen the corpus;
 * `written, known`: so too, but a wording that the corpus has all the same.
 */
export type Source = "drawn" | "paraphrase" | "hand-written" | "written, known";

/** One of these texts, but for white space and the sign at the end. */
interface ExpectedText {
  readonly text: readonly string[];
}
/** Each of these stands in the answer. */
interface ExpectedParts {
  readonly contains: readonly string[];
}
/** The last number of the answer. */
interface ExpectedNumber {
  readonly number: number;
}
/** The last word of the answer, letter by letter. */
interface ExpectedLetters {
  readonly spelled: string;
}
/** Exactly this call and no other. */
interface ExpectedCall {
  readonly call: { readonly name: string; readonly arguments: Readonly<Record<string, unknown>> };
}
export type Expected = ExpectedText | ExpectedParts | ExpectedNumber | ExpectedLetters | ExpectedCall;

/** One question and what is right for it. */
export interface Case {
  readonly ability: string;
  readonly language: Language;
  readonly source: Source;
  /** As OpenAI's chat API takes them. */
  readonly messages: readonly Readonly<Record<string, unknown>>[];
  readonly tools?: readonly unknown[];
  readonly expect: Expected;
}

/** What stands in a file; names of the corpus (`topic`, `intent`, `joke`, `refusal`) are not looked up yet. */
interface WrittenCase extends Omit<Case, "source" | "expect"> {
  readonly source?: Source;
  readonly expect: Readonly<Record<string, unknown>>;
}

export const evaluationFolder: string = path.join(import.meta.dirname, "../evaluation");

/** The cases of `held-out.jsonl` or `hand-written.jsonl`. Throws naming the line when one asks for what the corpus has not. */
export function readCases(set: "held-out" | "hand-written", answers: CorpusAnswers): Case[] {
  const file = path.join(evaluationFolder, `${set}.jsonl`);
  const lines = readFileSync(file, "utf8").split("\n");
  const known = new Set(readJson<string[]>("known-wordings.json"));
  return lines.flatMap((line, index) => {
    if (line.trim() === "") return [];
    try {
      return [toCase(JSON.parse(line) as WrittenCase, answers, known)];
    } catch (error) {
      throw new Error(`${set}.jsonl, line ${index + 1}: ${(error as Error).message}`, { cause: error });
    }
  });
}

/** Every n-th of the cases of each ability, language and source, so that about `count` are left. The same for the same cases. */
export function sampleCases(cases: readonly Case[], count: number): Case[] {
  if (count >= cases.length) return [...cases];
  const share = count / cases.length;
  return groupBy(cases, ({ ability, language, source }) => `${ability} ${language} ${source}`).flatMap(([, group]) => {
    const taken = Math.max(1, Math.round(group.length * share));
    return Array.from({ length: taken }, (_, index) => group[Math.floor((index * group.length) / taken)]!);
  });
}

/** Things with the same key together, in the order in which the keys come first. */
export function groupBy<Thing>(things: readonly Thing[], keyOf: (thing: Thing) => string): [string, Thing[]][] {
  const groups = new Map<string, Thing[]>();
  for (const thing of things) {
    const key = keyOf(thing);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [thing]);
    else group.push(thing);
  }
  return [...groups];
}

function toCase({ expect, ...written }: WrittenCase, answers: CorpusAnswers, known: ReadonlySet<string>): Case {
  const isKnown = known.has(String(written.messages.at(-1)?.["content"]));
  const source = written.source ?? (isKnown ? "written, known" : "hand-written");
  const expected = lookUp(expect, written.language, answers);
  // Whoever wrote the questions by hand did not see the corpus: some of the tools that they made up are in it all the same.
  const isSeen = written.ability === "call_unseen" && "call" in expected && answers.hasTool(expected.call.name);
  return { ...written, source, ability: isSeen ? "call" : written.ability, expect: expected };
}

function readJson<Content>(name: string): Content {
  return JSON.parse(readFileSync(path.join(evaluationFolder, name), "utf8")) as Content;
}

// Names may stand beside each other: a question that can fairly be taken in two ways has two right answers.
function lookUp(expect: WrittenCase["expect"], language: Language, answers: CorpusAnswers): Expected {
  const text = [
    ...names(expect["topic"]).map((id) => answers.topic(id, language)),
    ...names(expect["intent"]).flatMap((id) => answers.rightForIntent(id, language)),
    ...(expect["joke"] === true ? answers.jokes(language) : []),
    ...(expect["refusal"] === true ? answers.refusals(language) : []),
  ];
  if (text.length > 0) return { text };
  const known = ["text", "contains", "number", "spelled", "call"];
  if (!known.some((form) => expect[form] !== undefined))
    throw new Error(`expect has none of ${known.join(", ")}, topic, intent, joke, refusal: ${JSON.stringify(expect)}`);
  return expect as unknown as Expected;
}

function names(value: unknown): string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value.map(String) : [String(value)];
}
