import { expect, test } from "vitest";
import { patternTest } from "../../src/core/name-pattern.ts";

test.each([
  ["qwen3", "qwen3", true],
  ["qwen3", "qwen3:8b", false],
  ["qwen*", "qwen", true],
  ["qwen*", "xqwen", false],
  ["*:8b", "qwen3:8b", true],
  ["*:8b", "qwen3:8b-q4", false],
  ["a*b*c", "a-b-b-c", true],
  ["a*b*c", "a-c-b", false],
  ["ab*ba", "aba", false],
  ["ab*ba", "abba", true],
  ["a*a", "a", false],
  ["**", "", true],
  ["*", "any\nthing", true],
  ["a.c", "abc", false],
  ["[a]+(b)", "[a]+(b)", true],
  ["*aa*aa*", "aaa", false],
])("%s says of %j: %s", (pattern, id, expected) => {
  expect(patternTest([pattern])(id)).toBe(expected);
});

test("any of several patterns is enough, and none is for nothing", () => {
  expect(patternTest(["a", "b*"])("bc")).toBe(true);
  expect(patternTest([])("a")).toBe(false);
});

test("many stars do not make a long name that nearly fits costly", () => {
  // As a regular expression this takes longer than anybody waits.
  expect(patternTest([`${"*a".repeat(40)}b`])("a".repeat(20_000))).toBe(false);
});
