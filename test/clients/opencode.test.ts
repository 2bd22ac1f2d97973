import { rmSync } from "node:fs";
import path from "node:path";
import { describe, expect } from "vitest";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { expectCopied, tryCopying, tryProgram } from "./copying.ts";
import { opencodes, shownBy } from "./programs/opencode.ts";
import type { Program } from "./programs/program.ts";
import { served } from "./rows.ts";
import { openEmbeddedScene, openScene, play, resultsIn } from "./scenes.ts";
import { tryTroubles } from "./troubles.ts";
import { openTarget } from "./ways.ts";

const [chat] = opencodes as [Program];
/** What the tests below look into. */
const closer = ["ollama", "vllm", "llama_cpp", "gateway"];

describe("opencode reads a file and writes another over Chat Completions", () => {
  for (const way of served) if (!closer.includes(way)) tryCopying(chat, way);

  tryProgram("opencode", "over chat with ollama, in four requests, counted as the server counts", async (trial) => {
    const { task } = trial;
    trial.note({ dialect: "chat", way: "ollama" });
    const part = chat.part(task);
    const scene = await openScene("ollama", part);
    const target = await openTarget(scene, task);
    trial.after(() => target.close());

    const run = await trial.run(chat.configure(task, target), target);

    expectCopied({ program: chat, task, part, target }, run);
    expect(target.warnings).toEqual([]);
    expect(target.answered).toHaveLength(4);
    const { complaints, tools, steps } = shownBy(run, task.home);
    expect(complaints).toEqual([]);
    expect(tools).toEqual([
      { name: "read", status: "completed", input: part.first.arguments },
      { name: "write", status: "completed", input: part.second.arguments },
    ]);
    expect(steps.map(({ reason }) => reason)).toEqual(["tool-calls", "tool-calls", "stop"]);
    expect(steps.map(({ promptTokens, completionTokens }) => [promptTokens, completionTokens])).toEqual([
      [7001, 31],
      [7101, 31],
      [7301, 9],
    ]);
    const asked = scene.asked();
    expect(asked).toHaveLength(4);
    expect(asked.every(({ model, stream }) => model === "qwen3:8b" && stream === true)).toBe(true);
    const last = asked.find((body) => resultsIn(body) === 2);
    const messages = messagesOf(last);
    expect(messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "tool", "assistant", "tool"]);
    expect(toolNames(last)).toEqual(expect.arrayContaining(["bash", "edit", "read", "write"]));
    expect(messages[3]).toMatchObject({ tool_name: "read" });
    expect(messages[3]?.content).toContain(task.token);
  });

  tryProgram(
    "opencode",
    "over chat with vllm, though its server dies once in the middle of an answer",
    async (trial) => {
      const { task } = trial;
      trial.note({ dialect: "chat", way: "vllm" });
      const part = chat.part(task);
      let died = false;
      const scene = await openScene("vllm", part, (body) => {
        if (resultsIn(body) !== 1 || died) return [{ reasoning: "The user wants a copy." }, ...play(part, body)];
        died = true;
        return [{ text: "Now I wri" }, { die: true }];
      });
      const target = await openTarget(scene, task);
      trial.after(() => target.close());

      const run = await trial.run(chat.configure(task, target), target);

      expectCopied({ program: chat, task, part, target }, run);
      expect(shownBy(run, task.home).complaints).toEqual([expect.stringMatching(/stream error.*broke the connection/)]);
      // The title, three turns and one repetition.
      expect(scene.asked().map(({ model }) => model)).toEqual(Array.from({ length: 5 }, () => "Qwen/Qwen3-8B"));
    },
  );

  tryProgram(
    "opencode",
    "over chat with llama_cpp, and after a restart without reading the prompt again",
    async (trial) => {
      const { task } = trial;
      trial.note({ dialect: "chat", way: "llama_cpp" });
      const part = chat.part(task);
      const scene = openEmbeddedScene(part, task.home);
      const keeping = { LLAMA_CPP_CACHE_BYTES: "1GB", LLAMA_CPP_CACHE_DIR: path.join(task.home, "prompts") };
      const computed: number[][] = [];
      for (const round of ["first", "second"]) {
        const target = await openTarget(scene, task, "llama_cpp", keeping);
        trial.after(() => target.close());

        const run = await trial.run(chat.configure(task, target), target);

        expectCopied({ program: chat, task, part, target }, run);
        expect(target.warnings, round).toEqual([]);
        // opencode does not wait for the title.
        expect(target.answered.length, round).toBeLessThanOrEqual(4);
        computed.push(shownBy(run).steps.map(({ promptTokens, cachedTokens }) => promptTokens - cachedTokens));
        await target.close();
        rmSync(task.output);
      }
      // Each turn computes what is new in it, not the 31,000 tokens before; and so does the first one after the restart.
      expect(Math.max(...(computed[0] ?? []).slice(1))).toBeLessThan(1000);
      expect(Math.max(...(computed[1] ?? []))).toBeLessThan(1000);
    },
  );

  tryProgram("opencode", "over chat with gateway, which counts what opencode is told", async (trial) => {
    const { task } = trial;
    trial.note({ dialect: "chat", way: "gateway" });
    const part = chat.part(task);
    const target = await openTarget(openEmbeddedScene(part, task.home), task, "gateway");
    trial.after(() => target.close());

    const run = await trial.run(chat.configure(task, target), target);

    expectCopied({ program: chat, task, part, target }, run);
    expect(target.warnings).toEqual([]);
    const { place } = target;
    const records = (await place?.records(target.answered.length)) ?? [];
    const { id } = (await place?.state.keys.find("client")) ?? {};
    for (const record of records)
      expect(record).toMatchObject({
        key: id,
        model: target.model,
        provider: "home",
        agent: "home",
        outcome: "complete",
      });
    for (const { promptTokens, cachedTokens, completionTokens } of shownBy(run).steps)
      expect(records).toContainEqual(expect.objectContaining({ promptTokens, cachedTokens, completionTokens }));
  });
});

describe("opencode in trouble", () => {
  tryTroubles(chat, {
    overflow: "compacts",
    cramped: { says: /instructions and tools of this request need/, times: 1 },
    missing: { says: /openrouter:nothing/, times: 1 },
  });
});

function messagesOf(body: JsonObject = {}): JsonObject[] {
  return Array.isArray(body.messages) ? body.messages.filter(isObject) : [];
}

function toolNames(body: JsonObject = {}): unknown[] {
  const tools = Array.isArray(body.tools) ? body.tools.filter(isObject) : [];
  return tools.map((tool) => (isObject(tool.function) ? tool.function.name : undefined));
}
