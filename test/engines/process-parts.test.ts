import { describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import { EventQueue } from "../../src/engines/llama/process/event-queue.ts";
import { readChildMessage } from "../../src/engines/llama/process/message-check.ts";
import { type ProcessEnd, toFailure } from "../../src/engines/llama/process/process-failure.ts";
import { ProcessLog } from "../../src/engines/llama/process/process-log.ts";
import type { WorkReport } from "../../src/engines/llama/process/pulse.ts";
import { Watchdog, watchLimits } from "../../src/engines/llama/process/watchdog.ts";

const end: ProcessEnd = {
  file: "some.gguf",
  state: "ready",
  code: null,
  signal: null,
  killed: null,
  outOfMemory: null,
  cause: "",
  loadFailure: null,
};

describe("how a process ended", () => {
  const cases: [name: string, end: Partial<ProcessEnd>, code: string, message: RegExp][] = [
    ["an access violation of Windows", { code: 0xc0000005 }, "engine_crashed", /0xC0000005 \(access violation/],
    ["the same, as a negative number", { code: 0xc0000005 | 0 }, "engine_crashed", /0xC0000005/],
    ["abort on Windows", { code: 0xc0000409, state: "starting" }, "invalid_model_file", /0xC0000409 \(fail fast/],
    ["a stack overflow", { code: 0xc00000fd }, "engine_crashed", /stack overflow/],
    ["no memory on Windows", { code: 0xc0000017 }, "insufficient_memory", /no memory/],
    ["the kernel's want of memory", { signal: "SIGKILL", outOfMemory: true }, "insufficient_memory", /out of memory/],
    ["a kill from outside", { signal: "SIGKILL", outOfMemory: false }, "engine_crashed", /from outside/],
    [
      "a kill from outside in a load",
      { signal: "SIGKILL", outOfMemory: false, state: "starting" },
      "engine_crashed",
      /from outside/,
    ],
    ["a kill on macOS in a load", { signal: "SIGKILL", state: "starting" }, "insufficient_memory", /out of memory, or/],
    ["a kill on macOS later", { signal: "SIGKILL" }, "engine_crashed", /SIGKILL/],
    [
      "a failed allocation",
      { signal: "SIGABRT", cause: "what():  std::bad_alloc" },
      "insufficient_memory",
      /bad_alloc/,
    ],
    ["a processor too old", { signal: "SIGILL" }, "engine_crashed", /instruction that this processor does not have/],
    ["a file cut while it was mapped", { signal: "SIGBUS" }, "engine_crashed", /file was cut or its disk failed/],
    ["a failure of our own", { code: 70, cause: "TypeError: x" }, "engine_crashed", /TypeError: x/],
    [
      "a program that did not come up",
      { code: 1, state: "starting", cause: "SyntaxError: x" },
      "engine_crashed",
      /SyntaxError/,
    ],
    [
      "ours, of a wedged one",
      { signal: "SIGKILL", killed: "it answered nothing for 30 s" },
      "engine_crashed",
      /nothing for 30 s/,
    ],
  ];
  test.each(cases)("is named: %s", (_, change, code, message) => {
    const failure = toFailure({ ...end, ...change });
    expect(failure.code).toBe(code);
    expect(failure.message).toMatch(message);
    expect(failure.message).toContain("some.gguf");
  });
});

describe("the log of a process", () => {
  test("tells the cause, not what stands in every log, without folders and control characters", () => {
    const log = new ProcessLog();
    log.add("print_info: rope_finetuned        = unknown\nllama_model_load: error loading model: ten");
    log.add(
      "sor '\u001b[2Jx' in /home/someone/models/a.gguf not found\nllama_model_load_from_file: failed to load model\n",
    );
    expect(log.cause()).toBe("llama_model_load: error loading model: tensor '\ufffd[2Jx' in a.gguf not found");
  });

  test("stays small, whatever is written to it", () => {
    const log = new ProcessLog();
    for (let round = 0; round < 50; round++) log.add("x".repeat(1_000_000));
    log.add("\n".repeat(100_000));
    log.add(Array.from({ length: 10_000 }, (_, index) => `error ${index}`).join("\n"));
    expect(log.last(1000).length).toBeLessThanOrEqual(61);
    expect(log.last(1000).join("").length).toBeLessThan(61 * 500);
    expect(log.cause()).toBe("error 9998; error 9999");
  });
});

describe("events that nobody reads", () => {
  const text = (value: string): ChatEvent => ({ type: "text", text: value });

  test("are joined, and say the same when they are read at last", async () => {
    const queue = new EventQueue();
    for (let index = 0; index < 20_000; index++) {
      expect(queue.push([index % 3 === 0 ? { type: "reasoning", text: `${index},` } : text(`${index},`)])).toBe(true);
      if (index % 5000 === 0) queue.push([{ type: "tool-call", index: 0, id: "a", name: "f", arguments: "" }]);
      queue.push([{ type: "tool-call", index: 0, arguments: `${index},` }]);
    }
    queue.end();
    const said = { text: "", reasoning: "", calls: 0, arguments: "" };
    for await (const event of queue) {
      if (event.type === "text" || event.type === "reasoning") said[event.type] += event.text;
      if (event.type === "tool-call") said.arguments += event.arguments;
      if (event.type === "tool-call" && event.id !== undefined) said.calls += 1;
    }
    const numbers = Array.from({ length: 20_000 }, (_, index) => index);
    const join = (list: number[]): string => list.map((index) => `${index},`).join("");
    expect(said.text).toBe(join(numbers.filter((index) => index % 3 !== 0)));
    expect(said.reasoning).toBe(join(numbers.filter((index) => index % 3 === 0)));
    expect(said.arguments).toBe(join(numbers));
    expect(said.calls).toBe(4);
  });

  test("of a long text become few", async () => {
    const queue = new EventQueue();
    for (let index = 0; index < 10_000; index++) queue.push([text("word ")]);
    queue.end();
    const events: ChatEvent[] = [];
    for await (const event of queue) events.push(event);
    expect(events.length).toBeLessThan(100);
  });

  test("are dropped when they are too many, and the reader is told why", async () => {
    const queue = new EventQueue(1_000_000);
    let pushed = 0;
    while (queue.push([text("x".repeat(1000))])) pushed += 1;
    expect(pushed).toBeGreaterThan(300);
    expect(pushed).toBeLessThan(1000);
    await expect(queue[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "request_timeout" });
  });

  test("do not count once they are read", async () => {
    const queue = new EventQueue(100_000);
    const reader = queue[Symbol.asyncIterator]();
    for (let index = 0; index < 500; index++) {
      expect(queue.push([text("x".repeat(1000))])).toBe(true);
      await reader.next();
    }
  });
});

describe("what counts as wedged", () => {
  const limits = {
    ...watchLimits,
    tickMs: 1000,
    start: 8,
    silent: 5,
    load: 20,
    decode: 10,
    other: 12,
    abandoned: 4,
    stop: 3,
    stopInAll: 30,
  };
  const report = (change: Partial<WorkReport>): WorkReport => ({
    work: "rest",
    beats: 0,
    rows: 0,
    rowMs: 0,
    ...change,
  });
  const wanted = { stopping: false, wanted: true };

  /** Ticks until the verdict, while the main thread answers every ping with what `at` says. */
  function ticksUntil(at: (tick: number) => WorkReport | null, watched = wanted): [ticks: number, reason: string] {
    const dog = new Watchdog(limits);
    dog.heard(true);
    for (let tick = 1; tick < 10_000; tick++) {
      const verdict = dog.tick(watched);
      if (verdict !== null) return [tick, verdict.reason];
      const now = at(tick);
      if (now === null) continue;
      dog.heard(false);
      dog.reported(now);
    }
    return [Infinity, ""];
  }

  test("a main thread that says nothing, but a start takes its time", () => {
    expect(ticksUntil(() => null)[0]).toBe(6);
    const dog = new Watchdog(limits);
    let ticks = 1;
    while (dog.tick(wanted) === null) ticks += 1;
    expect(ticks).toBe(9);
  });

  test("not a worker that rests, nor one that comes on, however long", () => {
    expect(ticksUntil(() => report({}))[0]).toBe(Infinity);
    expect(ticksUntil((tick) => report({ work: "decode", rows: 1, rowMs: 1, beats: tick >> 3 }))[0]).toBe(Infinity);
  });

  test("a decode beyond what its rows explain: at 100 ms a row, 512 rows may take half an hour", () => {
    const [short] = ticksUntil(() => report({ work: "decode", rows: 1, rowMs: 100 }));
    const [long, reason] = ticksUntil(() => report({ work: "decode", rows: 512, rowMs: 100 }));
    expect(short).toBeLessThan(20);
    expect(long).toBeGreaterThan(1500);
    expect(long).toBeLessThan(2000);
    expect(reason).toContain("the computation of 512 tokens");
    // Nothing was measured yet: 2048 tokens of a 70B model on an old processor.
    expect(ticksUntil(() => report({ work: "decode", rows: 2048 }))[0]).toBeGreaterThan(2 * 3600);
  });

  test("work for nobody, sooner", () => {
    const watched = { stopping: false, wanted: false };
    expect(ticksUntil(() => report({ work: "decode", rows: 512, rowMs: 100 }), watched)[0]).toBe(6);
  });

  test("a stop that does not come on; one that saves states is let go on, up to a bound", () => {
    const watched = { stopping: true, wanted: false };
    expect(ticksUntil(() => report({ work: "other" }), watched)[0]).toBe(5);
    expect(ticksUntil((tick) => report({ work: "other", beats: tick }), watched)[0]).toBe(31);
  });
});

describe("a message of a process", () => {
  test.each([
    { type: "loading", permille: 3 },
    { type: "events", events: [[1, [{ type: "text", text: "a" }]]] },
    { type: "failed", id: 4, failure: { code: "invalid_value", message: "no" } },
    { type: "answer", id: 0, answer: "" },
    { type: "pong", report: { work: "rest", beats: 1, rows: 0, rowMs: 0.5 } },
  ])("is taken as it is: $type", (message) => {
    expect(readChildMessage(message)).toBe(message);
  });

  test.each([
    [null],
    ["ready"],
    [[]],
    [{}],
    [{ type: "__proto__" }],
    [{ type: "toString" }],
    [{ type: "loading", permille: "3" }],
    [{ type: "loading", permille: -1 }],
    [{ type: "events", events: [[1, [{ type: "tool" }]]] }],
    [{ type: "events", events: [["1", []]] }],
    [{ type: "events", events: [[1]] }],
    [{ type: "failed", id: 4, failure: { code: "no_such_code", message: "no" } }],
    [{ type: "failed", id: 4.5, failure: { code: "invalid_value", message: "no" } }],
    [{ type: "ready", model: { contextLength: "1" } }],
    [{ type: "answer", id: 1 }],
  ])("that makes no sense is not: %j", (message) => {
    expect(readChildMessage(message)).toBeNull();
  });
});
