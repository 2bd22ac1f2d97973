import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomBert } from "../support/gguf.ts";
import { readAnswer, startEngine } from "../support/llama.ts";

const never = new AbortController().signal;
const folder = mkdtempSync(join(tmpdir(), "lair-models-"));

function addScripted(path: string, say: string): void {
  writeGguf(join(folder, path), scriptedModel({ scripts: [{ after: "\n", say }], contextLength: 2048 }));
}

beforeAll(() => {
  mkdirSync(join(folder, "nested"));
  addScripted("alpha.gguf", "I am alpha.");
  addScripted("beta Q4_0.gguf", "I am beta.");
  addScripted("nested/gamma.gguf", "I am gamma.");
  addScripted("nested/alpha.gguf", "I am the other alpha.");
  addScripted("mmproj-vision.gguf", "I am no model.");
  cpSync(join(folder, "alpha.gguf"), join(folder, "big-00001-of-00002.gguf"));
  cpSync(join(folder, "alpha.gguf"), join(folder, "big-00002-of-00002.gguf"));
  writeGguf(join(folder, "vectors.gguf"), randomBert());
  const silent = randomBert();
  const metadata = new Map([...silent.metadata].filter(([key]) => key !== "bert.pooling_type"));
  writeGguf(join(folder, "unpooled.gguf"), { ...silent, metadata });
  writeFileSync(join(folder, "broken.gguf"), "not a model at all, but long enough to be read");
  writeFileSync(join(folder, "notes.txt"), "not a model either");
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("a folder of models", () => {
  test("is listed by file names, shards as one, broken ones with the reason", async () => {
    const models = await startEngine({ model: folder, contextLength: 4096 }).models();
    expect(models.map((model) => model.id)).toEqual(
      ["alpha", "beta Q4_0", "big", "broken", "nested/alpha", "gamma", "unpooled", "vectors"].toSorted(),
    );
    expect(models.find((model) => model.id === "broken")).toMatchObject({
      state: "failed",
      problem: expect.stringContaining("no GGUF"),
    });
    // What is in force: not more than the model was trained for.
    expect(models.find((model) => model.id === "alpha")).toMatchObject({
      state: "unloaded",
      contextLength: 2048,
      capabilities: { chat: true },
    });
    expect(models.find((model) => model.id === "unpooled")?.capabilities).toMatchObject({
      chat: false,
      embeddings: true,
    });
    expect(models.find((model) => model.id === "vectors")?.capabilities).toMatchObject({
      chat: false,
      embeddings: true,
    });
  });

  test("answers with each, one in memory at a time, and lists what was added meanwhile", async () => {
    const engine = startEngine({ model: folder, maxLoaded: 1 });
    const say = async (model: string): Promise<string> =>
      (await readAnswer(engine.chat(chatRequest(model, "Who?"), never))).text;
    const answers = await Promise.all(["alpha", "gamma", "nested/alpha"].map(say));
    expect(answers).toEqual(["I am alpha.", "I am gamma.", "I am the other alpha."]);
    expect(engine.processes()).toHaveLength(1);
    await expect(say("delta")).rejects.toMatchObject({ code: "model_not_found", param: "model" });
    addScripted("delta.gguf", "I am delta.");
    expect(await say("delta")).toBe("I am delta.");
    await expect(say("broken")).rejects.toMatchObject({ code: "invalid_model_file" });
  });

  test("keeps as many in memory as it may, and gives up the one unused for longest", async () => {
    const engine = startEngine({ model: folder, maxLoaded: 2 });
    for (const model of ["alpha", "gamma", "alpha", "beta Q4_0"])
      await readAnswer(engine.chat(chatRequest(model, "Who?"), never));
    expect(
      engine
        .processes()
        .map((process) => process.model)
        .toSorted(),
    ).toEqual(["alpha", "beta Q4_0"]);
  });

  test("gives the memory back after each chat where that is asked for", async () => {
    const engine = startEngine({ model: folder, unloadAfterChat: true });
    await readAnswer(engine.chat(chatRequest("alpha", "Who?"), never));
    await expect.poll(() => engine.processes().length).toBe(0);
    expect((await readAnswer(engine.chat(chatRequest("alpha", "Who?"), never))).text).toBe("I am alpha.");
  });
});

describe("without a model", () => {
  test("the built-in one answers, and can be told from those of the user", async () => {
    const path = join(folder, "..", `demo-${process.pid}.gguf`);
    writeGguf(path, scriptedModel({ scripts: [{ after: "\n", say: "I am the demo." }] }));
    const engine = startEngine({ model: null, demo: { path, listing: "alone" } });
    const [model] = await engine.models();
    expect(model).toMatchObject({ ownedBy: "local-ai-runtime", listing: "alone" });
    const { text } = await readAnswer(engine.chat(chatRequest(model?.id ?? "", "What are you?"), never));
    expect(text).toBe("I am the demo.");
    rmSync(path);
  });

  test("and without a demo, health says what to do", async () => {
    const engine = startEngine({ model: null });
    expect(await engine.models()).toEqual([]);
    expect(await engine.health()).toMatchObject({ ok: false, detail: expect.stringContaining("LLAMA_CPP_MODEL") });
  });

  test("a folder without llama.cpp is named in a clear error", async () => {
    const engine = startEngine({ model: folder, library: folder });
    const asked = readAnswer(engine.chat(chatRequest("alpha", "Hi"), never));
    await expect(asked).rejects.toMatchObject({
      code: "unsupported_capability",
      message: expect.stringContaining("no library"),
    });
  });
});
