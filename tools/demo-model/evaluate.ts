// `npm run demo:evaluate`: how often the demo model is right, through the HTTP API. What is asked: evaluation/*.jsonl
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Address, askAll, type Outcome } from "./evaluate/asking.ts";
import { type Case, readCases, sampleCases } from "./evaluate/cases.ts";
import { readCorpusAnswers } from "./evaluate/corpus-answers.ts";
import { scoresOf, shortfalls, toTable } from "./evaluate/report.ts";
import { startServer } from "./evaluate/server.ts";
import { measureTokensPerSecond, speedGoals, stream } from "./evaluate/speed.ts";

const usage = `usage: npm run demo:evaluate -- [flags]

      --url <url>      A server that runs, e.g. http://127.0.0.1:18080/v1; without it one is started, and its start is timed.
      --model <name>   What to ask for there; absent: demo.
      --file <file>    A GGUF file for the server that is started; absent: the built-in model.
      --set <set>      held-out, hand-written or all (absent).
      --limit <n>      About so many cases, of all abilities.
      --width <n>      Requests at the same time; absent: 4.
      --fails <file>   Writes the wrong answers there, as lines of JSON.
      --json <file>    Writes the scores there.

exit codes: 0 all that issue 7 demands · 1 something is below · 2 wrong flags
`;

const flags = readFlags();
const server = flags.url === undefined ? await startServer(flags.file) : undefined;
const address: Address = server ?? { url: flags.url!, model: flags.model ?? "demo" };
try {
  const cold = server === undefined ? undefined : { ready: server.ready, ...(await stream("hello", server)) };
  const outcomes = await askAll(chosenCases(), address, Number(flags.width));
  const tokensPerSecond = await measureTokensPerSecond(address);
  process.exitCode = report(outcomes, { tokensPerSecond, cold });
} finally {
  await server?.stop();
}

interface Speed {
  readonly tokensPerSecond: number;
  /** Of a server that was started for this, in milliseconds. */
  readonly cold: { readonly ready: number; readonly firstToken: number } | undefined;
}

function readFlags() {
  try {
    const text = { type: "string" } as const;
    const options = { url: text, model: text, file: text, limit: text, fails: text, json: text } as const;
    const { values } = parseArgs({
      options: { ...options, set: { ...text, default: "all" }, width: { ...text, default: "4" } },
    });
    if (!["held-out", "hand-written", "all"].includes(values.set)) throw new Error(`--set: there is no ${values.set}`);
    return values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

function chosenCases(): Case[] {
  const answers = readCorpusAnswers();
  const sets = (["held-out", "hand-written"] as const).filter((set) => flags.set === "all" || flags.set === set);
  const cases = sets.flatMap((set) => readCases(set, answers));
  return flags.limit === undefined ? cases : sampleCases(cases, Number(flags.limit));
}

/** Prints and writes what was found; the exit code. */
function report(outcomes: readonly Outcome[], { tokensPerSecond, cold }: Speed): number {
  const scores = scoresOf(outcomes);
  const lines = [toTable(scores), ""];
  let slow = tokensPerSecond < speedGoals.tokensPerSecond;
  lines.push(`${tokensPerSecond.toFixed(0)} tokens/s (must ${speedGoals.tokensPerSecond})`);
  if (cold !== undefined) {
    slow ||= cold.firstToken > speedGoals.firstToken;
    const [ready, first] = [cold.ready, cold.firstToken].map((time) => `${time.toFixed(0)} ms`);
    lines.push(`first token of a server just started: ${first} after the request (must ${speedGoals.firstToken} ms)`);
    lines.push(
      `start of the server: ${ready} until it is ready, ${(cold.ready + cold.firstToken).toFixed(0)} ms until the first token`,
    );
  }
  process.stdout.write(`${lines.join("\n")}\n`);
  if (flags.json !== undefined) writeFileSync(flags.json, JSON.stringify({ scores, tokensPerSecond, cold }, null, 2));
  if (flags.fails !== undefined) writeFileSync(flags.fails, failures(outcomes));
  return slow || shortfalls(scores).length > 0 ? 1 : 0;
}

function failures(outcomes: readonly Outcome[]): string {
  const wrong = outcomes.filter(({ right }) => !right);
  return wrong
    .map(({ asked: { ability, language, source, messages, expect }, answer }) => {
      const question = messages.at(-1)?.["content"];
      return `${JSON.stringify({ ability, language, source, question, answer, expect })}\n`;
    })
    .join("");
}
