import { appendFileSync } from "node:fs";
import { expect } from "vitest";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { gate, type Step } from "../support/fake-server.ts";
import { openCountingLine } from "./counting-line.ts";
import { expectCopied, type Trial, tryProgram, wordsOf } from "./copying.ts";
import type { Program, Run } from "./programs/program.ts";
import { openEmbeddedScene, openScene, type Kind, type Part, play, resultsIn, type Scene } from "./scenes.ts";
import { openTarget, type Target } from "./ways.ts";

/** What a program does with an answer that cannot be had. */
export interface Refusal {
  /** What it tells its user. */
  readonly says: RegExp;
  /** How often it asks at most before it does. */
  readonly times: number;
}

export interface Refusals {
  /** The conversation has become longer than the model's context; "compacts": it makes it shorter and goes on. */
  readonly overflow: Refusal | "compacts";
  /** The program's own instructions are. */
  readonly cramped: Refusal;
  readonly missing: Refusal;
}

/** A run, and what stood behind it. */
interface Attempt {
  readonly scene: Scene;
  readonly target: Target;
  readonly part: Part;
  readonly run: Run;
}

/** How each API says that the server is still there. */
const signsOfLife = {
  chat: /^: ping$/gm,
  responses: /^event: response\.in_progress$/gm,
  messages: /^event: ping$/gm,
} as const;
/** Of the task. What a program asks besides, a title, may be refused too. */
const turns = 3;
/** More heartbeats, one a second, than a client waits seconds that is configured to wait for three. */
const heartbeats = 5;

/** What makes a conversation long: the instructions must not be the larger part of it. */
const filler = "Nothing that matters stands in this line, which is only here to be read.\n".repeat(330);
/** llama-server's answer to a prompt that is too long. */
const tooLong: Step = {
  status: 400,
  body: {
    error: {
      code: 400,
      message: "request (40123 tokens) exceeds the available context size (32768 tokens), try increasing it",
      type: "exceed_context_size_error",
      n_prompt_tokens: 40123,
      n_ctx: 32768,
    },
  },
};

/** Registers tests of what a program does when its server is slow, busy, dying or unable. */
export function tryTroubles(program: Program, refusals: Refusals): void {
  const { name, dialect } = program;
  tryProgram(name, "waits for a first token that is late, for the heartbeats tell that it will come", async (trial) => {
    trial.note({ dialect, trouble: "the first token is late", outcome: "waits" });
    const { opened, open } = gate();
    const late = (steps: Step[]): Step[] => [{ wait: opened }, ...steps];
    const reply: Reply = (own, body) => (isFirst(body) ? late(play(own, body)) : play(own, body));
    // Ollama says nothing at all, not even a status, before the first token.
    const { target, part } = await openFake(trial, program, reply, "ollama");
    const line = await openCountingLine(target.url, signsOfLife[dialect as keyof typeof signsOfLife]);
    trial.after(() => line.close());
    void line.seen(heartbeats).then(open);

    const run = await trial.run(program.configure(trial.task, { ...target, url: line.url }, true), target);

    expectCopied({ program, task: trial.task, part, target }, run);
    expect(target.answered.filter(({ end }) => end !== "complete")).toEqual([]);
  });

  tryProgram(name, "asks again when the stream breaks in the middle", async (trial) => {
    trial.note({ dialect, trouble: "the stream breaks in the middle", outcome: "asks again and goes on" });
    const { scene, target, part, run } = await runOnce(trial, program, [{ text: "Now I wri" }, { die: true }]);

    expectCopied({ program, task: trial.task, part, target }, run);
    expect(scene.asked().filter((body) => resultsIn(body) === 1)).toHaveLength(2);
  });

  tryProgram(name, "waits as long as a busy server asks for", async (trial) => {
    trial.note({ dialect, trouble: "the server is busy (429 with Retry-After)", outcome: "waits and goes on" });
    const busy = { status: 429, body: { error: { message: "busy" } }, headers: { "retry-after": "1" } };
    const { target, part, run } = await runOnce(trial, program, [busy]);

    expectCopied({ program, task: trial.task, part, target }, run);
    expect(target.answered.filter(({ status }) => status === 429)).toHaveLength(1);
  });

  tryProgram(name, "knows that the conversation has become longer than the model's context", async (trial) => {
    const trouble = "the conversation outgrows the context";
    const { overflow } = refusals;
    appendFileSync(trial.task.input, filler);
    const { target, part, run } = await runOnce(trial, program, [tooLong], "openai");
    if (overflow !== "compacts") return expectRefusal(trial, program, { target, run }, { ...overflow, trouble });
    trial.note({ dialect, trouble, outcome: "compacts it and goes on" });
    // opencode says 1 after it has shown any error.
    expect(run.code, wordsOf(run)).not.toBe(null);
    expect(program.shown.text(run), wordsOf(run)).toContain(part.last);
    expect(trial.task.written().trim()).toBe(trial.task.token);
  });

  tryProgram(name, "tells when the model's context is too small for its own instructions", async (trial) => {
    const trouble = "the context is too small for its instructions";
    const scene = openEmbeddedScene(program.part(trial.task), trial.task.home);
    const target = await openTarget(scene, trial.task, "llama_cpp", { LLAMA_CPP_N_CTX: "2048" });
    trial.after(() => target.close());
    const run = await trial.run(program.configure(trial.task, target), target);
    expectRefusal(trial, program, { target, run }, { ...refusals.cramped, trouble });
  });

  tryProgram(name, "tells when there is no such model", async (trial) => {
    const scene = await openScene("openai", program.part(trial.task));
    const target = await openTarget({ ...scene, model: "openrouter:nothing" }, trial.task);
    trial.after(() => target.close());
    const run = await trial.run(program.configure(trial.task, target), target);
    expectRefusal(trial, program, { target, run }, { ...refusals.missing, trouble: "the model is not there" });
  });
}

type Reply = (part: Part, body: JsonObject) => Step[];

async function openFake(
  trial: Trial,
  program: Program,
  reply: Reply,
  kind: Kind = "vllm",
): Promise<Omit<Attempt, "run">> {
  const part = program.part(trial.task);
  const scene = await openScene(kind, part, (body) => reply(part, body));
  const target = await openTarget(scene, trial.task, kind, { LAIR_TIMEOUTS_HEARTBEAT: "1s" });
  trial.after(() => target.close());
  return { scene, target, part };
}

/** Answers the second turn like this the first time that it is asked for. */
async function runOnce(trial: Trial, program: Program, steps: Step[], kind?: Kind): Promise<Attempt> {
  let troubled = false;
  const reply: Reply = (own, body) => {
    if (asksForSummary(body)) return [{ text: "<summary>A token is to be copied.</summary>" }, { finish: "stop" }];
    if (troubled || resultsIn(body) !== 1) return play(own, body);
    troubled = true;
    return steps;
  };
  const opened = await openFake(trial, program, reply, kind);
  const run = await trial.run(program.configure(trial.task, opened.target), opened.target);
  expect(troubled, wordsOf(run)).toBe(true);
  return { ...opened, run };
}

/** How Claude Code asks for one, tools and all; opencode does without tools, as for a title. */
function asksForSummary({ messages }: JsonObject): boolean {
  const last = Array.isArray(messages) ? messages.at(-1) : undefined;
  return isObject(last) && last.role === "user" && String(last.content).includes("Respond with TEXT ONLY");
}

/** Whether this is the task's first turn, no title. */
function isFirst(body: JsonObject): boolean {
  return body.tools !== undefined && resultsIn(body) === 0;
}

function expectRefusal(
  trial: Trial,
  { dialect, requests }: Program,
  { target, run }: Pick<Attempt, "target" | "run">,
  { says, times, trouble }: Refusal & { trouble: string },
): void {
  const outcome = times === 1 ? "says so and stops" : `asks up to ${times} times, then says so and stops`;
  trial.note({ dialect, trouble, outcome });
  const said = wordsOf(run);
  expect(target.looping.aborted, `it asked again and again: ${said}`).toBe(false);
  expect(run.code, said).not.toBe(null);
  expect(said).toMatch(says);
  const refused = target.answered.filter(({ status }) => status >= 400).length;
  expect(refused, said).toBeGreaterThanOrEqual(1);
  expect(refused, said).toBeLessThanOrEqual(times + requests - turns);
}
