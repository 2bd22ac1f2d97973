import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readGguf } from "../../src/engines/gguf/gguf.ts";
import { GgufError } from "../../src/engines/gguf/gguf-reader.ts";
import { type GgufValue, writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { randomBert, randomDecoder } from "../support/gguf.ts";

const folder = mkdtempSync(join(tmpdir(), "lair-gguf-"));
const path = join(folder, "model.gguf");
let bytes: Buffer;

beforeAll(() => {
  writeGguf(
    path,
    randomDecoder({ architecture: "qwen2", contextLength: 2048, template: "{{ messages }}", vocabulary: 600 }),
  );
  bytes = readFileSync(path);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the header of a GGUF file", () => {
  test("tells what the model is", async () => {
    expect(await readGguf(path)).toEqual({
      architecture: "qwen2",
      type: "model",
      name: "qwen2-random",
      about: {},
      quantization: null,
      contextLength: 2048,
      template: "{{ messages }}",
      pooling: null,
      sampling: { values: {}, ignored: [] },
      // 600 × 128 embeddings, a norm, and two layers of 2 norms, 4 attention matrices with biases, 3 of feed-forward.
      parameters: 600 * 128 + 128 + 2 * (2 * 128 + 128 * (128 + 64 + 64 + 128) + 256 + 3 * 128 * 256),
      shards: 1,
      shape: {
        layers: 2,
        width: 128,
        feedForward: 256,
        vocabulary: 600,
        heads: 4,
        // Two heads of 32.
        keys: [64, 64],
        values: [64, 64],
        recurrentState: 0,
      },
    });
    writeGguf(join(folder, "rank.gguf"), randomBert({ rank: true }));
    expect(await readGguf(join(folder, "rank.gguf"))).toMatchObject({
      architecture: "bert",
      pooling: 4,
      contextLength: 512,
    });
  });

  test("tells what its maker says of it, and leaves out what no list of models could carry", async () => {
    const about = join(folder, "about.gguf");
    const say = (key: string, value: string): [string, GgufValue] => [`general.${key}`, { type: "string", value }];
    const write = (...said: [string, GgufValue][]): void => {
      const { metadata, tensors } = randomDecoder({ architecture: "llama" });
      writeGguf(about, { tensors, metadata: new Map([...metadata, ...said]) });
    };
    const languages = (...value: string[]): [string, GgufValue] => ["general.languages", { type: "strings", value }];
    write(say("description", "It counts."), say("license", "mit"), say("size_label", "7M"), languages("en", "zh"));
    expect((await readGguf(about)).about).toEqual({
      description: "It counts.",
      license: "mit",
      sizeLabel: "7M",
      languages: ["en", "zh"],
    });
    const endless = "x".repeat(5000);
    write(say("description", endless), say("license", endless), say("size_label", ""), languages("en", endless));
    expect((await readGguf(about)).about).toEqual({});
  });

  test("is refused with a reason wherever the file is cut off", async () => {
    const cut = join(folder, "cut.gguf");
    for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 60)) {
      writeFileSync(cut, bytes.subarray(0, length));
      await expect(readGguf(cut), `${length} bytes`).rejects.toThrow(GgufError);
    }
  });

  test("never takes the program down, whatever bytes it has", async () => {
    const hostile = join(folder, "hostile.gguf");
    let state = 42;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state % below;
    };
    for (let round = 0; round < 150; round++) {
      const damaged = Buffer.from(bytes);
      const at = random(20_000);
      // Lengths and counts are what hurts: eight bytes of 0xff somewhere in the header, or single flips.
      if (round % 2 === 0) damaged.fill(0xff, at, at + 8);
      else damaged[at] = random(256);
      writeFileSync(hostile, damaged);
      const outcome = await readGguf(hostile).catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome, `byte ${at}`).toBeInstanceOf(GgufError);
    }
  });
});

test("a scripted model is small and comes out the same every time", () => {
  const [first, second] = [join(folder, "scripted1.gguf"), join(folder, "scripted2.gguf")];
  for (const one of [first, second]) writeGguf(one, scriptedModel({ scripts: [{ after: "\n", say: "Hello." }] }));
  expect(readFileSync(first).equals(readFileSync(second))).toBe(true);
  expect(readFileSync(first).length).toBeLessThan(1_000_000);
});
