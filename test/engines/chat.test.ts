import { beforeAll, describe, expect, test } from "vitest";
import { ApiError } from "../../src/core/errors.ts";
import type { Tool } from "../../src/core/chat.ts";
import { chatmlTemplate, scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";
import { randomDecoder } from "../support/gguf.ts";

const never = new AbortController().signal;
const weather: Tool = {
  name: "get_weather",
  description: "The weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

/** A scripted model and an engine that serves only it. */
function play(name: string, model: Parameters<typeof scriptedModel>[0]): ReturnType<typeof startEngine> {
  return startEngine({ model: writeModel(`${name}.gguf`, scriptedModel(model)) });
}

describe("a chat with the embedded llama.cpp", () => {
  test("says what the model says, piece by piece, and counts its tokens", async () => {
    const engine = play("talker", { scripts: [{ after: "\n", say: ["Hello", " to", " you."] }] });
    const answer = await readAnswer(engine.chat(chatRequest("talker", "Hi"), never));
    expect(answer.events.filter((event) => event.type === "text").map((event) => event.text)).toEqual([
      "Hello",
      " to",
      " you.",
    ]);
    expect(answer.reason).toBe("stop");
    // "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n": 3 control tokens and a token for each of 18 characters; 3 pieces and the end.
    expect(answer.usage).toEqual({ promptTokens: 21, completionTokens: 4, cachedTokens: 0 });
  });

  test("goes through the model's own template, with its variables and the caller's", async () => {
    const template =
      "{%- for m in messages %}{{ m.role }}{% endfor %}" +
      "{%- if enable_thinking is defined and not enable_thinking %}<|quick|>" +
      "{%- elif mood == 'kind' %}<|kind|>" +
      "{%- elif messages[0].role == 'system' %}<|system|>{% else %}<|plain|>{% endif %}";
    const say = (special: string) => ({ after: `<|${special}|>`, say: `This is the ${special} script.` });
    const engine = play("template", {
      template,
      specials: ["<|plain|>", "<|system|>", "<|quick|>", "<|kind|>"],
      scripts: ["plain", "system", "quick", "kind"].map(say),
    });
    const text = async (more: Parameters<typeof chatRequest>[2]) =>
      (await readAnswer(engine.chat(chatRequest("template", "Hi", more), never))).text;
    const system = { role: "system", content: [{ type: "text", text: "Be brief." }] } as const;
    const user = { role: "user", content: [{ type: "text", text: "Hi" }] } as const;
    expect(await text({})).toBe("This is the plain script.");
    expect(
      await text({
        messages: [
          { ...system, content: [...system.content] },
          { ...user, content: [...user.content] },
        ],
      }),
    ).toBe("This is the system script.");
    expect(await text({ reasoningEffort: "none" })).toBe("This is the quick script.");
    expect(await text({ templateVariables: { mood: "kind" } })).toBe("This is the kind script.");
  });

  test("says why when the template refuses the messages", async () => {
    const engine = play("strict", {
      template: "{{ raise_exception('roles must alternate') }}",
      scripts: [{ after: "\n", say: "never said" }],
    });
    const asked = readAnswer(engine.chat(chatRequest("strict", "Hi"), never));
    await expect(asked).rejects.toMatchObject({
      code: "invalid_request",
      message: expect.stringContaining("roles must alternate"),
    });
  });

  test("without a template writes ChatML and says so in the log", async () => {
    const warnings: string[] = [];
    const log = {
      debug() {},
      info() {},
      error() {},
      warn: (_fields: object, message: string) => void warnings.push(message),
    };
    const model = writeModel(
      "bare.gguf",
      scriptedModel({ template: null, scripts: [{ after: "\n", say: "Still here." }] }),
    );
    const engine = startEngine({ model }, log);
    expect((await readAnswer(engine.chat(chatRequest("bare", "Hi"), never))).text).toBe("Still here.");
    expect(warnings).toEqual([expect.stringContaining("ChatML")]);
  });

  test("turns Hermes tool calls into events, several of them, and finishes with tool-calls", async () => {
    const engine = play("caller", {
      template: `{#- tools, <tool_call> -#}${chatmlTemplate}`,
      scripts: [
        {
          after: "\n",
          say: 'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n<tool_call>\n{"name":"get_weather", "arguments":  {"city": "Lyon"}}\n</tool_call>',
        },
      ],
    });
    const answer = await readAnswer(engine.chat(chatRequest("caller", "Weather?", { tools: [weather] }), never));
    expect(answer.text).toBe("Let me look.");
    expect(answer.calls.map(({ name, arguments: json }) => [name, JSON.parse(json)])).toEqual([
      ["get_weather", { city: "Paris" }],
      ["get_weather", { city: "Lyon" }],
    ]);
    expect(new Set(answer.calls.map((call) => call.id)).size).toBe(2);
    expect(answer.reason).toBe("tool-calls");
  });

  test("leaves a broken tool call as the text it is where the schema makes no grammar", async () => {
    const broken = '<tool_call>\n{"name": get_weather, "arguments": {"city": }\n</tool_call>';
    const unknown = { name: "get_weather", parameters: { $ref: "#/nowhere" } };
    const engine = play("broken", {
      template: `{#- tools, <tool_call> -#}${chatmlTemplate}`,
      scripts: [{ after: "\n", say: broken }],
    });
    const answer = await readAnswer(engine.chat(chatRequest("broken", "Weather?", { tools: [unknown] }), never));
    expect(answer.text).toBe(broken);
    expect(answer.calls).toEqual([]);
    expect(answer.reason).toBe("stop");
  });

  test("keeps reasoning apart from the answer and counts its tokens", async () => {
    const engine = play("thinker", {
      scripts: [{ after: "\n", say: ["<think>", "\nfirst,", " a thought\n", "</think>", "\n\nThe", " answer."] }],
    });
    const answer = await readAnswer(engine.chat(chatRequest("thinker", "Why?"), never));
    expect(answer.reasoning).toBe("first, a thought");
    expect(answer.text).toBe("The answer.");
    expect(answer.usage).toMatchObject({ completionTokens: 7, reasoningTokens: 3 });
  });

  test("knows when the template has opened the reasoning already", async () => {
    const engine = play("opened", {
      template: `${chatmlTemplate}{%- if add_generation_prompt %}{{- '<think>\n' }}{%- endif %}`,
      scripts: [{ after: "\n", say: "pondering</think>\n\nDone, so." }],
    });
    const answer = await readAnswer(engine.chat(chatRequest("opened", "Why?"), never));
    expect([answer.reasoning, answer.text]).toEqual(["pondering", "Done, so."]);
  });

  test("stops at a stop string that lies across tokens, and says nothing of it", async () => {
    const engine = play("stopper", { scripts: [{ after: "\n", say: ["one ", "two EN", "D three"] }] });
    const answer = await readAnswer(engine.chat(chatRequest("stopper", "Count", { stop: ["END"] }), never));
    expect(answer.text).toBe("one two ");
    expect(answer.reason).toBe("stop");
  });

  test("says what was held back when no stop string came of it", async () => {
    const engine = play("almost", { scripts: [{ after: "\n", say: ["one ", "EN", "ough EN"] }] });
    expect((await readAnswer(engine.chat(chatRequest("almost", "Count", { stop: ["END"] }), never))).text).toBe(
      "one ENough EN",
    );
  });

  test("puts characters together that tokens cut in half", async () => {
    const bytes = Buffer.from("a 🙂 b");
    const engine = play("halves", { scripts: [{ after: "\n", say: [bytes.subarray(0, 4), bytes.subarray(4)] }] });
    const answer = await readAnswer(engine.chat(chatRequest("halves", "Smile"), never));
    expect(answer.text).toBe("a 🙂 b");
    expect(answer.events.some((event) => event.type === "text" && event.text.includes("\ufffd"))).toBe(false);
  });

  test("plays a task of many steps, one script for each number of tool results", async () => {
    const template = `{%- if tools %}{{ tools | tojson }}{% endif %}${chatmlTemplate}<|step{{ messages | selectattr('role', 'equalto', 'tool') | list | length }}|>`;
    const call = (city: string): string =>
      `<tool_call>\n{"name": "get_weather", "arguments": {"city": "${city}"}}\n</tool_call>`;
    const engine = play("steps", {
      template,
      specials: ["<|step0|>", "<|step1|>", "<|step2|>"],
      scripts: [
        { after: "<|step0|>", say: call("Paris") },
        { after: "<|step1|>", say: call("Lyon") },
        { after: "<|step2|>", say: "Both are sunny." },
      ],
    });
    const messages = [...chatRequest("steps", "Weather?").messages];
    const said: string[] = [];
    for (let step = 0; step < 3; step++) {
      const answer = await readAnswer(
        engine.chat(chatRequest("steps", "", { messages: [...messages], tools: [weather] }), never),
      );
      said.push(answer.text + answer.calls.map((made) => made.arguments).join());
      messages.push({ role: "assistant", content: [], toolCalls: answer.calls });
      for (const made of answer.calls)
        messages.push({ role: "tool", toolCallId: made.id, content: [{ type: "text", text: "sunny" }] });
    }
    expect(said).toEqual(['{"city": "Paris"}', '{"city": "Lyon"}', "Both are sunny."]);
  });
});

describe("a model of random weights", () => {
  let engine: ReturnType<typeof startEngine>;
  beforeAll(() => {
    engine = startEngine({
      model: writeModel("random.gguf", randomDecoder({ architecture: "qwen2" })),
      contextLength: 256,
    });
  });
  const ask = (more: Parameters<typeof chatRequest>[2], text = "Tell me") =>
    readAnswer(engine.chat(chatRequest("random", text, more), never));

  test("answers the same for the same seed, and otherwise for another", async () => {
    const options = { temperature: 1.5, maxTokens: 16, topP: 1, topK: 0 };
    const first = await ask({ ...options, seed: 7 });
    expect((await ask({ ...options, seed: 7 })).text).toBe(first.text);
    expect((await ask({ ...options, seed: 8 })).text).not.toBe(first.text);
    const [one, other] = [await ask(options), await ask(options)];
    expect(one.text).not.toBe(other.text);
  });

  test("answers from a cached prefix as it does cold", async () => {
    const long = "the rain in the north stays mainly over the sea and ".repeat(3);
    const cold = await ask({ maxTokens: 12 }, long);
    const warm = await ask({ maxTokens: 12 }, long);
    expect(warm.usage?.cachedTokens).toBe((cold.usage?.promptTokens ?? 0) - 1);
    expect(warm.text).toBe(cold.text);
    const changed = await ask({ maxTokens: 12 }, `${long}now`);
    expect(changed.usage?.cachedTokens).toBeGreaterThan(80);
    const fresh = startEngine({
      model: writeModel("random2.gguf", randomDecoder({ architecture: "qwen2" })),
      contextLength: 256,
    });
    const alone = await readAnswer(fresh.chat(chatRequest("random2", `${long}now`, { maxTokens: 12 }), never));
    expect(alone.usage?.cachedTokens).toBe(0);
    expect(changed.text).toBe(alone.text);
  });

  test("ends with length at max_tokens and where the context is full", async () => {
    // A bias against both end tokens keeps the model talking.
    const logitBias = { "1021": -100, "1023": -100 };
    const short = await ask({ maxTokens: 5, logitBias });
    expect([short.reason, short.usage?.completionTokens]).toEqual(["length", 5]);
    const full = await ask({ logitBias });
    expect(full.reason).toBe("length");
    expect((full.usage?.promptTokens ?? 0) + (full.usage?.completionTokens ?? 0)).toBe(256);
  });

  test("refuses a prompt that does not fit, with both numbers", async () => {
    const error = await ask({}, "no end ".repeat(300)).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: "context_length_exceeded", param: "messages" });
    expect((error as ApiError).message).toMatch(
      /^This model's maximum context length is 256 tokens\. However, your messages resulted in \d+ tokens\.$/,
    );
  });

  test("gives log probabilities of the model itself", async () => {
    const answer = await ask({ maxTokens: 4, topLogprobs: 3, temperature: 0 });
    const tokens = answer.events.flatMap((event) => (event.type === "logprobs" ? event.tokens : []));
    expect(tokens).toHaveLength(4);
    for (const token of tokens) {
      expect(token.top).toHaveLength(3);
      expect(token.top[0]?.logprob).toBe(token.logprob);
      expect(token.logprob).toBeLessThan(0);
      const likely = token.top.reduce((sum, other) => sum + Math.exp(other.logprob), 0);
      expect(likely).toBeLessThanOrEqual(1.0001);
    }
    expect(Buffer.concat(tokens.map((token) => Buffer.from(token.bytes ?? []))).toString()).toBe(answer.text);
  });

  test("answers many at the same time as it answers each alone", async () => {
    const texts = Array.from({ length: 6 }, (_, index) => `Question number ${index}`);
    const together = await Promise.all(texts.map((text) => ask({ maxTokens: 8 }, text)));
    for (const [index, text] of texts.entries())
      expect((await ask({ maxTokens: 8 }, text)).text).toBe(together[index]?.text);
    expect(
      together.some((answer) => answer.events.some((event) => event.type === "progress" && event.phase === "queued")),
    ).toBe(true);
  });

  test("completes raw prompts, text and token ids alike", async () => {
    const request = { model: "random", stop: [], maxTokens: 6, extra: {} };
    const tokens = await engine.tokenize("random", "the rain", never);
    expect(await engine.detokenize("random", tokens, never)).toBe("the rain");
    const fromText = await readAnswer(engine.complete({ ...request, prompt: "the rain" }, never));
    const fromTokens = await readAnswer(engine.complete({ ...request, prompt: tokens }, never));
    expect(fromTokens.text).toBe(fromText.text);
    expect(fromText.usage?.promptTokens).toBe(tokens.length);
    const unknown = readAnswer(engine.complete({ ...request, prompt: [99999] }, never));
    await expect(unknown).rejects.toMatchObject({ code: "invalid_value", param: "prompt" });
  });
});
