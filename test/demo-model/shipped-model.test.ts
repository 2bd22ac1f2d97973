import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { root } from "../../scripts/bootstrap.mjs";
import { readGguf } from "../../src/engines/gguf/gguf.ts";
import { type Address, ask, askAll, type Outcome, post } from "../../tools/demo-model/evaluate/asking.ts";
import { type Case, evaluationFolder, readCases, sampleCases } from "../../tools/demo-model/evaluate/cases.ts";
import { readCorpusAnswers } from "../../tools/demo-model/evaluate/corpus-answers.ts";
import { goals } from "../../tools/demo-model/evaluate/report.ts";
import { type Program, start } from "../cli/program.ts";
import { agentRequests } from "./agent-requests.ts";

// DEMO_MODEL judges another file, before it takes the place of this one.
const file = process.env["DEMO_MODEL"] ?? path.join(root, "assets/demo.gguf");
const corpus = readCorpusAnswers();

interface Rendered extends Pick<Case, "messages" | "tools"> {
  readonly text: string;
  readonly tokens: readonly number[];
}

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city, now.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

describe("the demo model", () => {
  let place: string;
  let server: Program;
  let address: Address;
  let origin: Address;

  beforeAll(async () => {
    place = mkdtempSync(path.join(tmpdir(), "lair-demo-model-"));
    // One thread: on a machine full of tests two wait for each other longer than a model of this size takes.
    const flags = ["--port", "0", "--sessions", "4", "--threads", "1", "--model", file];
    server = start(["serve", ...flags], { cwd: place });
    const [, url] = await server.until(/"url":"([^"]+)"/);
    const model = `llama_cpp:${path.basename(file, ".gguf")}`;
    [address, origin] = [
      { url: `${url!}/v1`, model },
      { url: url!, model },
    ];
  });

  afterAll(async () => {
    server.child.kill();
    await server.ended;
    rmSync(place, { recursive: true, force: true });
  });

  it("is as small as it says, with the context that it says", async () => {
    const header = await readGguf(file);
    expect(statSync(file).size).toBeLessThanOrEqual(8_000_000);
    expect(corpus.intent("how_big", "en")).toContain(`about ${(header.parameters / 1e6).toFixed(0)} million`);
    expect(corpus.intent("context", "en")).toContain(`${header.contextLength?.toLocaleString("en")} tokens`);
  });

  describe("reads what its training wrote", () => {
    const rendered = readFileSync(path.join(evaluationFolder, "rendered.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Rendered);

    it("by its chat template, with tools, calls and results", async () => {
      for (const { messages, tools, text } of rendered) {
        const reply = await post("/apply-template", { messages, ...(tools === undefined ? {} : { tools }) }, origin);
        expect(((await reply.json()) as { prompt: string }).prompt).toBe(text);
      }
    });

    it("in the same tokens, in English and Chinese", async () => {
      for (const { text, tokens } of rendered) {
        const reply = await post("/tokenize", { content: text, add_special: true, parse_special: true }, origin);
        expect(((await reply.json()) as { tokens: number[] }).tokens).toEqual(tokens);
      }
    });
  });

  it.each([
    ["hello", corpus.intent("hello", "en")],
    ["say hi", corpus.intent("hello", "en")],
    ["你好", corpus.intent("hello", "zh")],
    ["who are you?", corpus.intent("who_are_you", "en")],
    ["你是谁？", corpus.intent("who_are_you", "zh")],
  ])("answers %s as the README shows", async (content, answer) => {
    expect((await ask({ messages: [{ role: "user", content }] }, address)).text).toBe(answer);
  });

  it("tells one of its jokes for 讲个笑话", async () => {
    const { text } = await ask({ messages: [{ role: "user", content: "讲个笑话" }] }, address);
    expect(corpus.jokes("zh")).toContain(text);
  });

  it.each([
    ["What is the weather in Paris?", "Paris"],
    ["巴黎天气怎么样？", "巴黎"],
  ])("calls a tool for %s, streamed and not", async (content, city) => {
    const messages = [{ role: "user", content }];
    const { text, calls } = await ask({ messages, tools: [weather] }, address);
    expect(text).toBe("");
    expect(calls.map(({ name, arguments: given }) => [name, JSON.parse(given)])).toEqual([["get_weather", { city }]]);
    const streamed = await streamedCall({ messages, tools: [weather], temperature: 0 }, address);
    expect(streamed).toEqual({ name: "get_weather", arguments: calls[0]!.arguments, reason: "tool_calls" });
  });

  it.each(["calls", "answers"] as const)(
    "is sure of a coding agent's %s, in whatever folder, on whatever day",
    async (part) => {
      const outcomes = await askAll(agentRequests()[part], address, 4);
      const wrong = mistakes(outcomes);
      // Of 300 calls from other folders on other days it made 293; another engine or processor may round one otherwise.
      expect(wrong.length, JSON.stringify(wrong, null, 1)).toBeLessThanOrEqual(outcomes.length / 8);
    },
  );

  // What the file in assets/ has reached, less what a sample of this size may be off: a model or an engine that is broken falls
  // far below. Its training goes on towards the goals, by which `npm run demo:evaluate` judges; better files raise these.
  const floors: Record<string, number> = {
    "small talk, jokes": 0.85,
    "this software": 0.8,
    arithmetic: 0.85,
    "tool calls": 0.6,
    "tools never seen": 0.5,
    "honest refusal": 0.8,
  };

  // Enough of each for a share that holds, few enough for two slow cores to answer them within a minute.
  describe.each([
    ["hand-written", 36],
    ["held-out", 24],
  ] as const)("is right often enough of what is %s", (set, count) => {
    let outcomes: Outcome[];
    beforeAll(async () => {
      // The paraphrases of the corpus avoid its words on purpose; how many of them are understood, demo:evaluate tells.
      const all = readCases(set, corpus).filter(({ source }) => source !== "paraphrase");
      const cases = goals.flatMap(({ abilities }) =>
        sampleCases(
          all.filter(({ ability }) => abilities.includes(ability)),
          count,
        ),
      );
      outcomes = await askAll(cases, address, 4);
    }, 180_000);

    it.each(goals)("with $name", ({ name, abilities }) => {
      const mine = outcomes.filter(({ asked }) => abilities.includes(asked.ability));
      const wrong = mistakes(mine);
      expect(mine.length).toBeGreaterThanOrEqual(20);
      expect(1 - wrong.length / mine.length, JSON.stringify(wrong, null, 1)).toBeGreaterThanOrEqual(floors[name]!);
    });
  });
});

function mistakes(outcomes: readonly Outcome[]): object[] {
  return outcomes
    .filter(({ right }) => !right)
    .map(({ asked, answer }) => ({ question: asked.messages.at(-1)?.["content"], wanted: asked.expect, answer }));
}

/** The first call of a streamed answer, put together. */
async function streamedCall(body: object, address: Address): Promise<object> {
  const reply = await post("/chat/completions", { ...body, stream: true }, address);
  const call = { name: "", arguments: "", reason: "" };
  for (const line of (await reply.text()).split("\n").filter((text) => text.startsWith("data: {"))) {
    const [choice] = (JSON.parse(line.slice(6)) as { choices: Choice[] }).choices;
    const piece = choice?.delta.tool_calls?.[0]?.function;
    call.name += piece?.name ?? "";
    call.arguments += piece?.arguments ?? "";
    call.reason += choice?.finish_reason ?? "";
  }
  return call;
}

interface Choice {
  readonly delta: { readonly tool_calls?: readonly { readonly function: { name?: string; arguments?: string } }[] };
  readonly finish_reason?: string | null;
}
