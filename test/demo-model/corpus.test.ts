import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { root } from "../../scripts/bootstrap.mjs";
import { readCases } from "../../tools/demo-model/evaluate/cases.ts";
import { readCorpusAnswers } from "../../tools/demo-model/evaluate/corpus-answers.ts";

const corpus = readCorpusAnswers();
const documents = documentation();

describe("the demo model's answers", () => {
  it("are about 200 topics and more", () => expect(corpus.topics.length).toBeGreaterThan(200));

  it("name only commands, settings and addresses that the documentation has", () => {
    const gone = corpus.topics.flatMap(({ id, en, zh }) =>
      [en.answer, zh.answer]
        .flatMap((answer) => Array.from(answer.matchAll(/`([^`]+)`/g), ([, piece]) => piece!))
        .filter((piece) => !documents.includes(oneLine(piece)))
        .map((piece) => `${id}: ${piece}`),
    );
    expect(gone, "change the answer in tools/demo-model/corpus/topics and train anew").toEqual([]);
  });

  it("are still what the evaluation expects", () => {
    const known = new Set(corpus.topics.flatMap(({ en, zh }) => [en.answer, zh.answer]));
    const asked = readCases("held-out", corpus).filter(({ ability }) => ability === "topic");
    const unknown = asked.filter((one) => !("text" in one.expect) || !known.has(one.expect.text[0]!));
    expect(unknown, "run python -m demo_model.hold_out anew").toEqual([]);
  });
});

describe("the questions written by hand", () => {
  it("want as never seen only tools that the corpus does not have, however it writes their names", () => {
    expect(["get_weather", "getWeather", "weather.get"].map(corpus.hasTool)).toEqual([true, true, true]);
    expect(["get_weather_of", "weigh_parrot"].map(corpus.hasTool)).toEqual([false, false]);
    const unseen = readCases("hand-written", corpus).filter(({ ability }) => ability === "call_unseen");
    expect(unseen.length).toBeGreaterThan(40);
    expect(unseen.filter(({ expect: wanted }) => "call" in wanted && corpus.hasTool(wanted.call.name))).toEqual([]);
  });

  it("count what is as right as the answer itself", () => {
    expect(corpus.rightForIntent("name", "en")).toEqual([
      corpus.intent("name", "en"),
      corpus.intent("who_are_you", "en"),
    ]);
  });

  it("ask for answers that the corpus has", () => {
    const cases = readCases("hand-written", corpus);
    expect(cases.length).toBeGreaterThan(1000);
    // Most of them are worded as nobody wrote them in the corpus.
    expect(cases.filter(({ source }) => source === "hand-written").length).toBeGreaterThan(cases.length / 2);
  });
});

function documentation(): string {
  const folder = path.join(root, "docs");
  const pages = readdirSync(folder).filter((name) => name.endsWith(".md"));
  const files = ["README.md", "SECURITY.md", ...pages.map((name) => path.join("docs", name))];
  return oneLine(files.map((file) => readFileSync(path.join(root, file), "utf8")).join("\n"));
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ");
}
