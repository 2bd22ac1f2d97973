import type { Outcome } from "./asking.ts";
import { groupBy } from "./cases.ts";

/** What issue 7 asks of some abilities together: shares of right answers. */
export interface Goal {
  readonly name: string;
  readonly abilities: readonly string[];
  readonly must: number;
  readonly aim: number;
}

/** A line of the table. */
export interface Score {
  readonly name: string;
  readonly source: string;
  readonly cases: number;
  readonly right: number;
  readonly byLanguage: Readonly<Record<string, { readonly cases: number; readonly right: number }>>;
  readonly goal?: Goal;
}

/** From issue 7; what is not named there has no goal. */
export const goals: readonly Goal[] = [
  { name: "small talk, jokes", abilities: ["greeting", "identity", "joke"], must: 0.98, aim: 0.995 },
  { name: "this software", abilities: ["topic"], must: 0.85, aim: 0.95 },
  { name: "arithmetic", abilities: ["arithmetic"], must: 0.85, aim: 0.98 },
  { name: "tool calls", abilities: ["call", "call_among_many"], must: 0.92, aim: 0.98 },
  { name: "tools never seen", abilities: ["call_unseen"], must: 0.7, aim: 0.92 },
  { name: "honest refusal", abilities: ["refusal"], must: 0.9, aim: 0.97 },
];

/** First each goal, then each ability that is not a goal by itself; by source. */
export function scoresOf(outcomes: readonly Outcome[]): Score[] {
  const byGoal = goals.flatMap((goal) =>
    bySource(
      goal.name,
      outcomes.filter(({ asked }) => goal.abilities.includes(asked.ability)),
    ).map((score) => ({ ...score, goal })),
  );
  const alone = goals.filter(({ abilities }) => abilities.length === 1).flatMap(({ abilities }) => abilities);
  const others = outcomes.filter(({ asked }) => !alone.includes(asked.ability));
  const byAbility = groupBy(others, ({ asked }) => asked.ability).flatMap(([name, group]) => bySource(name, group));
  return [...byGoal, ...byAbility];
}

/** The scores below what they must be. */
export function shortfalls(scores: readonly Score[]): Score[] {
  return scores.filter(({ goal, right, cases }) => goal !== undefined && right < goal.must * cases);
}

/** The table, as lines of text. */
export function toTable(scores: readonly Score[]): string {
  const head = ["ability", "source", "cases", "right", "accuracy", "en", "zh", "must", "aim", ""];
  const rows = scores.map((score) => [
    score.name,
    score.source,
    String(score.cases),
    String(score.right),
    share(score),
    share(score.byLanguage["en"]),
    share(score.byLanguage["zh"]),
    score.goal === undefined ? "" : percent(score.goal.must),
    score.goal === undefined ? "" : percent(score.goal.aim),
    judge(score),
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)));
  const lines = [head, ...rows].map((row) =>
    row
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
  return lines.join("\n");
}

function judge(score: Score): string {
  if (score.goal === undefined) return "";
  if (shortfalls([score]).length > 0) return "below must";
  return score.right < score.goal.aim * score.cases ? "ok" : "aim";
}

function bySource(name: string, outcomes: readonly Outcome[]): Score[] {
  return groupBy(outcomes, ({ asked }) => asked.source).map(([source, group]) => {
    const languages = groupBy(group, ({ asked }) => asked.language).map(([language, some]) => [language, count(some)]);
    return { name, source, ...count(group), byLanguage: Object.fromEntries(languages) };
  });
}

function count(outcomes: readonly Outcome[]): { cases: number; right: number } {
  return { cases: outcomes.length, right: outcomes.filter(({ right }) => right).length };
}

function share(part: { readonly cases: number; readonly right: number } | undefined): string {
  return part === undefined ? "" : percent(part.right / part.cases);
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}
