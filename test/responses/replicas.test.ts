import { rmSync } from "node:fs";
import OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { start } from "../cli/program.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type FakeServer, gate, type Step } from "../support/fake-server.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// What several gateways, and those that come after a crash, know of each other's responses.

type Response = OpenAI.Responses.Response & { store?: boolean };
type Event = OpenAI.Responses.ResponseStreamEvent;

const missing = redisMissing();
if (missing !== undefined) console.warn(`The tests of responses over Redis are skipped: ${missing}.`);

let upstream: FakeServer;
let place: Place;
let key: string;
let says: () => Step[];
const closing: (() => Promise<unknown>)[] = [];
const asOpenAi = { LAIR_GATEWAY_UPSTREAMS_LLAMA_KIND: "openai" };

beforeEach(async () => {
  says = () => [{ text: "hi" }, { finish: "stop" }];
  upstream = await startFakeOpenAi({ models: ["small"], reply: () => says() });
  closing.push(() => upstream.close());
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function openAt(url?: string): Promise<void> {
  place = await openPlace(url);
  closing.push(() => place.close());
  key = await place.createKey("one");
}

async function gateway(): Promise<HeldGateway> {
  const started = await holdGateway(place, `llama=${upstream.url}`, asOpenAi);
  closing.push(() => started.close());
  return started;
}

function clientOf({ url }: { readonly url: string }): OpenAI {
  return new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0 });
}

const begin = (client: OpenAI, more: object = {}): Promise<Response> =>
  client.responses.create({ model: "small", input: "count", background: true, ...more }) as Promise<Response>;

async function until(client: OpenAI, id: string, status: string): Promise<Response> {
  let response: Response | undefined;
  await waitUntil(async () => (response = await client.responses.retrieve(id)).status === status, `${id} is ${status}`);
  return response!;
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

describe.skipIf(missing !== undefined)("two gateways over one Redis", () => {
  let redis: RedisServer;
  let one: OpenAI;
  let two: OpenAI;
  let log: HeldGateway["log"];
  beforeEach(async () => {
    redis = await startRedis();
    closing.push(() => redis.close());
    await openAt(redis.url);
    const gateways = [await gateway(), await gateway()] as const;
    ({ log } = gateways[0]);
    [one, two] = [clientOf(gateways[0]), clientOf(gateways[1])];
  });

  it("go on from each other's responses, and delete them", async () => {
    const first = await one.responses.create({ model: "small", input: "hello" });
    const second = await two.responses.create({ model: "small", input: "more", previous_response_id: first.id });
    expect((await one.responses.retrieve(second.id)).output_text).toBe("hi");
    const items = await one.responses.inputItems.list(second.id, { order: "asc" });
    expect(items.data.map((item) => (item as { role?: string }).role)).toEqual(["user", "assistant", "user"]);
    await two.responses.delete(first.id);
    expect(await statusOf(one.responses.retrieve(first.id))).toBe(404);
  });

  it("see what the other one does in the background, read its events in the end, and cancel it", async () => {
    const { opened, open } = gate();
    says = () => [{ text: "a" }, { wait: opened }, { text: "b" }, { finish: "stop" }];
    const events = (await one.responses.create({
      model: "small",
      input: "count",
      background: true,
      stream: true,
    })) as AsyncIterable<Event>;
    const [all, later]: [Event[], Event[]] = [[], []];
    let elsewhere: Promise<void> | undefined;
    for await (const event of events) {
      all.push(event);
      if (event.type !== "response.output_text.delta" || event.delta !== "a") continue;
      const { id } = (all[0] as OpenAI.Responses.ResponseCreatedEvent).response;
      await until(two, id, "in_progress");
      const stream = await two.responses.retrieve(id, { stream: true, starting_after: 2 });
      elsewhere = (async () => {
        for await (const one of stream) later.push(one);
      })();
      open();
    }
    await elsewhere;
    expect(later).toEqual(all.slice(3));
    says = () => [{ text: "a" }, { wait: new Promise(() => undefined) }];
    const { id } = await begin(one);
    await until(two, id, "in_progress");
    expect((await two.responses.cancel(id)).status).toBe("cancelled");
    await upstream.to("/v1/chat/completions").at(-1)!.left;
    expect((await one.responses.retrieve(id)).status).toBe("cancelled");
  });

  it("answer on while there is no room for what would be kept, and say so", async () => {
    await redis.cli("CONFIG", "SET", "maxmemory", "1");
    const whole: Response = await one.responses.create({ model: "small", input: "a secret" });
    expect([whole.output_text, whole.store]).toEqual(["hi", false]);
    const types: string[] = [];
    let last: Event | undefined;
    const stream = await one.responses.create({ model: "small", input: "a secret", stream: true });
    for await (const event of stream) types.push((last = event).type);
    expect(types.at(-1)).toBe("response.completed");
    expect((last as OpenAI.Responses.ResponseCompletedEvent).response).toMatchObject({ store: false });
    const warning = await log.until(/a response could not be kept/);
    expect(warning).toContain("warn");
    expect(log.lines.join("\n")).not.toContain("a secret");
    expect(await statusOf(one.responses.retrieve(whole.id))).toBe(404);
    // What cannot be kept cannot be made in the background either.
    expect(await statusOf(begin(one))).toBe(503);
    await redis.cli("CONFIG", "SET", "maxmemory", "0");
    await waitUntil(async () => (await statusOf(begin(one))) === 200, "it takes writes again");
  });

  it("refuse to go on from what they cannot see while Redis is away", async () => {
    const { id } = await one.responses.create({ model: "small", input: "hello" });
    await redis.stop();
    const again = one.responses.create({ model: "small", input: "more", previous_response_id: id });
    expect(await statusOf(again)).toBe(503);
    expect(await statusOf(one.responses.create({ model: "small", input: "new" }))).toBe(200);
    expect(await statusOf(one.responses.create({ model: "small", input: "new", store: false }))).toBe(200);
  });
});

describe("a gateway that is killed", () => {
  it("leaves what it was at work on as failed, and what was done as it was", { timeout: 40_000 }, async () => {
    await openAt();
    const args = ["gateway", "--port", "0", "--upstream", `llama=${upstream.url}`];
    const program = start(args, { cwd: place.folder, env: { LAIR_STATE: place.file, ...asOpenAi } });
    closing.push(async () => {
      program.child.kill("SIGKILL");
      await program.ended;
      rmSync(place.folder, { recursive: true, force: true, maxRetries: 5 });
    });
    const client = clientOf({ url: (await program.until(/"url":"(https?:[^"]+)"/))[1] ?? "" });
    const done = await begin(client);
    await until(client, done.id, "completed");
    says = () => [{ text: "a" }, { wait: new Promise(() => undefined) }];
    const lost = await begin(client);
    await until(client, lost.id, "in_progress");
    program.child.kill("SIGKILL");
    await program.ended;
    const after = clientOf(await gateway());
    const failed = await until(after, lost.id, "failed");
    expect(failed.error).toMatchObject({ code: "server_error", message: expect.stringContaining("stopped") as string });
    expect((await after.responses.retrieve(done.id)).output_text).toBe("hi");
  });
});
