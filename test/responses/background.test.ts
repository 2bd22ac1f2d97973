import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type FakeServer, gate, type Step } from "../support/fake-server.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { expectValid } from "../support/openai-spec.ts";
import { ask, open as openRaw } from "../support/tunnel-caller.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// Responses that are made while nobody waits for them, by OpenAI's own client.

type Response = OpenAI.Responses.Response;
type Event = OpenAI.Responses.ResponseStreamEvent;

let upstream: FakeServer;
let place: Place;
let key: string;
let otherKey: string;
/** What the upstream says next. */
let says: () => Step[];
const gateways: HeldGateway[] = [];
const plain = (): Step[] => [{ text: "one " }, { text: "two" }, { finish: "stop" }];

beforeAll(async () => {
  upstream = await startFakeOpenAi({ models: ["small"], reply: () => says() });
});
afterAll(() => upstream.close());
beforeEach(async () => {
  says = plain;
  place = await openPlace();
  key = await place.createKey("one", { limits: { requestsPerMinute: 1000 } });
  otherKey = await place.createKey("two");
});
afterEach(async () => {
  await Promise.all(gateways.splice(0).map((gateway) => gateway.close()));
  await place.close();
});

async function startGateway(env: Record<string, string> = {}): Promise<HeldGateway> {
  const kind = { LAIR_GATEWAY_UPSTREAMS_LLAMA_KIND: "openai" };
  const gateway = await holdGateway(place, `llama=${upstream.url}`, { ...kind, ...env });
  gateways.push(gateway);
  return gateway;
}

function clientOf({ url }: HeldGateway, apiKey = key): OpenAI {
  return new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });
}

function begin(client: OpenAI, more: object = {}): Promise<Response> {
  return client.responses.create({ model: "small", input: "count", background: true, ...more }) as Promise<Response>;
}

/** The response when it is neither queued nor in progress any more. */
async function done(client: OpenAI, id: string): Promise<Response> {
  let response: Response | undefined;
  await waitUntil(async () => {
    response = await client.responses.retrieve(id);
    return response.status !== "queued" && response.status !== "in_progress";
  }, `the response ${id} is done`);
  return response!;
}

async function collect(events: AsyncIterable<Event>): Promise<Event[]> {
  const all: Event[] = [];
  for await (const event of events) all.push(event);
  return all;
}

async function statusOf(promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    await promise;
    return 200;
  } catch (error) {
    if (error instanceof OpenAI.APIError) return (error as { status: unknown }).status;
    throw error;
  }
}

describe("a response in the background", () => {
  it("is answered at once, is under way, then done, and can be gone on from", async () => {
    const client = clientOf(await startGateway());
    const { opened, open } = gate();
    says = () => [{ text: "one " }, { wait: opened }, { text: "two" }, { finish: "stop", prompt: 5, completion: 4 }];
    const queued = await begin(client, { metadata: { topic: "numbers" }, instructions: "count" });
    expect(queued).toMatchObject({ status: "queued", background: true, store: true, output: [], model: "small" });
    expectValid("Response", queued);
    let now: Response | undefined;
    await waitUntil(async () => (now = await client.responses.retrieve(queued.id)).status === "in_progress");
    expect([now?.id, now?.metadata]).toEqual([queued.id, { topic: "numbers" }]);
    expect(await statusOf(begin(client, { background: false, previous_response_id: queued.id }))).toBe(400);
    open();
    const response = await done(client, queued.id);
    expect(response).toMatchObject({ status: "completed", background: true, output_text: "one two" });
    expectValid("Response", response);
    const next = await client.responses.create({ model: "small", input: "on", previous_response_id: queued.id });
    expect(next.output_text).toBe("one two");
    const [record] = (await place.records(2)).filter(({ completionTokens }) => completionTokens === 4);
    expect(record).toMatchObject({ path: "/v1/responses", model: "small", outcome: "complete", status: 200 });
  });

  it("goes on when its client leaves, and is read again from where that was, by several at once", async () => {
    const gateway = await startGateway();
    const client = clientOf(gateway);
    const { opened, open } = gate();
    says = () => [{ text: "a" }, { text: "b" }, { wait: opened }, { text: "c" }, { finish: "stop" }];
    const first = await openRaw(`${gateway.url}/v1/responses`, {
      headers: { authorization: `Bearer ${key}` },
      body: { model: "small", input: "count", background: true, stream: true },
    });
    const id = await first.until(/resp_\w+/);
    await first.until(/"delta":"b"/);
    first.leave();
    const readers = [
      collect(await client.responses.retrieve(id, { stream: true })),
      collect(await client.responses.retrieve(id, { stream: true, starting_after: 3 })),
    ];
    await waitUntil(async () => (await client.responses.retrieve(id)).status === "in_progress");
    open();
    const [all, rest] = (await Promise.all(readers)) as [Event[], Event[]];
    expect(all.map(({ sequence_number: number }) => number)).toEqual(all.map((_, index) => index));
    for (const event of all) expectValid("ResponseStreamEvent", event);
    const said = all.flatMap((event) => (event.type === "response.output_text.delta" ? [event.delta] : []));
    expect([all[0]?.type, said.join(""), all.at(-1)?.type]).toEqual(["response.created", "abc", "response.completed"]);
    expect(rest).toEqual(all.slice(4));
    // The same again when it is done, from what is kept.
    expect(await collect(await client.responses.retrieve(id, { stream: true, starting_after: 1 }))).toEqual(
      all.slice(2),
    );
    const replayed = client.responses.stream({ response_id: id, starting_after: 4 });
    expect((await replayed.finalResponse()).output_text).toBe("abc");
  });

  it("is cancelled with its work upstream", async () => {
    const client = clientOf(await startGateway());
    says = () => [{ text: "a" }, { wait: new Promise(() => undefined) }];
    const streamed = (await client.responses.create({
      model: "small",
      input: "count",
      background: true,
      stream: true,
    })) as AsyncIterable<Event>;
    const types: string[] = [];
    let id = "";
    for await (const event of streamed) {
      types.push(event.type);
      if ("response" in event) ({ id } = event.response);
      if (event.type !== "response.output_text.delta") continue;
      expect(await statusOf(clientOf(gateways[0]!, otherKey).responses.cancel(id))).toBe(404);
      const cancelled = await client.responses.cancel(id);
      expect([cancelled.id, cancelled.status]).toEqual([id, "cancelled"]);
    }
    expect(types.at(-1)).toBe("response.cancelled");
    await upstream.to("/v1/chat/completions").at(-1)!.left;
    expect((await client.responses.cancel(id)).status).toBe("cancelled");
    expect((await client.responses.retrieve(id)).status).toBe("cancelled");
  });

  it("is refused before it is queued where a limit or the body is against it", async () => {
    const poor = await place.createKey("poor", { limits: { requestsPerMinute: 1 } });
    const gateway = await startGateway();
    const client = clientOf(gateway, poor);
    expect((await begin(client)).status).toBe("queued");
    expect(await statusOf(begin(client))).toBe(429);
    expect(await statusOf(begin(clientOf(gateway), { temperature: "hot" }))).toBe(400);
    expect(await statusOf(begin(clientOf(gateway), { store: false }))).toBe(400);
  });

  it("is one of a bounded number", async () => {
    const gateway = await startGateway();
    const { opened, open } = gate();
    says = () => [{ text: "a" }, { wait: opened }, { finish: "stop" }];
    const client = clientOf(gateway);
    const all = await Promise.all(Array.from({ length: 16 }, () => begin(client)));
    expect(await statusOf(begin(client))).toBe(429);
    expect((await begin(clientOf(gateway, otherKey))).status).toBe("queued");
    open();
    for (const { id } of all) expect((await done(client, id)).status).toBe("completed");
    await waitUntil(async () => (await statusOf(begin(client))) === 200, "there is room again");
  });

  it("is failed, with why, where its upstream fails", async () => {
    const client = clientOf(await startGateway());
    says = () => [{ text: "a" }, { die: true }];
    const { id } = await begin(client);
    const response = await done(client, id);
    expect([response.status, response.error?.code]).toEqual(["failed", "server_error"]);
    expectValid("Response", response);
    says = plain;
    expect(await statusOf(client.responses.create({ model: "small", input: "on", previous_response_id: id }))).toBe(
      400,
    );
  });

  it("is gone, and its work too, when it is deleted under way", async () => {
    const client = clientOf(await startGateway());
    says = () => [{ text: "a" }, { wait: new Promise(() => undefined) }];
    const { id } = await begin(client);
    await waitUntil(async () => (await client.responses.retrieve(id)).status === "in_progress");
    await client.responses.delete(id);
    await upstream.to("/v1/chat/completions").at(-1)!.left;
    expect(await statusOf(client.responses.retrieve(id))).toBe(404);
  });

  it("is failed when the server is stopped meanwhile", async () => {
    const first = await startGateway();
    says = () => [{ text: "a" }, { wait: new Promise(() => undefined) }];
    const { id } = await begin(clientOf(first));
    await gateways.splice(0)[0]!.close();
    const response = await clientOf(await startGateway()).responses.retrieve(id);
    expect([response.status, response.error?.code]).toEqual(["failed", "server_error"]);
    expect(response.error?.message).toContain("stopped");
  });

  it("cannot be read as events when it was not asked for as events, nor cancelled when it is none", async () => {
    const client = clientOf(await startGateway());
    const { opened, open } = gate();
    says = () => [{ wait: opened }, ...plain()];
    const { id } = await begin(client);
    expect(await statusOf(client.responses.retrieve(id, { stream: true }))).toBe(400);
    open();
    await done(client, id);
    const replayed = await collect(await client.responses.retrieve(id, { stream: true }));
    expect(replayed.map(({ type }) => type)).toEqual(["response.created", "response.completed"]);
    const other = await client.responses.create({ model: "small", input: "x" });
    expect(await statusOf(client.responses.cancel(other.id))).toBe(400);
    const { status } = await ask(`${gateways[0]!.url}/v1/responses/${id}?stream=true&starting_after=no`, {
      method: "GET",
      headers: { authorization: `Bearer ${key}` },
    });
    expect(status).toBe(400);
  });
});
