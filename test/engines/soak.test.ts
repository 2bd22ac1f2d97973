import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import type { LlamaEngine } from "../../src/engines/llama/engine.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomBert } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const megabyte = 1024 * 1024;

// The children's heaps are kept small: what V8 has not thrown away yet is no leak, and would hide one.
process.env.NODE_OPTIONS = "--max-semi-space-size=1 --max-old-space-size=64";
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes in memory of the only process of an engine. */
function residentBytes(engine: LlamaEngine): number {
  const [running] = engine.processes();
  const status = readFileSync(`/proc/${running?.pid}/status`, "latin1");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

interface Growth {
  readonly child: number;
  readonly parent: number;
}

/** Asks `rounds` times and returns how much more memory the last third takes than the second, each at its least. */
async function growthOver(
  engine: LlamaEngine,
  rounds: number,
  ask: (round: number) => Promise<unknown>,
): Promise<Growth> {
  const windows: { child: number; parent: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    await ask(round);
    if (round % Math.ceil(rounds / 30) !== 0) continue;
    collectGarbage();
    windows.push({ child: residentBytes(engine), parent: process.memoryUsage().heapUsed });
  }
  const least = (from: number, to: number, of: "child" | "parent"): number =>
    Math.min(...windows.slice(from, to).map((window) => window[of]));
  const third = Math.floor(windows.length / 3);
  const growth = (of: "child" | "parent"): number => least(2 * third, windows.length, of) - least(third, 2 * third, of);
  return { child: growth("child"), parent: growth("parent") };
}

// Only Linux tells the memory of another process without a further program.
describe.runIf(process.platform === "linux")("memory stays as it is", () => {
  test("over 2000 chats, of which some are left", async () => {
    const model = writeModel("soak.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Always the same words." }] }));
    const engine = startEngine({ model, maxSessions: 4, contextLength: 512 });
    const chat = async (index: number): Promise<void> => {
      const leaving = new AbortController();
      const stream = engine.chat(chatRequest("soak", `Question ${index} ${"x".repeat(index % 40)}`), leaving.signal);
      if (index % 10 !== 0) return void (await readAnswer(stream));
      for await (const event of stream) if (event.type === "text") break;
    };
    const { child, parent } = await growthOver(engine, 500, (round) =>
      Promise.all([0, 1, 2, 3].map((one) => chat(round * 4 + one))),
    );
    // Some 667 requests lie between the two thirds: 6 kB for each would be too much.
    expect(child).toBeLessThan(4 * megabyte);
    expect(parent).toBeLessThan(0.15 * megabyte);
  }, 120_000);

  test("over 500 requests for embeddings, of which some need a larger context for themselves", async () => {
    const model = writeModel("soak-bert.gguf", randomBert({ contextLength: 2048 }));
    const engine = startEngine({ model, contextLength: 2048, ubatchSize: 256 });
    const { child, parent } = await growthOver(engine, 500, (round) => {
      const words = round % 5 === 0 ? 150 : 3;
      const input = [Array.from({ length: words }, (_, index) => `rain${(round + index) % 7}`).join(" ")];
      return engine.embed({ model: "soak-bert", input }, new AbortController().signal);
    });
    expect(child).toBeLessThan(4 * megabyte);
    expect(parent).toBeLessThan(0.15 * megabyte);
  }, 120_000);
});
