import Anthropic from "@anthropic-ai/sdk";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startRuntime } from "../../src/app.ts";
import { silent } from "../../src/core/log.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { callerKey, startChain } from "../support/tunnel-chain.ts";

// A runtime behind an agent, a relay and a gateway: each hop speaks Messages, and the last one translates.

let place: Place;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  place = await openPlace();
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await place.close();
});

async function startHops(): Promise<string> {
  const reply = [{ text: "one two three" }, { finish: "stop", prompt: 700, completion: 3 }];
  const server = await startFakeOpenAi({ model: "small", reply, contextLength: 500 });
  closing.push(() => server.close());
  const config = await place.configure({
    LAIR_STATE: "",
    RUNTIME_LISTEN_PORT: "0",
    LAIR_PROVIDERS_LLAMA_KIND: "openai",
    LAIR_PROVIDERS_LLAMA_URLS: server.url,
  });
  const runtime = await startRuntime(config, silent, { version: "0.0.0-test", env: {} });
  closing.push(() => runtime.close());
  const chain = await startChain({ runtime: runtime.url });
  closing.push(() => chain.close());
  const gateway = await holdGateway(place, `home=${chain.url}`, { LAIR_GATEWAY_UPSTREAMS_HOME_KEY: callerKey });
  closing.push(() => gateway.close());
  return gateway.url;
}

const clientOf = (baseURL: string, authToken: string): Anthropic =>
  new Anthropic({ baseURL, authToken, apiKey: null, maxRetries: 0 });
const say = (model: string, content = "hello") => ({
  model,
  max_tokens: 50,
  messages: [{ role: "user" as const, content }],
});

describe("Messages through gateway, relay and agent", () => {
  it("stream, are counted as the model's server counted them, and stop at the key's limits", async () => {
    const key = await place.createKey("ci", { limits: { requestsPerMinute: 1 }, models: ["*small"] });
    const url = await startHops();
    const client = clientOf(url, key);
    const { data } = await client.models.list();
    const model = data[0]!.id;
    expect(model).toMatch(/small$/);
    const message = await client.messages.stream(say(model)).finalMessage();
    expect(message).toMatchObject({ model, content: [{ text: "one two three" }], usage: { input_tokens: 700 } });
    const [record] = await place.records(1);
    expect(record).toMatchObject({ outcome: "complete", promptTokens: 700, completionTokens: 3 });
    const refused: unknown = await client.messages.create(say(model)).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Anthropic.RateLimitError);
    expect((refused as InstanceType<typeof Anthropic.RateLimitError>).headers.get("retry-after")).toMatch(/^\d+$/);
  });

  it("fail in Anthropic's words wherever they fail", async () => {
    const key = await place.createKey("ci", { models: ["*small", "nothing"] });
    const url = await startHops();
    const client = clientOf(url, key);
    const [model = ""] = (await client.models.list()).data.map(({ id }) => id);
    await expect(clientOf(url, "nobody's").messages.create(say(model))).rejects.toBeInstanceOf(
      Anthropic.AuthenticationError,
    );
    await expect(client.messages.create(say("nothing"))).rejects.toBeInstanceOf(Anthropic.NotFoundError);
    await expect(client.messages.create(say(model, "word ".repeat(600)))).rejects.toMatchObject({
      status: 400,
      errorCode: "context_length_exceeded",
      apiMessage: expect.stringMatching(/^prompt is too long: \d+ tokens > 500 maximum/) as string,
    });
    expect(await client.messages.countTokens({ model: model, messages: say("m").messages })).toEqual({
      input_tokens: expect.any(Number) as number,
    });
  });
});
