import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type FakeServer, gate, type Step } from "../support/fake-server.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { expectValid } from "../support/openai-spec.ts";
import { ask, open as openRaw } from "../support/tunnel-caller.ts";

// What a gateway with a state in a file keeps of the Responses API, by OpenAI's own client.

let upstream: FakeServer;
let place: Place;
let gateway: HeldGateway;
let key: string;
let otherKey: string;
let client: OpenAI;
/** What the upstream says next; by itself it tells what it was asked. */
let says: ((said: string) => Step[]) | undefined;

/** The conversation as the model sees it: `user:hi assistant:hello`. */
function seen(body: JsonObject): string {
  const messages = body.messages as { role: string; content: unknown }[];
  return messages.map(({ role, content }) => `${role}:${textOf(content)}`).join(" ");
}

function textOf(content: unknown): string {
  return Array.isArray(content) ? content.map((part: { text?: string }) => part.text ?? "").join("") : String(content);
}

beforeAll(async () => {
  upstream = await startFakeOpenAi({
    models: ["small"],
    contextLength: 100_000,
    reply: (body) => says?.(seen(body)) ?? [{ text: `[${seen(body)}]` }, { finish: "stop" }],
  });
});
afterAll(() => upstream.close());
beforeEach(async () => {
  says = undefined;
  place = await openPlace();
  key = await place.createKey("one");
  otherKey = await place.createKey("two");
  gateway = await holdGateway(place, `llama=${upstream.url}`, { LAIR_GATEWAY_UPSTREAMS_LLAMA_KIND: "openai" });
  client = clientOf(key);
});
afterEach(async () => {
  await gateway.close();
  await place.close();
});

function clientOf(apiKey: string): OpenAI {
  return new OpenAI({ apiKey, baseURL: `${gateway.url}/v1`, maxRetries: 0 });
}

/** OpenAI's types leave out that a response says whether it is stored. */
type Response = OpenAI.Responses.Response & { store?: boolean };

const create = (input: string, more: object = {}): Promise<Response> =>
  client.responses.create({ model: "small", input, ...more });

/** What was thrown, as the client tells it. */
async function failureOf(promise: PromiseLike<unknown>): Promise<{ status: unknown; code: unknown; param: unknown }> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, param } = error as { status: unknown; code: unknown; param: unknown };
    return { status, code, param };
  }
  throw new Error("it did not fail");
}

describe("a conversation that goes on from a response", () => {
  it("brings all that was said before, but not the instructions of before", async () => {
    const first = await create("one", { instructions: "be terse" });
    expect(first.output_text).toBe("[system:be terse user:one]");
    expect([first.store, first.previous_response_id]).toEqual([true, null]);
    const second = await create("two", { previous_response_id: first.id });
    expect(second.output_text).toBe("[user:one assistant:[system:be terse user:one] user:two]");
    expect(second.previous_response_id).toBe(first.id);
    expectValid("Response", second);
    const third = await create("three", { previous_response_id: second.id, instructions: "shout" });
    expect(third.output_text).toMatch(/^\[system:shout user:one assistant:.* user:two assistant:.* user:three\]$/);
    // Another branch from the same response.
    const other = await create("else", { previous_response_id: first.id });
    expect(other.output_text).toBe("[user:one assistant:[system:be terse user:one] user:else]");
  });

  it("goes on from a streamed response as soon as its last event is there, and without `store` too", async () => {
    const stream = await client.responses.create({ model: "small", input: "one", stream: true });
    let id = "";
    const types: string[] = [];
    const ids = new Set<string>();
    for await (const event of stream) {
      types.push(event.type);
      expectValid("ResponseStreamEvent", event);
      if (!("response" in event)) continue;
      ids.add(event.response.id);
      if (event.type !== "response.completed") continue;
      ({ id } = event.response);
      const second = await create("two", { previous_response_id: id, store: false });
      expect(second.output_text).toBe("[user:one assistant:[user:one] user:two]");
      expect([second.store, second.previous_response_id]).toEqual([false, id]);
      expect(await failureOf(client.responses.retrieve(second.id))).toMatchObject({ status: 404 });
    }
    expect([types[0], types.at(-1), ids.size]).toEqual(["response.created", "response.completed", 1]);
    expect((await client.responses.retrieve(id)).output_text).toBe("[user:one]");
  });

  it("holds over many more turns than one response points back at", { timeout: 20_000 }, async () => {
    says = () => [{ text: "ok" }, { finish: "stop" }];
    let id: string | undefined;
    for (let turn = 0; turn < 40; turn++)
      ({ id } = await create(`t${turn}`, id === undefined ? {} : { previous_response_id: id }));
    says = undefined;
    const last = await create("end", { previous_response_id: id });
    const turns = Array.from({ length: 40 }, (_, turn) => `user:t${turn} assistant:ok`).join(" ");
    expect(last.output_text).toBe(`[${turns} user:end]`);
  });

  it("refuses an id that is unknown, another key's, or not to be kept in OpenAI's words", async () => {
    const mine = await create("one");
    const unkept = await create("one", { store: false });
    const refusal = { status: 400, code: "previous_response_not_found", param: "previous_response_id" };
    const item = `item/${mine.output[0]!.id!}`;
    for (const id of ["resp_nothing", unkept.id, "x".repeat(10_000), "../health", "resp_1/cancel", item, ""])
      expect(await failureOf(create("two", { previous_response_id: id }))).toEqual(refusal);
    client = clientOf(otherKey);
    expect(await failureOf(create("two", { previous_response_id: mine.id }))).toEqual(refusal);
    expect(await failureOf(client.responses.retrieve(mine.id))).toMatchObject({ status: 404 });
    expect(await failureOf(client.responses.delete(mine.id))).toMatchObject({ status: 404 });
    expect(await failureOf(client.responses.cancel(mine.id))).toMatchObject({ status: 404 });
    expect(await failureOf(client.responses.inputItems.list(mine.id))).toMatchObject({ status: 404 });
  });

  it("goes on with the turns that stand behind a deleted one, which itself is gone", async () => {
    const first = await create("one");
    const second = await create("two", { previous_response_id: first.id });
    await client.responses.delete(first.id);
    expect(await failureOf(client.responses.retrieve(first.id))).toMatchObject({ status: 404 });
    expect(await failureOf(client.responses.delete(first.id))).toMatchObject({ status: 404 });
    expect(await failureOf(create("three", { previous_response_id: first.id }))).toMatchObject({ status: 400 });
    const third = await create("three", { previous_response_id: second.id });
    expect(third.output_text).toContain("user:one");
    await client.responses.delete(third.id);
    expect(await place.state.responses.get(first.id, third.id)).toBeUndefined();
  });

  it("puts in the items that an input only refers to, and leaves out those that nobody kept", async () => {
    const first = await create("one");
    const [item] = first.output;
    const answer = await client.responses.create({
      model: "small",
      input: [
        { role: "user", content: "one" },
        { type: "item_reference", id: item!.id! },
        { type: "item_reference", id: "msg_of_nobody" },
        { role: "user", content: "two" },
      ],
      store: false,
    });
    expect(answer.output_text).toBe("[user:one assistant:[user:one] user:two]");
  });

  it("counts the tokens of the whole conversation, and compacts all of it", async () => {
    const first = await create("one two three four five");
    const count = async (more: object): Promise<number> => {
      const body = { model: "small", input: "six", ...more };
      const headers = { authorization: `Bearer ${key}` };
      const { status, text } = await ask(`${gateway.url}/v1/responses/input_tokens`, { headers, body });
      expect([status, text]).toEqual([200, expect.stringContaining("input_tokens")]);
      return (JSON.parse(text) as { input_tokens: number }).input_tokens;
    };
    expect(await count({ previous_response_id: first.id })).toBeGreaterThan(await count({}));
  });

  it("says what it cannot do", async () => {
    for (const [more, param] of [
      [{ conversation: "conv_1" }, "conversation"],
      [{ prompt: { id: "p" } }, "prompt"],
      [{ background: true, store: false }, "background"],
      [{ store: "yes" }, "store"],
      [{ previous_response_id: 7 }, "previous_response_id"],
    ] as const)
      expect(await failureOf(create("one", more))).toMatchObject({ status: 400, param });
  });
});

describe("a kept response", () => {
  it("can be fetched, and its whole input listed page by page", async () => {
    const first = await create("one");
    const second = await client.responses.create({
      model: "small",
      previous_response_id: first.id,
      input: [
        { role: "developer", content: "a rule" },
        { type: "message", role: "user", content: [{ type: "input_text", text: "two" }], id: "msg_mine" },
      ] as OpenAI.Responses.ResponseInput,
    });
    const fetched = await client.responses.retrieve(second.id);
    expectValid("Response", fetched);
    expect(fetched).toEqual(second);
    const pages = await client.responses.inputItems.list(second.id, { order: "asc", limit: 3 });
    expect([pages.data.length, pages.has_more]).toEqual([3, true]);
    const all: OpenAI.Responses.ResponseItem[] = [];
    for await (const item of client.responses.inputItems.list(second.id, { order: "asc", limit: 3 })) all.push(item);
    const text = (item: object): unknown => (item as { content: { text: string }[] }).content[0]?.text;
    expect(all.map(text)).toEqual(["one", "[user:one]", "a rule", "two"]);
    expect(new Set(all.map(({ id }) => id)).size).toBe(4);
    expect(all[1]?.id).toBe(first.output[0]?.id);
    const newest = await client.responses.inputItems.list(second.id, { limit: 1 });
    expect(newest.data.map(({ id }) => id)).toEqual(["msg_mine"]);
    expect(await failureOf(client.responses.inputItems.list(second.id, { after: "nobody" }))).toMatchObject({
      status: 400,
    });
    expect(await failureOf(client.responses.inputItems.list(second.id, { limit: 0 }))).toMatchObject({ status: 400 });
  });

  it("has an id of its own whatever id its caller gives the call, also twice", async () => {
    const options = { headers: { "x-request-id": "always-the-same" } };
    const one = await client.responses.create({ model: "small", input: "one" }, options);
    const two = await client.responses.create({ model: "small", input: "two" }, options);
    expect(one.id).not.toBe(two.id);
    expect(`${one.id}${two.id}`).not.toContain("always");
    expect((await client.responses.retrieve(one.id)).output_text).toBe("[user:one]");
    expect((await client.responses.retrieve(two.id)).output_text).toBe("[user:two]");
    // What is referred to is the one that was meant.
    const input: OpenAI.Responses.ResponseInput = [
      { type: "item_reference", id: one.output[0]!.id! },
      { role: "user", content: "three" },
    ];
    const third = await client.responses.create({ model: "small", input });
    expect(third.output_text).toBe("[assistant:[user:one] user:three]");
  });

  it("is failed when its answer broke off, and not there when its client left", async () => {
    says = () => [{ text: "half" }, { die: true }];
    const stream = await client.responses.create({ model: "small", input: "one", stream: true });
    let last: OpenAI.Responses.ResponseStreamEvent | undefined;
    await (async () => {
      for await (const event of stream) last = event;
    })().catch(() => undefined);
    expect(last?.type).toBe("response.failed");
    const { id } = (last as OpenAI.Responses.ResponseFailedEvent).response;
    expect((await client.responses.retrieve(id)).status).toBe("failed");
    expect(await failureOf(create("two", { previous_response_id: id }))).toMatchObject({ status: 400 });
    const { opened, open } = gate();
    says = () => [{ text: "half" }, { wait: opened }, { finish: "stop" }];
    const left = await openRaw(`${gateway.url}/v1/responses`, {
      headers: { authorization: `Bearer ${key}` },
      body: { model: "small", input: "one", stream: true },
    });
    const leftId = await left.until(/resp_\w+/);
    await left.until(/half/);
    left.leave();
    await upstream.to("/v1/chat/completions").at(-1)!.left;
    open();
    await left.answer.catch(() => undefined);
    expect(await failureOf(client.responses.retrieve(leftId))).toMatchObject({ status: 404 });
  });

  it("answers other methods and paths as HTTP does", async () => {
    const { id } = await create("one");
    const at = async (method: string, path: string): Promise<unknown[]> => {
      const answer = await ask(`${gateway.url}/v1/responses/${path}`, {
        method,
        headers: { authorization: `Bearer ${key}` },
      });
      return [answer.status, answer.headers["allow"]];
    };
    expect(await at("PUT", id)).toEqual([405, "GET, DELETE"]);
    expect(await at("GET", `${id}/cancel`)).toEqual([405, "POST"]);
    expect(await at("DELETE", `${id}/input_items`)).toEqual([405, "GET"]);
    expect((await at("GET", `${id}/other`))[0]).toBe(404);
    expect((await at("GET", `${"x".repeat(10_000)}`))[0]).toBe(404);
    expect((await at("GET", "%2e%2e%2fhealth"))[0]).toBe(404);
    expect((await at("GET", `item%2F${id}`))[0]).toBe(404);
    expect((await at("GET", `${id}/`))[0]).toBe(200);
    expect((await ask(`${gateway.url}/v1/responses/${id}`, { method: "GET" })).status).toBe(401);
  });

  it("never shows what was said in a log", async () => {
    const { id } = await create("a very secret thing");
    await create("another secret thing", { previous_response_id: id });
    await client.responses.delete(id);
    expect(gateway.log.lines.join("\n")).not.toContain("secret");
  });
});
