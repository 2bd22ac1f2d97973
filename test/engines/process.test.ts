import { spawn } from "node:child_process";
import { copyFileSync, truncateSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { randomDecoder, withTwinTokens } from "../support/gguf.ts";
import { chatRequest } from "../support/chat-request.ts";
import { isAlive, readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const neverEnds = { logitBias: { "1021": -100, "1023": -100 } };

/** Reads until the first event of a type, then leaves the rest to `then`. */
async function upTo(stream: AsyncIterator<ChatEvent>, type: ChatEvent["type"]): Promise<ChatEvent> {
  for (;;) {
    const step = await stream.next();
    if (step.done === true) throw new Error(`the stream ended without ${type}`);
    if (step.value.type === type) return step.value;
  }
}

describe("the process of a model", () => {
  test("may be killed in mid-stream: the request fails, the next one loads the model anew", async () => {
    const model = writeModel("victim.gguf", randomDecoder({ architecture: "llama" }));
    const engine = startEngine({ model, contextLength: 4096 });
    const stream = engine.chat(chatRequest("victim", "Hi", neverEnds), never)[Symbol.asyncIterator]();
    await upTo(stream, "text");
    const [running] = engine.processes();
    process.kill(running?.pid ?? 0, "SIGKILL");
    await expect(upTo(stream, "finish")).rejects.toMatchObject({
      code: "engine_crashed",
      status: 503,
      message: expect.stringMatching(/SIGKILL.*victim\.gguf/),
    });
    const answer = await readAnswer(engine.chat(chatRequest("victim", "Hi", { ...neverEnds, maxTokens: 3 }), never));
    expect(answer.usage?.completionTokens).toBe(3);
    await engine.close();
  });

  test("says that a request is accepted before its model is there, unless its prompt may turn out too long", async () => {
    const model = writeModel("sleeper.gguf", randomDecoder({ architecture: "llama" }));
    const begin = (text: string): AsyncIterator<ChatEvent> => {
      const engine = startEngine({ model, contextLength: 4096 });
      return engine.chat(chatRequest("sleeper", text, { maxTokens: 1 }), never)[Symbol.asyncIterator]();
    };
    const fitting = begin("Hi");
    expect(await upTo(fitting, "progress")).toMatchObject({ phase: "loading", accepted: true });
    let seen = await upTo(fitting, "progress");
    while (seen.type === "progress" && seen.phase === "loading") seen = await upTo(fitting, "progress");
    expect(seen).toMatchObject({ phase: "prefill", done: 0, accepted: true });
    await upTo(fitting, "finish");
    const tooLong = begin("a bit ".repeat(1400));
    expect(await upTo(tooLong, "progress")).not.toHaveProperty("accepted");
    await expect(upTo(tooLong, "finish")).rejects.toMatchObject({ code: "context_length_exceeded" });
  });

  test("frees the slot of a client that leaves while it generates", async () => {
    const engine = startEngine({
      model: writeModel("leaver.gguf", randomDecoder({ architecture: "llama" })),
      maxSessions: 1,
      contextLength: 4096,
    });
    const leaving = new AbortController();
    const stream = engine.chat(chatRequest("leaver", "Hi", neverEnds), leaving.signal)[Symbol.asyncIterator]();
    await upTo(stream, "text");
    leaving.abort();
    await expect(upTo(stream, "finish")).rejects.toMatchObject({ code: "client_closed_request" });
    // With a single slot this only ever ends if the slot came free.
    const next = await readAnswer(engine.chat(chatRequest("leaver", "Hi", { ...neverEnds, maxTokens: 2 }), never));
    expect(next.usage?.completionTokens).toBe(2);
  });

  test("breaks off a prompt that nobody waits for, and keeps what it had read", async () => {
    const model = writeModel("slow.gguf", randomDecoder({ architecture: "llama", width: 256, contextLength: 8192 }));
    const engine = startEngine({ model, maxSessions: 1, contextLength: 8192, ubatchSize: 64 });
    const leaving = new AbortController();
    const long = chatRequest("slow", "quick brown foxes ".repeat(300), { maxTokens: 1 });
    const stream = engine.chat(long, leaving.signal)[Symbol.asyncIterator]();
    let seen = await upTo(stream, "progress");
    while (seen.type !== "progress" || seen.phase !== "prefill" || seen.done === 0)
      seen = await upTo(stream, "progress");
    leaving.abort();
    await expect(upTo(stream, "finish")).rejects.toMatchObject({ code: "client_closed_request" });
    const next = await readAnswer(engine.chat(long, never));
    const { promptTokens = 0, cachedTokens = 0 } = next.usage ?? {};
    expect(cachedTokens).toBeGreaterThan(0);
    // All but the last token would mean that the prompt had been read to its end.
    expect(cachedTokens).toBeLessThan(promptTokens - 1);
  });

  test("goes on with one stream as if nothing were, while another's prompt is broken off", async () => {
    const model = writeModel("pair.gguf", randomDecoder({ architecture: "llama", width: 256, contextLength: 8192 }));
    const engine = startEngine({ model, maxSessions: 2, contextLength: 8192 });
    const request = chatRequest("pair", "Tell me a story", { ...neverEnds, maxTokens: 120 });
    const alone = await readAnswer(engine.chat(request, never));
    const beside = readAnswer(engine.chat(request, never));
    for (let round = 0; round < 4; round++) {
      const leaving = new AbortController();
      const other = engine
        .chat(chatRequest("pair", `${round} quick brown foxes `.repeat(300)), leaving.signal)
        [Symbol.asyncIterator]();
      await upTo(other, "progress");
      leaving.abort();
      await expect(upTo(other, "finish")).rejects.toMatchObject({ code: "client_closed_request" });
    }
    const { text, usage } = await beside;
    expect(text).toBe(alone.text);
    expect(usage?.completionTokens).toBe(120);
  });

  test("does not come up on a corrupt file; the message names the file and the cause, and the program lives on", async () => {
    const good = writeModel("good.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Fine." }] }));
    const cases: [name: string, path: string, cause: RegExp][] = [];
    const corrupt = (name: string, cause: RegExp, damage: (path: string) => void): void => {
      const path = good.replace("good", name);
      copyFileSync(good, path);
      damage(path);
      cases.push([name, path, cause]);
    };
    corrupt("garbage", /no GGUF/, (path) => writeFileSync(path, Buffer.alloc(5000, 7)));
    corrupt("truncated", /cut off/, (path) => truncateSync(path, 100_000));
    corrupt("half-header", /cut off/, (path) => truncateSync(path, 900));
    corrupt("missing-tensor", /blk\.0\.ffn_down/, (path) => {
      const content = scriptedModel({ scripts: [{ after: "\n", say: "Fine." }] });
      writeGguf(path, { ...content, tensors: content.tensors.filter((tensor) => !tensor.name.includes("ffn_down")) });
    });
    // GGML_ASSERT: the library ends its process.
    corrupt("twin-tokens", /SIGABRT|GGML_ASSERT|exit code/, (path) => {
      writeGguf(path, withTwinTokens(scriptedModel({ scripts: [{ after: "\n", say: "Fine." }] })));
    });
    for (const [name, path, cause] of cases) {
      const engine = startEngine({ model: path });
      const error = await readAnswer(engine.chat(chatRequest(name, "Hi"), never)).catch((thrown: unknown) => thrown);
      expect(error, name).toMatchObject({
        code: "invalid_model_file",
        status: 400,
        message: expect.stringContaining(`${name}.gguf`),
      });
      expect((error as Error).message).toMatch(cause);
      expect((error as Error).message).not.toContain(path);
    }
    const engine = startEngine({ model: good });
    expect((await readAnswer(engine.chat(chatRequest("good", "Hi"), never))).text).toBe("Fine.");
  });

  test("ends when the program that started it is killed", async () => {
    const model = writeModel("orphan.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Alive." }] }));
    const parent = spawn(
      process.execPath,
      ["--import", "tsx", fileURLToPath(new URL("../support/llama-parent.ts", import.meta.url)), model],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    const lines = createInterface({ input: parent.stdout });
    const [line] = (await once(lines, "line")) as [string];
    const child = Number(line);
    expect(isAlive(child)).toBe(true);
    parent.kill("SIGKILL");
    await expect.poll(() => isAlive(child), { timeout: 10_000, interval: 20 }).toBe(false);
  });
});
