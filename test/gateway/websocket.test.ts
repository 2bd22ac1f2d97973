import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer } from "../support/fake-server.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { openResponses, responseOf, textOf } from "../support/responses-socket.ts";
import { ask } from "../support/tunnel-caller.ts";
import { callerKey, type Chain, startChain } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// The whole chain: gateway → relay → agent → runtime → a server, and WebSockets at each of its doors.

let place: Place;
let server: FakeServer;
let runtime: Runtime;
let chain: Chain;
let gateway: HeldGateway;
let key: string;
let limited: string;
let doomed: string;

const closing: (() => Promise<unknown>)[] = [];
const close = async (): Promise<void> => {
  for (const one of closing.splice(0).reverse()) await one();
};

beforeAll(async () => {
  place = await openPlace();
  closing.push(() => place.close());
  const count = (body: JsonObject): number => (body.messages as unknown[]).length;
  server = await startFakeOpenAi({
    model: "small",
    reply: (body) => [{ text: `heard ${count(body)}` }, { finish: "stop", prompt: 7, completion: 3 }],
  });
  closing.push(() => server.close());
  const env = { LAIR_PROVIDERS_BOX_KIND: "openai", LAIR_PROVIDERS_BOX_URLS: server.url, LAIR_STATE: "" };
  const config = await place.configure({ RUNTIME_LISTEN_PORT: "0", ...env });
  runtime = await startRuntime(config, silent, { version: "0.0.0-test", env: {} });
  closing.push(() => runtime.close());
  chain = await startChain({ runtime: runtime.url });
  closing.push(() => chain.close());
  // Made before it starts: a key that it does not know yet would be a guess.
  key = await place.createKey("ci");
  limited = await place.createKey("limited", { limits: { requestsPerMinute: 2 } });
  doomed = await place.createKey("doomed");
  const upstream = { LAIR_GATEWAY_UPSTREAMS_HOME_KEY: callerKey };
  gateway = await holdGateway(place, `home=${chain.url}`, upstream);
  closing.push(() => gateway.close());
});
afterAll(close);

const model = "box:small";
const bearer = (): Record<string, string> => ({ authorization: `Bearer ${key}` });

const doors: [role: string, door: () => { url: string; headers: Record<string, string> }][] = [
  ["a runtime", () => ({ url: runtime.url, headers: {} })],
  ["a relay", () => ({ url: chain.url, headers: { authorization: `Bearer ${callerKey}` } })],
  ["a gateway", () => ({ url: gateway.url, headers: bearer() })],
];

describe.each(doors)("%s", (_role, door) => {
  it("goes on from answers that nobody stored, over one WebSocket", async () => {
    const { url, headers } = door();
    const client = await openResponses(url, headers);
    const first = await client.ask({ model, input: "one", store: false });
    expect([textOf(first), responseOf(first).status]).toEqual(["heard 1", "completed"]);
    expect(responseOf(first).model).toBe(model);
    const { id } = responseOf(first);
    const second = await client.ask({ model, input: "two", store: false, previous_response_id: id ?? null });
    expect([textOf(second), responseOf(second).previous_response_id]).toEqual(["heard 3", id]);
    client.webSocket.close();
  });

  it("goes on from an answer that is stored, over another WebSocket and over HTTP", async () => {
    const { url, headers } = door();
    const [one, other] = [await openResponses(url, headers), await openResponses(url, headers)];
    const { id = null } = responseOf(await one.ask({ model, input: "one" }));
    expect(textOf(await other.ask({ model, input: "two", previous_response_id: id }))).toBe("heard 3");
    const body = { model, input: "two", previous_response_id: id };
    expect((await ask(`${url}/v1/responses`, { headers, body })).text).toContain("heard 3");
    for (const client of [one, other]) client.webSocket.close();
  });

  it("does not know an answer that nobody has", async () => {
    const { url, headers } = door();
    const client = await openResponses(url, headers);
    expect(await client.ask({ model, input: "two", store: false, previous_response_id: "resp_x" })).toMatchObject([
      { type: "error", status: 400, error: { code: "previous_response_not_found" } },
    ]);
    client.webSocket.close();
  });

  it("answers what is wrong with a message as it would answer a call", async () => {
    const { url, headers } = door();
    const client = await openResponses(url, headers);
    expect(await client.ask({ model: "nobody:has", input: "x", store: false })).toMatchObject([
      { type: "error", status: 404, error: { code: "model_not_found" } },
    ]);
    client.webSocket.close();
  });

  it("lets no page of a stranger in", async () => {
    const { url, headers } = door();
    const opening = openResponses(url, { ...headers, origin: "https://evil.example" });
    await expect(opening).rejects.toMatchObject({ status: 403, body: expect.stringContaining("forbidden_origin") });
  });

  it("is not known by a stranger's name", async () => {
    const { url, headers } = door();
    const opening = openResponses(url, { ...headers, host: "evil.example" });
    await expect(opening).rejects.toMatchObject({ status: 403, body: expect.stringContaining("forbidden_host") });
  });

  it("has nothing there for a plain GET", async () => {
    const { url, headers } = door();
    const answer = await ask(`${url}/v1/responses`, { method: "GET", headers });
    expect([404, 405]).toContain(answer.status);
  });
});

describe.each(doors.slice(1))("%s that asks for keys", (_role, door) => {
  it("asks before it changes the protocol", async () => {
    const { url } = door();
    await expect(openResponses(url)).rejects.toMatchObject({ status: 401, headers: { "www-authenticate": "Bearer" } });
    await expect(openResponses(url, { authorization: "Bearer wrong" })).rejects.toMatchObject({ status: 401 });
  });
});

describe("a gateway's WebSocket", () => {
  it("takes a key in the query, and keeps it out of its log", async () => {
    const client = await openResponses(`${gateway.url}`, {}, `?api-key=${key}`);
    expect(textOf(await client.ask({ model, input: "one", store: false }))).toBe("heard 1");
    client.webSocket.close();
    await waitUntil(() => gateway.log.lines.some((line) => line.includes("/v1/responses")));
    expect(gateway.log.lines.join("\n")).not.toContain(key);
  });

  it("holds each message to its key's limits, and writes down what each has used", async () => {
    const client = await openResponses(gateway.url, { authorization: `Bearer ${limited}` });
    const ends: unknown[] = [];
    for (let turn = 0; turn < 3; turn++) ends.push((await client.ask({ model, input: "x", store: false })).at(-1));
    expect(ends).toMatchObject([
      { type: "response.completed" },
      { type: "response.completed" },
      {
        type: "error",
        status: 429,
        error: { code: "rate_limit_exceeded" },
        headers: { "retry-after": expect.any(String) },
      },
    ]);
    client.webSocket.close();
    const id = (await place.state.keys.find("limited"))?.id;
    let own: JsonObject[] = [];
    await waitUntil(async () => {
      own = (await place.state.usage.list({ limit: 1000 })).filter((one) => one.key === id) as never;
      return own.length === 3;
    });
    expect(own.filter((one) => one.outcome === "complete")).toMatchObject([
      { promptTokens: 7, completionTokens: 3 },
      { promptTokens: 7, completionTokens: 3 },
    ]);
  });

  it("answers no more messages when its key is revoked", async () => {
    const client = await openResponses(gateway.url, { authorization: `Bearer ${doomed}` });
    expect(textOf(await client.ask({ model, input: "x", store: false }))).toBe("heard 1");
    await place.state.keys.change("doomed", (record) => ({ ...record, revoked: Date.now() }));
    let last: JsonObject | undefined;
    await waitUntil(async () => {
      last = (await client.ask({ model, input: "x", store: false })).at(-1);
      return last?.type === "error";
    });
    expect(last).toMatchObject({ status: 401, error: { code: "invalid_api_key" } });
    client.webSocket.close();
  });

  it("is what the official SDK's client takes it for", async () => {
    const client = new OpenAI({ apiKey: key, baseURL: `${gateway.url}/v1` });
    const socket = new ResponsesWS(client);
    const texts: string[] = [];
    const done = (async () => {
      for await (const event of socket) {
        if (event.type !== "message") continue;
        const { message } = event;
        if (message.type === "response.output_text.delta") texts.push(message.delta);
        if (message.type === "response.completed") return message.response;
      }
      return undefined;
    })();
    socket.send({ type: "response.create", model, input: "hello", store: false });
    const response = await done;
    socket.close();
    expect([texts.join(""), response?.status]).toEqual(["heard 1", "completed"]);
  });
});

const messages = [{ role: "user", content: "hi" }];
const paths: [path: string, body: JsonObject, said: RegExp, streamed: RegExp][] = [
  ["/v1/chat/completions", { messages }, /"heard 1"/, /\[DONE\]/],
  ["/v1/responses", { input: "hi" }, /"heard 1"/, /event: response\.completed/],
  ["/v1/messages", { max_tokens: 9, messages }, /"heard 1"/, /event: message_stop/],
  ["/api/chat", { messages, stream: false }, /"heard 1"/, /"done":true/],
];

describe("through the whole chain", () => {
  it.each(paths)("%s is answered, whole and streamed", async (path, body, said, streamed) => {
    const whole = await ask(`${gateway.url}${path}`, { headers: bearer(), body: { ...body, model } });
    expect([whole.status, whole.clean]).toEqual([200, true]);
    expect(whole.text).toMatch(said);
    const stream = await ask(`${gateway.url}${path}`, { headers: bearer(), body: { ...body, model, stream: true } });
    expect([stream.status, stream.clean]).toEqual([200, true]);
    expect(stream.text).toMatch(streamed);
  });

  it.each([
    ["/v1/messages/count_tokens", { messages }, /"input_tokens":\d/],
    ["/v1/responses/input_tokens", { input: "hi" }, /"input_tokens":\d/],
  ] as [string, JsonObject, RegExp][])("%s is answered", async (path, body, said) => {
    const answer = await ask(`${gateway.url}${path}`, { headers: bearer(), body: { ...body, model } });
    expect(answer.status).toBe(200);
    expect(answer.text).toMatch(said);
  });
});
