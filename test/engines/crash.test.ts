import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import type { ApiError } from "../../src/core/errors.ts";
import { silent } from "../../src/core/log.ts";
import type { GgufContent } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { type LlamaSettings, toWorkerSettings } from "../../src/engines/llama/settings.ts";
import { Supervisor } from "../../src/engines/llama/process/supervisor.ts";
import { type WatchLimits, watchLimits } from "../../src/engines/llama/process/watchdog.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder, withTwinTokens } from "../support/gguf.ts";
import { isAlive, readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const neverEnds = { logitBias: { "1021": -100, "1023": -100 } };
const posix = process.platform !== "win32";
const slowReader = (): GgufContent => randomDecoder({ architecture: "llama", width: 256, contextLength: 32_768 });

/** Ticks are short here, so that none of these may count that is not meant. */
const patient = { start: 1e6, silent: 1e6, load: 1e6, decode: 1e6, other: 1e6, abandoned: 1e6 };

const supervisors: Supervisor[] = [];
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(supervisors.splice(0).map((supervisor) => supervisor.stop()));
});

/** One model without an engine around it, and with limits of its own for what counts as wedged. */
function supervise(path: string, watch: Partial<WatchLimits> = {}, settings: LlamaSettings = {}): Supervisor {
  const supervisor = new Supervisor({
    id: "watched",
    settings: toWorkerSettings({ threads: 1, contextLength: 4096, ...settings }, path, 1),
    defaults: {},
    log: silent,
    onIdle: () => undefined,
    watch: { ...watchLimits, ...watch },
  });
  supervisors.push(supervisor);
  return supervisor;
}

async function upTo(stream: AsyncIterator<ChatEvent>, wanted: (event: ChatEvent) => boolean): Promise<ChatEvent> {
  for (;;) {
    const step = await stream.next();
    if (step.done === true) throw new Error("the stream ended before");
    if (wanted(step.value)) return step.value;
  }
}

const isText = (event: ChatEvent): boolean => event.type === "text";
const isPrefill = (event: ChatEvent): boolean =>
  event.type === "progress" && event.phase === "prefill" && event.done !== 0;

describe("a process that is killed", () => {
  test("while it reads a prompt fails that request and those that wait, by name; the next one is answered", async () => {
    const engine = startEngine({
      model: writeModel("prompted.gguf", slowReader()),
      maxSessions: 1,
      contextLength: 8192,
      ubatchSize: 64,
    });
    const long = chatRequest("prompted", "quick brown foxes ".repeat(400), { maxTokens: 1 });
    const stream = engine.chat(long, never)[Symbol.asyncIterator]();
    await upTo(stream, isPrefill);
    const waiting = readAnswer(engine.chat(chatRequest("prompted", "Hi", neverEnds), never));
    signal(engine.processes()[0]?.pid, "SIGKILL");
    const killed = { code: "engine_crashed", status: 503, message: expect.stringMatching(/prompted\.gguf/) };
    await expect(upTo(stream, () => false)).rejects.toMatchObject(killed);
    await expect(waiting).rejects.toMatchObject(killed);
    const next = await readAnswer(engine.chat(chatRequest("prompted", "Hi", { ...neverEnds, maxTokens: 2 }), never));
    expect(next.usage?.completionTokens).toBe(2);
  });

  test("again and again is started again ever later, and says when", async () => {
    const model = writeModel(
      "hopeless.gguf",
      withTwinTokens(scriptedModel({ scripts: [{ after: "\n", say: "Fine." }] })),
    );
    const supervisor = supervise(model);
    const ask = (): Promise<unknown> =>
      readAnswer(supervisor.generate({ type: "chat", request: chatRequest("hopeless", "Hi") }, never)).catch(
        (error: unknown) => error,
      );
    const waits: (number | undefined)[] = [];
    for (let attempt = 0; attempt < 3; attempt++) waits.push(((await ask()) as ApiError).retryAfter);
    // The first two tries were real; the third was refused at once.
    expect(waits).toEqual([undefined, undefined, 1]);
    expect(supervisor.pid).toBeUndefined();
  });
});

describe.runIf(posix)("a process that is wedged", () => {
  test("in its main thread is killed; its requests are told, the next one is answered", async () => {
    const supervisor = supervise(writeModel("silent.gguf", randomDecoder({ architecture: "llama" })), {
      ...patient,
      tickMs: 20,
      silent: 150,
    });
    const stream = supervisor.generate({ type: "chat", request: chatRequest("silent", "Hi", neverEnds) }, never);
    await upTo(stream, isText);
    signal(supervisor.pid, "SIGSTOP");
    await expect(upTo(stream, () => false)).rejects.toMatchObject({
      code: "engine_crashed",
      message: expect.stringMatching(/silent\.gguf.*answered nothing/),
    });
    const request = chatRequest("silent", "Hi", { ...neverEnds, maxTokens: 2 });
    expect((await readAnswer(supervisor.generate({ type: "chat", request }, never))).usage?.completionTokens).toBe(2);
  });

  test("by one request's prompt tells that one not to come again", async () => {
    const supervisor = supervise(writeModel("poison.gguf", randomDecoder({ architecture: "llama" })), {
      ...patient,
      tickMs: 20,
      silent: 150,
    });
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    await supervisor.ensureReady();
    // Until nobody looks after it any more: no question may be on its way when it falls silent.
    const polling = { timeout: 20_000, interval: 20 };
    await expect.poll(() => (vi.advanceTimersByTime(20), vi.getTimerCount()), polling).toBe(0);
    signal(supervisor.pid, "SIGSTOP");
    const asked = readAnswer(supervisor.generate({ type: "chat", request: chatRequest("poison", "Hi") }, never));
    const failure = asked.catch((error: unknown) => error);
    await expect.poll(() => (vi.advanceTimersByTime(400), supervisor.state), polling).toBe("stopped");
    expect(await failure).toMatchObject({
      code: "invalid_request",
      status: 400,
      message: expect.stringContaining("poison.gguf"),
    });
  });

  test("in its computation is killed, and the message says at what", async () => {
    const supervisor = supervise(
      writeModel("stuck.gguf", slowReader()),
      { ...patient, tickMs: 5, decode: 0, slowdown: 0, firstRowMs: 0 },
      { contextLength: 16_384, ubatchSize: 4096, batchSize: 4096 },
    );
    const request = chatRequest("stuck", "quick brown foxes ".repeat(900), { maxTokens: 1 });
    await expect(readAnswer(supervisor.generate({ type: "chat", request }, never))).rejects.toMatchObject({
      code: "engine_crashed",
      message: expect.stringMatching(/stuck\.gguf.*the computation of \d+ tokens did not come on/),
    });
  });

  test("does not keep anybody waiting who stops it", async () => {
    const supervisor = supervise(writeModel("lame.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Yes." }] })), {
      ...patient,
      tickMs: 20,
      stop: 10,
    });
    await supervisor.ensureReady();
    signal(supervisor.pid, "SIGSTOP");
    await supervisor.stop();
    expect(supervisor.state).toBe("stopped");
  });
});

test("a process ends with the program that started it, in the middle of a prompt, too", async () => {
  const script = fileURLToPath(new URL("../support/prefill-parent.ts", import.meta.url));
  const model = writeModel("reader.gguf", slowReader());
  const parent = spawn(process.execPath, ["--import", "tsx", script, model], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(createInterface({ input: parent.stdout }), "line")) as [string];
  parent.kill("SIGKILL");
  await expect.poll(() => isAlive(Number(line)), { timeout: 20_000, interval: 20 }).toBe(false);
});

/** Never 0, which would be the whole group of processes. */
function signal(pid: number | undefined, name: NodeJS.Signals): void {
  if (pid === undefined) throw new Error("there is no process");
  process.kill(pid, name);
}
