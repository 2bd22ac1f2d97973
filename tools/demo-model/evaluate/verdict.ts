import { isDeepStrictEqual } from "node:util";
import type { Expected } from "./cases.ts";

/** What the model said. */
export interface Answer {
  readonly text: string;
  readonly calls: readonly { readonly name: string; readonly arguments: string }[];
}

/** Whether an answer is right: the text but for white space and its last sign; a call to the last value. */
export function isRight(answer: Answer, expect: Expected): boolean {
  if ("call" in expect) return isCall(answer, expect.call);
  if (answer.calls.length > 0) return false;
  if ("text" in expect) return expect.text.some((text) => normalize(text) === normalize(answer.text));
  if ("contains" in expect) return expect.contains.every((part) => normalize(answer.text).includes(normalize(part)));
  if ("number" in expect) return lastNumber(answer.text) === expect.number;
  return isSpelled(answer.text, expect.spelled);
}

/** White space in a row is one space, and what ends a sentence does not count. */
function normalize(text: string): string {
  return text
    .normalize("NFC")
    .replace(/\s+/g, " ")
    .trim()
    .replace(/[\s.。!！]+$/, "");
}

function isCall({ calls }: Answer, expected: { readonly name: string; readonly arguments: unknown }): boolean {
  const [call] = calls;
  if (call === undefined || calls.length > 1 || call.name !== expected.name) return false;
  try {
    return isDeepStrictEqual(JSON.parse(call.arguments), expected.arguments);
  } catch {
    return false;
  }
}

// A minus is one only where no number stands before it: "7-2" ends in 2.
function lastNumber(text: string): number | undefined {
  const plain = text.replaceAll("−", "-").replace(/(?<=\d),(?=\d{3}\b)/g, "");
  const last = plain.match(/(?<![\d.])-?\d+(?:\.\d+)?/g)?.at(-1);
  return last === undefined ? undefined : Number(last);
}

// "s-u-n" asks for letters apart; "nus" for the last word of the answer, whatever stands between its letters.
function isSpelled(text: string, expected: string): boolean {
  const said = normalize(text).toLowerCase();
  const wanted = expected.trim().toLowerCase();
  const last = said.split(/[\s:：，。"“”'`]+/).findLast((word) => word !== "") ?? "";
  if (last === wanted) return true;
  if (/\p{L}-\p{L}/u.test(wanted)) return false;
  return last.replaceAll("-", "") === wanted || said.replace(/[\s,-]+/g, "") === wanted;
}
