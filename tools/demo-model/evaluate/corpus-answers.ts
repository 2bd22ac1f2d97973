import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import type { Language } from "./cases.ts";

/** What the corpus lets the model answer, by the ids of the corpus. Each throws for an id that is not there. */
export interface CorpusAnswers {
  topic(id: string, language: Language): string;
  intent(id: string, language: Language): string;
  jokes(language: Language): string[];
  /** All honest ways to say that this is more than the model can do. */
  refusals(language: Language): string[];
  readonly topics: readonly Answered[];
}

/** A topic or an intent: one answer in each language. */
export interface Answered extends Readonly<Record<Language, { readonly answer: string }>> {
  readonly id: string;
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
  return {
    topics,
    topic: (id, language) => answerOf(topics, id, language),
    intent: (id, language) => answerOf(intents, id, language),
    jokes: (language) => chat.jokes[language].answers,
    refusals: (language) => [...other.answers[language], ...other.without_tools.answers[language]],
  };
}

function answerOf(entries: readonly Answered[], id: string, language: Language): string {
  const found = entries.find((entry) => entry.id === id);
  if (found === undefined) throw new Error(`the corpus has no ${id}`);
  return found[language].answer;
}

// Lists that the corpus shares by aliases are many, and our own.
function readYaml<Content>(file: string): Content {
  return parse(readFileSync(file, "utf8"), { maxAliasCount: -1 }) as Content;
}
