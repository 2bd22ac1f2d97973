import { afterEach, describe, expect, test } from "vitest";
import { Call } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import type { Provider } from "../../src/core/provider.ts";
import { fromEngine, translated } from "../../src/dialects/translate.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { countedByText } from "../../src/providers/token-counters.ts";
import { Upstream } from "../../src/providers/upstream.ts";
import { vllm } from "../../src/providers/vllm.ts";
import { expectAnthropic } from "../support/anthropic-spec.ts";
import { type FakeServer, sendJson, startFakeServer } from "../support/fake-server.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";
import { startEngine, writeModel } from "../support/llama.ts";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function reach(server: FakeServer): Upstream {
  closing.push(() => server.close());
  const times = { connectTimeout: 1000, firstByteTimeout: 0, idleTimeout: 0 };
  const upstream = new Upstream("far", { urls: [server.url], ...times }, silent);
  closing.push(() => upstream.close());
  return upstream;
}

async function ask(provider: Provider, model: string, path: string, body: JsonObject): Promise<JsonObject> {
  const call = new Call({
    id: "count",
    method: "POST",
    path,
    signal: new AbortController().signal,
    body: Buffer.from(JSON.stringify({ model, ...body })),
  });
  call.target = { provider, model, requested: model };
  const reply = await provider.handle(call);
  expect(reply.status).toBe(200);
  return JSON.parse(String(reply.body)) as JsonObject;
}

const anthropic = "/v1/messages/count_tokens";
const responses = "/v1/responses/input_tokens";
const messages = [{ role: "user", content: "one two three four" }];
const tools = [{ name: "ls", input_schema: { type: "object", properties: {} } }];

describe("the tokens of a prompt", () => {
  test("are counted by vLLM itself, tools and all", async () => {
    const server = await startFakeVllm();
    const provider = translated(vllm(reach(server), { log: silent }));
    const model = "Qwen/Qwen3-8B";
    const counted = await ask(provider, model, anthropic, { system: "five six", messages, tools });
    expectAnthropic("MessageTokensCount", counted);
    const [asked] = server.to("/tokenize");
    expect(asked?.body).toEqual({
      model,
      messages: [
        { role: "system", content: "five six" },
        { role: "user", content: "one two three four" },
      ],
      tools: [{ type: "function", function: { name: "ls", parameters: { type: "object", properties: {} } } }],
    });
    expect(counted.input_tokens).toBeLessThan(10);
    expect(await ask(provider, model, responses, { input: "one two three four" })).toEqual({
      object: "response.input_tokens",
      input_tokens: 4,
    });
  });

  test("are counted by llama-server in its two steps", async () => {
    const server = await startFakeServer(({ path, body }, reply) => {
      if (path === "/apply-template")
        return sendJson(reply, 200, { prompt: `<|im_start|>${JSON.stringify(body.messages)}` });
      if (path === "/tokenize") return sendJson(reply, 200, { tokens: [...String(body.content)].map((_, id) => id) });
      return sendJson(reply, 404, {});
    });
    const upstream = reach(server);
    const provider = translated({ ...vllm(upstream, { log: silent }), countTokens: countedByText(upstream) });
    const prompt = `<|im_start|>${JSON.stringify([{ role: "user", content: "one two three four" }])}`;
    expect(await ask(provider, "m", anthropic, { messages })).toEqual({ input_tokens: prompt.length });
  });

  test("are estimated where a server's count fails", async () => {
    const server = await startFakeServer((_, reply) => sendJson(reply, 500, { error: "no tokenizer" }));
    const provider = translated(vllm(reach(server), { log: silent }));
    const { input_tokens: tokens } = await ask(provider, "m", anthropic, { messages });
    expect(tokens).toBeGreaterThan(3);
    expect(tokens).toBeLessThan(30);
  });

  test("are exact of a model in memory, and estimated of one that is not, which is not loaded for it", async () => {
    const model = writeModel("counted.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Hello" }] }));
    const engine = startEngine({ model });
    const provider = fromEngine(engine);
    const count = (): Promise<JsonObject> => ask(provider, "counted", anthropic, { messages });
    expect((await count()).input_tokens).toBeGreaterThan(3);
    expect(engine.processes()).toEqual([]);
    const { usage } = await ask(provider, "counted", "/v1/messages", { messages, max_tokens: 5 });
    const { input_tokens: fresh, cache_read_input_tokens: cached } = usage as Record<string, number>;
    expect(await count()).toEqual({ input_tokens: fresh! + cached! });
  });
});
