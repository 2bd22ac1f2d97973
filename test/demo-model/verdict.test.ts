import { describe, expect, it } from "vitest";
import type { Case } from "../../tools/demo-model/evaluate/cases.ts";
import { sampleCases } from "../../tools/demo-model/evaluate/cases.ts";
import { scoresOf, shortfalls } from "../../tools/demo-model/evaluate/report.ts";
import { isRight } from "../../tools/demo-model/evaluate/verdict.ts";

const says = (text: string) => ({ text, calls: [] });
const calls = (...list: [string, string][]) => ({
  text: "",
  calls: list.map(([name, text]) => ({ name, arguments: text })),
});

describe("an answer of the demo model is right", () => {
  it("when it is one of the texts, but for white space and the sign at its end", () => {
    const expect_ = { text: ["I cannot.", "不行。"] };
    expect(isRight(says("I  cannot\n"), expect_)).toBe(true);
    expect(isRight(says("不行"), expect_)).toBe(true);
    expect(isRight(says("I cannot. Sorry."), expect_)).toBe(false);
    expect(isRight(says("i cannot."), expect_)).toBe(false);
    expect(isRight(says(""), expect_)).toBe(false);
  });

  it("when every part stands in it", () => {
    const expect_ = { contains: ["21", "Oslo"] };
    expect(isRight(says("It is 21 degrees in Oslo."), expect_)).toBe(true);
    expect(isRight(says("It is 21 degrees."), expect_)).toBe(false);
  });

  it("when its last number is the one, whatever comes before", () => {
    expect(isRight(says("3 - 5 = -2."), { number: -2 })).toBe(true);
    expect(isRight(says("3 - 5 = 2."), { number: -2 })).toBe(false);
    expect(isRight(says("40 + 28 = 68。"), { number: 68 })).toBe(true);
    expect(isRight(says("68, for 40 + 28"), { number: 68 })).toBe(false);
    expect(isRight(says("7-2"), { number: 2 })).toBe(true);
    expect(isRight(says("exactly 1,250"), { number: 1250 })).toBe(true);
    expect(isRight(says("no idea"), { number: 0 })).toBe(false);
  });

  it("when it ends in the letters asked for, apart where they are wanted apart", () => {
    expect(isRight(says("s-u-n, backwards: nus"), { spelled: "nus" })).toBe(true);
    expect(isRight(says("s-u-n，倒过来：nus"), { spelled: "nus" })).toBe(true);
    expect(isRight(says("s-u-n, backwards: nsu"), { spelled: "nus" })).toBe(false);
    expect(isRight(says("S-u-n."), { spelled: "s-u-n" })).toBe(true);
    expect(isRight(says("sun"), { spelled: "s-u-n" })).toBe(false);
    expect(isRight(says("s-u-m"), { spelled: "s-u-n" })).toBe(false);
    expect(isRight(says("bonus"), { spelled: "nus" })).toBe(false);
  });

  it("when it is the one call, whose arguments are the same JSON in any order", () => {
    const expect_ = { call: { name: "book", arguments: { seats: 2, city: "Oslo" } } };
    expect(isRight(calls(["book", '{"city":"Oslo","seats":2.0}']), expect_)).toBe(true);
    expect(isRight(calls(["book", '{"city":"Oslo","seats":"2"}']), expect_)).toBe(false);
    expect(isRight(calls(["book", '{"city":"Oslo","seats":2,"class":1}']), expect_)).toBe(false);
    expect(isRight(calls(["book", '{"city":"Oslo","seats":2']), expect_)).toBe(false);
    expect(isRight(calls(["cook", '{"city":"Oslo","seats":2}']), expect_)).toBe(false);
    expect(isRight(says("book(city: Oslo, seats: 2)"), expect_)).toBe(false);
    const twice = ["book", '{"city":"Oslo","seats":2}'] as [string, string];
    expect(isRight(calls(twice, twice), expect_)).toBe(false);
  });

  it("never when it calls a tool instead of saying what is asked for", () => {
    expect(isRight({ ...calls(["book", "{}"]), text: "68" }, { number: 68 })).toBe(false);
  });
});

describe("the scores of the demo model", () => {
  const asked = (ability: string, language: "en" | "zh", source: Case["source"] = "drawn"): Case => ({
    ability,
    language,
    source,
    messages: [],
    expect: { number: 1 },
  });
  const outcomes = (ability: string, right: number, wrong: number, source?: Case["source"]) =>
    Array.from({ length: right + wrong }, (_, index) => ({
      asked: asked(ability, index % 2 === 0 ? "en" : "zh", source),
      answer: says(""),
      right: index < right,
    }));

  it("fall short just below what issue 7 demands, each source by itself", () => {
    expect(shortfalls(scoresOf(outcomes("arithmetic", 85, 15)))).toEqual([]);
    expect(shortfalls(scoresOf(outcomes("arithmetic", 84, 16)))).toMatchObject([{ right: 84, cases: 100 }]);
    const mixed = [...outcomes("topic", 100, 0), ...outcomes("topic", 84, 16, "hand-written")];
    expect(shortfalls(scoresOf(mixed))).toMatchObject([{ source: "hand-written" }]);
  });

  it("take greetings, identity and jokes as one", () => {
    const small = [...outcomes("joke", 9, 1), ...outcomes("greeting", 45, 0), ...outcomes("identity", 45, 0)];
    expect(shortfalls(scoresOf(small))).toEqual([]);
    expect(shortfalls(scoresOf(outcomes("joke", 9, 1)))).toMatchObject([{ right: 9, cases: 10 }]);
  });

  it("come from a sample that has every ability, language and source, and is the same each time", () => {
    const cases = [
      ...Array.from({ length: 90 }, () => asked("topic", "en")),
      ...Array.from({ length: 9 }, () => asked("joke", "zh", "paraphrase")),
      asked("spell", "zh"),
    ];
    const sample = sampleCases(cases, 10);
    expect(sample.map(({ ability }) => ability)).toEqual([
      ...Array.from({ length: 9 }, () => "topic"),
      "joke",
      "spell",
    ]);
    expect(sampleCases(cases, 10)).toEqual(sample);
    expect(sampleCases(cases, 1000)).toEqual(cases);
  });
});
