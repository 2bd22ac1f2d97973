import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { ApiError } from "../../src/core/errors.ts";
import { silent } from "../../src/core/log.ts";
import { readGguf } from "../../src/engines/gguf/gguf.ts";
import { GgufError } from "../../src/engines/gguf/gguf-reader.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { toWorkerSettings } from "../../src/engines/llama/settings.ts";
import { Supervisor } from "../../src/engines/llama/process/supervisor.ts";
import { chatRequest } from "../support/chat-request.ts";
import { type Mutation, fieldsOf, mutations } from "../support/gguf-mutations.ts";

const folder = mkdtempSync(join(tmpdir(), "lair-hostile-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sound = ((): Buffer => {
  const path = join(folder, "sound.gguf");
  writeGguf(path, scriptedModel({ scripts: [{ after: "\n", say: "Fine." }] }));
  return readFileSync(path);
})();

async function readMutated(path: string, bytes: Buffer): Promise<string | null> {
  writeFileSync(path, bytes);
  try {
    await readGguf(path);
    return null;
  } catch (error) {
    if (error instanceof GgufError && error.message.length > 10) return error.message;
    throw error;
  }
}

describe("the reader of headers", () => {
  test("takes any change of a file: a header or a reason, and never more memory than the file is long", async () => {
    // A header of its own, small enough to be changed thousands of times.
    const end = fieldsOf(sound).find((field) => field.kind === "data")?.at ?? 0;
    const header = sound.subarray(0, end + 4096);
    const path = join(folder, "fuzzed.gguf");
    const alloc = vi.spyOn(Buffer, "alloc");
    let refused = 0;
    let seed = 7;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let round = 0; round < 3000; round++) {
      const bytes = Buffer.from(header.subarray(0, round % 5 === 0 ? random(header.length) : header.length));
      for (let change = random(4); change >= 0; change--) {
        // Most changes near the start, where the counts and lengths are.
        const at = random(random(3) === 0 ? bytes.length : Math.min(bytes.length, 800));
        if (random(2) === 0) bytes[at] = random(256);
        else bytes.fill([0, 0xff, 0x7f][random(3)] ?? 0, at, Math.min(bytes.length, at + 1 + random(8)));
      }
      if ((await readMutated(path, bytes)) !== null) refused += 1;
    }
    const largest = Math.max(...alloc.mock.calls.map(([size]) => size));
    alloc.mockRestore();
    expect(refused).toBeGreaterThan(1000);
    expect(largest).toBeLessThanOrEqual(Math.max(1 << 20, header.length));
  }, 120_000);
});

describe("a damaged or hostile file", () => {
  const cases = mutations(sound, 6);

  /** What became of it: refused by our reader or by llama.cpp with that message, or null: it answers. */
  async function tryFile(
    { bytes }: Mutation,
    index: number,
  ): Promise<{ by: "reader" | "process"; message: string } | null> {
    const path = join(folder, `mutated-${index}.gguf`);
    const message = await readMutated(path, bytes);
    if (message !== null) return { by: "reader", message };
    const settings = toWorkerSettings({ threads: 1, contextLength: 256, maxSessions: 1 }, path, 1);
    const supervisor = new Supervisor({
      id: `mutated-${index}`,
      settings,
      defaults: {},
      log: silent,
      onIdle: () => undefined,
    });
    try {
      const request = chatRequest("mutated", "Hi", { maxTokens: 3 });
      for await (const event of supervisor.generate({ type: "chat", request }, new AbortController().signal))
        void event;
      return null;
    } catch (error) {
      if (error instanceof ApiError) return { by: "process", message: `${error.code}: ${error.message}` };
      throw error;
    } finally {
      await supervisor.stop();
      rmSync(path, { force: true });
    }
  }

  test.each([
    ["no layers", "llama.block_count", { type: "u32", value: 0 }, /invalid_model_file.*GGML_ASSERT/],
    ["a million layers", "llama.block_count", { type: "u32", value: 1_000_000 }, /invalid_model_file.*GGML_ASSERT/],
    // Found out only when it is computed with: the process loads, and dies at the first token.
    ["no number", "llama.attention.layer_norm_rms_epsilon", { type: "f32", value: NaN }, /engine_crashed.*GGML_ASSERT/],
  ] as const)("that claims %s ends its process at most, which is told", async (_, key, value, message) => {
    const content = scriptedModel({ scripts: [{ after: "\n", say: "Fine." }] });
    const path = join(folder, "nonsense.gguf");
    writeGguf(path, { ...content, metadata: new Map(content.metadata).set(key, value) });
    const result = await tryFile({ name: key, bytes: readFileSync(path) }, 0);
    expect(result).toMatchObject({ by: "process", message: expect.stringMatching(message) });
  });

  test(`is refused with a reason or works as well as it can; this program lives on (${cases.length} files)`, async () => {
    const results: { name: string; result: Awaited<ReturnType<typeof tryFile>> }[] = [];
    const queue = [...cases.entries()];
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        const [index, mutation] = next;
        results.push({ name: mutation.name, result: await tryFile(mutation, index) });
      }
    };
    await Promise.all([worker(), worker()]);
    expect(results).toHaveLength(cases.length);
    expect(cases.length).toBeGreaterThanOrEqual(200);
    const refused = results.filter(({ result }) => result?.by === "process");
    for (const { name, result } of refused) {
      expect(result?.message, name).toMatch(/mutated-\d+\.gguf|schema|context|prompt/);
      expect(result?.message, name).not.toContain(folder);
    }
  }, 300_000);
});
