import { expect, inject, it } from "vitest";
import { type Program, type Run, runProgram, type Start } from "./programs/program.ts";
import { type ProgramName, programs, splitRelease } from "./releases.ts";
import { noteRow, type Row, type Way } from "./rows.ts";
import type { Part } from "./scenes.ts";
import { openWay, type Target } from "./ways.ts";
import { makeTask, type Task } from "./workplace.ts";

/** One test with a program, in a place of its own. */
export interface Trial {
  readonly task: Task;
  /** Aborted at the test's own limit. */
  readonly signal: AbortSignal;
  /** Closes something after the test. */
  after(close: () => Promise<void> | void): void;
  /** Runs the program to its end, or until it asks again and again. */
  run(start: Start, target: Pick<Target, "looping">): Promise<Run>;
  /** Notes what the test shows, if it passes. */
  note(row: Omit<Row, "client">): void;
}

const found = inject("clients");

/**
 * Registers a test with a program; it is skipped, with the reason, where the program cannot be had. `retry`: how many times
 * more it may be tried, where what is asked is not sure of its answer.
 */
export function tryProgram(
  name: ProgramName,
  title: string,
  attempt: (trial: Trial) => Promise<void>,
  { retry = 0 } = {},
): void {
  it(title, { retry }, async ({ task: test, signal, skip, onTestFinished }) => {
    const client = found[name];
    if ("missing" in client) return skip(client.missing);
    const task = makeTask();
    const closings: (() => Promise<void> | void)[] = [() => task.remove()];
    onTestFinished(async () => {
      for (const close of closings.reverse()) await close();
    });
    await attempt({
      task,
      signal,
      after: (close) => void closings.push(close),
      run: (start, { looping }) => runProgram(client.path, start, task, AbortSignal.any([signal, looping])),
      note: (row) => noteRow(test, { client: splitRelease(programs[name])[0], ...row }),
    });
  });
}

/** Registers a test in which the program does the task this way. */
export function tryCopying(program: Program, way: Way): void {
  tryProgram(program.name, `${program.name} over ${program.dialect} with ${way}`, async (trial) => {
    const { task } = trial;
    trial.note({ dialect: program.dialect, way });
    const part = program.part(task);
    const target = await openWay(way, part, task);
    trial.after(() => target.close());

    const run = await trial.run(program.configure(task, target), target);

    expectCopied({ program, task, part, target }, run);
    expect(target.warnings).toEqual([]);
    // An agent asks for the list of models besides.
    expect(target.answered.filter(({ method }) => method === "POST").length).toBeLessThanOrEqual(program.requests);
    const fine = target.answered.map(({ path }) => ({ path, status: 200, end: "complete" }));
    expect(target.answered).toMatchObject(fine);
  });
}

/** Checks that the program ended by itself, has used its two tools, and that the file is there. */
export function expectCopied(
  { program, task, part, target }: { program: Program; task: Task; part: Part; target: Target },
  run: Run,
): void {
  const said = `${wordsOf(run)}\n${JSON.stringify(target.answered)}`;
  expect(target.looping.aborted, `it asked again and again: ${said}`).toBe(false);
  expect(run.code, said).toBe(0);
  expect(program.shown.tools(run), said).toEqual([part.first.name, part.second.name]);
  expect(program.shown.text(run)).toContain(part.last);
  expect(task.written().trim()).toBe(task.token);
}

/** The end of what a program has printed. */
export function wordsOf({ stdout, stderr }: Run): string {
  return `${stdout}${stderr}`.slice(-6000);
}
