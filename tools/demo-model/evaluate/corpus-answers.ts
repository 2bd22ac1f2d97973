import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import type { Language } from "./cases.ts";

/** What the corpus lets the model answer, by the ids of the corpus. Each throws for an id that is not there. */
export interface CorpusAnswers {
  topic(id: string, language: Language): string;
  intent(id: string, language: Language): string;
  /** What an intent is answered with, and what is as right for its questions: its own answer comes first. */
  rightForIntent(id: string, language: Language): string[];
  jokes(language: Language): string[];
  /** All honest ways to say that this is more than the model can do. */
  refusals(language: Language): string[];
  readonly topics: readonly Answered[];
  /** Whether the corpus has a tool of this name, or of the same words put another way: `getTime`, `time.get`. */
  hasTool(name: string): boolean;
}

/** A topic or an intent: one answer in each language. */
export interface Answered extends Readonly<Record<Language, { readonly answer: string }>> {
  readonly id: string;
  /** Ids of intents whose answers are right for its questions too. */
  readonly also_right?: readonly string[];
}

type Answers = Readonly<Record<Language, string[]>>;

const corpus = path.join(import.meta.dirname, "../corpus");

/** Reads the corpus, `tools/demo-model/corpus`. */
export function readCorpusAnswers(): CorpusAnswers {
  const folder = path.join(corpus, "topics");
  const topics = readdirSync(folder).flatMap((name) => readYaml<Answered[]>(path.join(folder, name)));
  const chat = readYaml<{
    greetings: Answered[];
    identity: Answered[];
    jokes: Readonly<Record<Language, { readonly answers: string[] }>>;
  }>(path.join(corpus, "chat.yaml"));
  const other = readYaml<{ answers: Answers; without_tools: { answers: Answers } }>(path.join(corpus, "other.yaml"));
  const intents = [...chat.greetings, ...chat.identity];
  const { tools } = readYaml<{ tools: { readonly names: readonly string[] }[] }>(path.join(corpus, "tools.yaml"));
  const toolNames = new Set(tools.flatMap(({ names }) => names).map(wordsOf));
  return {
    topics,
    topic: (id, language) => entryOf(topics, id)[language].answer,
    intent: (id, language) => entryOf(intents, id)[language].answer,
    rightForIntent: (id, language) =>
      [id, ...(entryOf(intents, id).also_right ?? [])].map((one) => entryOf(intents, one)[language].answer),
    jokes: (language) => chat.jokes[language].answers,
    refusals: (language) => [...other.answers[language], ...other.without_tools.answers[language]],
    hasTool: (name) => toolNames.has(wordsOf(name)),
  };
}

function entryOf(entries: readonly Answered[], id: string): Answered {
  const found = entries.find((entry) => entry.id === id);
  if (found === undefined) throw new Error(`the corpus has no ${id}`);
  return found;
}

function wordsOf(name: string): string {
  const words = name.split(/[^a-zA-Z0-9]+|(?<=[a-z])(?=[A-Z])/).map((word) => word.toLowerCase());
  return [...new Set(words)].sort().join(" ");
}

// Lists that the corpus shares by aliases are many, and our own.
function readYaml<Content>(file: string): Content {
  return parse(readFileSync(file, "utf8"), { maxAliasCount: -1 }) as Content;
}
