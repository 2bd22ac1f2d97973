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
// And glibc gives back what is freed, instead of keeping some megabytes more now and then.
Object.assign(process.env, {
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: "131072",
  MALLOC_TRIM_THRESHOLD_: "131072",
});
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

/**
 * Asks `rounds` times, and measures 30 times. Returns how many bytes more the memory takes in the end than after the first
 * third, in which a new process fills its heaps: each the least of five measurements.
 */
async function growthOver(
  engine: LlamaEngine,
  rounds: number,
  ask: (round: number) => Promise<unknown>,
): Promise<Growth> {
  const measured: Growth[] = [];
  for (let round = 0; round < rounds; round++) {
    await ask(round);
    if (round % Math.ceil(rounds / 30) !== 0) continue;
    collectGarbage();
    measured.push({ child: residentBytes(engine), parent: process.memoryUsage().heapUsed });
  }
  const least = (from: number, of: keyof Growth): number =>
    Math.min(...measured.slice(from, from + 5).map((one) => one[of]));
  const growth = (of: keyof Growth): number => least(25, of) - least(10, of);
  return { child: growth("child"), parent: growth("parent") };
}

// Only Linux tells the memory of another process without a further program.
describe.runIf(process.platform === "linux")("memory stays as it is", () => {
  test("over 6000 chats, of which some are left", async () => {
    const model = writeModel("soak.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Always the same words." }] }));
    const engine = startEngine({ model, maxSessions: 4, contextLength: 512 });
    const chat = async (index: number): Promise<void> => {
      const leaving = new AbortController();
      const stream = engine.chat(chatRequest("soak", `Question ${index} ${"x".repeat(index % 40)}`), leaving.signal);
      if (index % 10 !== 0) return void (await readAnswer(stream));
      for await (const event of stream) if (event.type === "text") break;
    };
    const { child, parent } = await growthOver(engine, 1500, (round) =>
      Promise.all([0, 1, 2, 3].map((one) => chat(round * 4 + one))),
    );
    // 3000 chats lie between: 1 kB for each would be too much in the engine, and 100 bytes here.
    expect(child).toBeLessThan(3 * megabyte);
    expect(parent).toBeLessThan(0.3 * megabyte);
  }, 120_000);

  test("over 1500 requests for embeddings, of which some need a larger context for themselves", async () => {
    const model = writeModel("soak-bert.gguf", randomBert({ contextLength: 2048 }));
    const engine = startEngine({ model, contextLength: 2048, ubatchSize: 256 });
    const { child, parent } = await growthOver(engine, 1500, (round) => {
      const words = round % 5 === 0 ? 150 : 3;
      const input = [Array.from({ length: words }, (_, index) => `rain${(round + index) % 7}`).join(" ")];
      return engine.embed({ model: "soak-bert", input }, new AbortController().signal);
    });
    // 750 requests: 1.4 kB for each would be too much.
    expect(child).toBeLessThan(megabyte);
    expect(parent).toBeLessThan(0.1 * megabyte);
  }, 120_000);
});
