import OpenAI from "openai";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type ByteStream, toIterable } from "../../src/core/bytes.ts";
import { Call, errorReply, type Handler, jsonReply, type Reply } from "../../src/core/call.ts";
import { Departure } from "../../src/core/departure.ts";
import { ApiError, toApiError } from "../../src/core/errors.ts";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { listen, type RunningServer } from "../../src/http/server.ts";
import { line, type LineSettings } from "../../src/limits/line.ts";
import { compose } from "../../src/pipeline/compose.ts";
import { errors } from "../../src/pipeline/errors.ts";
import { eventStreamHeaders } from "../../src/wire/headers.ts";
import { parseSse } from "../../src/wire/sse.ts";

afterEach(async () => {
  // What was put off to the end of a turn is not to be lost with the clock, nor to meet the next one's.
  if (vi.isFakeTimers()) vi.advanceTimersByTime(1);
  vi.useRealTimers();
  await new Promise((resolve) => setImmediate(resolve));
});

function settings(fields: Partial<LineSettings> = {}): LineSettings {
  return { concurrent: 1, waiting: 64, longest: 600_000, models: {}, heartbeat: 15_000, ...fields };
}

/** A handler whose answers a test gives by hand, in the order in which it is asked. */
class Kitchen {
  /** Who was asked for, by the request's id. */
  readonly served: string[] = [];
  underWay = 0;
  most = 0;
  readonly #open = new Map<string, (reply: Reply | Error) => void>();

  readonly handler: Handler = (call) => {
    this.served.push(call.id);
    this.most = Math.max(this.most, ++this.underWay);
    return new Promise<Reply>((resolve, reject) => {
      const finish = (reply: Reply | Error): void => {
        if (!this.#open.delete(call.id)) return;
        this.underWay--;
        if (reply instanceof Error) reject(reply);
        else resolve(reply);
      };
      this.#open.set(call.id, finish);
      call.leaving.addEventListener("abort", () => finish(new ApiError("client_closed_request", "gone")));
    });
  };

  answer(id: string, reply: Reply | Error = jsonReply(200, { id })): Promise<void> {
    this.#open.get(id)!(reply);
    return settled();
  }
}

interface Asked {
  readonly id: string;
  readonly principal?: string;
  readonly model?: string;
  readonly path?: string;
  readonly body?: JsonObject;
}

interface Guest {
  readonly reply: Promise<Reply>;
  readonly departure: Departure;
}

/** Everything that has been resolved, and what follows from it. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

function call({ id, principal = "anna", model = "m", path = "/v1/chat/completions", body = {} }: Asked): {
  call: Call;
  departure: Departure;
} {
  const departure = new Departure();
  const made = new Call({
    id,
    method: "POST",
    path,
    signal: departure,
    body: Buffer.from(JSON.stringify({ model, messages: [], ...body })),
  });
  made.principal = { id: principal, name: principal, roles: new Set(["inference"] as const), limits: {} };
  return { call: made, departure };
}

/** A queue in front of a kitchen: `come` is a call that arrives. */
function restaurant(fields: Partial<LineSettings> = {}) {
  const kitchen = new Kitchen();
  const handler = compose([line(settings(fields))], kitchen.handler);
  const come = async (asked: Asked): Promise<Guest> => {
    const { call: made, departure } = call(asked);
    const reply = handler(made);
    reply.catch(() => undefined);
    await settled();
    return { reply, departure };
  };
  return { kitchen, come };
}

async function codeOf(reply: Promise<Reply>): Promise<string> {
  return reply.then(
    () => "answered",
    (error: unknown) => toApiError(error).code,
  );
}

/** A stream that says its events and then ends when it is told to. */
function eventStream(events: string): { reply: Reply; end: () => void; cancelled: () => boolean } {
  let finish = (): void => undefined;
  let gone = false;
  const body: ByteStream = {
    start: (sink) => {
      sink.write(events);
      finish = () => sink.end();
    },
    resume: () => undefined,
    cancel: () => (gone = true),
  };
  return { reply: { status: 200, headers: eventStreamHeaders, body }, end: () => finish(), cancelled: () => gone };
}

describe("a line", () => {
  it("is none where nothing bounds the calls", async () => {
    const { kitchen, come } = restaurant({ concurrent: 0 });
    for (const id of ["a", "b", "c"]) await come({ id });
    expect(kitchen.served).toEqual(["a", "b", "c"]);
  });

  it("lets so many in at a time, for each model by itself", async () => {
    const { kitchen, come } = restaurant({
      concurrent: 2,
      models: { "big*": { concurrent: 1 }, free: { concurrent: 0 } },
    });
    for (const id of ["a", "b", "c"]) await come({ id });
    for (const id of ["x", "y"]) await come({ id, model: "big-1" });
    for (const id of ["1", "2", "3", "4"]) await come({ id, model: "free" });
    await come({ id: "z", model: "big-2" });
    expect(kitchen.served).toEqual(["a", "b", "x", "1", "2", "3", "4", "z"]);
    await kitchen.answer("b");
    await kitchen.answer("x");
    expect(kitchen.served.slice(8)).toEqual(["c", "y"]);
  });

  it("serves callers in turn, whoever asks for more, and each caller's calls as they came", async () => {
    const { kitchen, come } = restaurant();
    await come({ id: "first" });
    for (const id of ["a1", "a2", "a3", "a4"]) await come({ id, principal: "anna" });
    for (const id of ["b1", "b2"]) await come({ id, principal: "berta" });
    await come({ id: "c1", principal: "clara" });
    for (let turn = 0; turn < 7; turn++) await kitchen.answer(kitchen.served.at(-1)!);
    expect(kitchen.served.slice(1)).toEqual(["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    expect(kitchen.most).toBe(1);
  });

  it("puts what may wait behind all others", async () => {
    const { kitchen, come } = restaurant();
    await come({ id: "first" });
    await come({ id: "flex", body: { service_tier: "flex" } });
    await come({ id: "usual" });
    await kitchen.answer("first");
    await kitchen.answer("usual");
    expect(kitchen.served).toEqual(["first", "usual", "flex"]);
  });

  it("has an end: one too many is refused, with a code on which clients come back", async () => {
    const { kitchen, come } = restaurant({ waiting: 2 });
    for (const id of ["a", "b", "c"]) await come({ id });
    const refusal = await (await come({ id: "d" })).reply.catch((error: unknown) => error as ApiError);
    expect(refusal).toMatchObject({
      code: "rate_limit_exceeded",
      status: 429,
      retryAfter: 5,
      message: 'the line of calls for the model "m": 1 call is under way and 2 wait, which are all that may',
    });
    await kitchen.answer("a");
    await come({ id: "e" });
    await kitchen.answer("b");
    await kitchen.answer("c");
    expect(kitchen.served).toEqual(["a", "b", "c", "e"]);
  });

  it("with no room for waiting refuses at once", async () => {
    const { come } = restaurant({ waiting: 0 });
    await come({ id: "a" });
    expect(await codeOf((await come({ id: "b" })).reply)).toBe("rate_limit_exceeded");
  });

  it("is left after the longest wait", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { kitchen, come } = restaurant({ longest: 30_000 });
    await come({ id: "a" });
    const { reply } = await come({ id: "b" });
    vi.advanceTimersByTime(30_000);
    expect(await reply.catch((error: unknown) => (error as ApiError).message)).toContain("waited for 30 s");
    await come({ id: "c" });
    await kitchen.answer("a");
    expect(kitchen.served).toEqual(["a", "c"]);
  });

  it("is left by whoever goes, and the next moves up", async () => {
    const { kitchen, come } = restaurant();
    await come({ id: "a" });
    const b = await come({ id: "b" });
    await come({ id: "c" });
    b.departure.leave();
    expect(await codeOf(b.reply)).toBe("client_closed_request");
    await kitchen.answer("a");
    expect(kitchen.served).toEqual(["a", "c"]);
  });

  it("has each place back once, however its call ended", async () => {
    const { kitchen, come } = restaurant({ concurrent: 2 });
    const stream = eventStream("data: 1\n\n");
    const broken = eventStream("data: 1\n\n");
    const endings: ((id: string, guest: Guest) => Promise<void>)[] = [
      (id) => kitchen.answer(id),
      (id) => kitchen.answer(id, new ApiError("upstream_error", "it failed")),
      (id) => kitchen.answer(id, new TypeError("a bug")),
      async (_id, guest) => guest.departure.leave(),
      async (id, guest) => {
        await kitchen.answer(id, stream.reply);
        const { body } = await guest.reply;
        const read = toIterable(body as ByteStream);
        await read.next();
        stream.end();
        await read.next();
      },
      async (id, guest) => {
        await kitchen.answer(id, broken.reply);
        const body = (await guest.reply).body as ByteStream;
        body.start({ write: () => true, end: () => undefined, fail: () => undefined });
        body.cancel();
        body.cancel();
      },
    ];
    const guests = new Map<string, Guest>();
    for (let turn = 0; turn < 24; turn++) guests.set(String(turn), await come({ id: String(turn) }));
    for (let turn = 0; turn < 24; turn++) {
      await endings[turn % endings.length]!(String(turn), guests.get(String(turn))!);
      await settled();
      expect(kitchen.served.length).toBe(Math.min(24, turn + 3));
    }
    // All places are free again, and not one more.
    for (let turn = 0; turn < 3; turn++) await come({ id: `later-${turn}` });
    expect(kitchen.served.length).toBe(26);
  });

  it("is not for calls that ask no model, or for what no model has to work for", async () => {
    const { kitchen, come } = restaurant();
    await come({ id: "a" });
    await come({ id: "b", path: "/tokenize", body: { content: "x" } });
    await come({ id: "c", model: "" });
    await come({ id: "d", path: "/v1/embeddings", body: { input: "x" } });
    expect(kitchen.served).toEqual(["a", "b", "c"]);
  });
});

describe("a streamed call that waits", () => {
  /** Reads what a stream brings, piece by piece. */
  async function next(pieces: AsyncGenerator<Uint8Array>): Promise<string> {
    const step = await pieces.next();
    return step.done === true ? "the end" : Buffer.from(step.value).toString();
  }

  async function waiting(fields: Partial<LineSettings> = {}, path = "/v1/chat/completions") {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "setImmediate"] });
    const { kitchen, come } = restaurant(fields);
    await come({ id: "a" });
    await come({ id: "b", principal: "berta" });
    const guest = await come({ id: "c", path, body: { stream: true } });
    vi.advanceTimersByTime(999);
    let head: Reply | undefined;
    void guest.reply.then((reply) => (head = reply));
    await settled();
    expect(head).toBeUndefined();
    vi.advanceTimersByTime(1);
    const reply = await guest.reply;
    const pieces = toIterable(reply.body as ByteStream);
    return { kitchen, come, guest, reply, pieces };
  }

  it("is told its place after a second, whenever that changes, and at each heartbeat", async () => {
    const { kitchen, come, reply, pieces } = await waiting();
    expect(reply).toMatchObject({ status: 200, headers: { "content-type": "text/event-stream; charset=utf-8" } });
    expect(await next(pieces)).toBe(": waiting in line, position 2 of 2\n\n");
    await come({ id: "d", principal: "dora" });
    vi.advanceTimersByTime(15_000);
    expect(await next(pieces)).toBe(": waiting in line, position 2 of 3\n\n");
    await kitchen.answer("a");
    vi.advanceTimersByTime(1);
    expect(await next(pieces)).toBe(": waiting in line, position 1 of 2\n\n");
    await kitchen.answer("b");
    vi.advanceTimersByTime(15_000);
    expect(await next(pieces)).toBe(": ping\n\n");
    const stream = eventStream("data: 1\n\n");
    await kitchen.answer("c", stream.reply);
    expect(await next(pieces)).toBe("data: 1\n\n");
    stream.end();
    expect(await next(pieces)).toBe("the end");
    await settled();
    expect(kitchen.served).toEqual(["a", "b", "c", "d"]);
  });

  it("moves back when a caller who has waited for nothing yet comes in between", async () => {
    const { come, pieces, kitchen } = await waiting();
    await next(pieces);
    // Anna's second call stands behind everybody's first.
    const second = await come({ id: "a2", body: { stream: true } });
    await come({ id: "d", principal: "dora" });
    vi.advanceTimersByTime(1000);
    const told = toIterable((await second.reply).body as ByteStream);
    expect(await next(told)).toBe(": waiting in line, position 4 of 4\n\n");
    await come({ id: "e", principal: "emma" });
    vi.advanceTimersByTime(1);
    expect(await next(told)).toBe(": waiting in line, position 5 of 5\n\n");
    expect(kitchen.served).toEqual(["a"]);
  });

  it.each([
    [
      "/v1/chat/completions",
      'data: {"error":{"message":"it failed","type":"server_error","param":null,"code":"upstream_error"}}\n\ndata: [DONE]\n\n',
    ],
    [
      "/v1/responses",
      'event: error\ndata: {"type":"error","code":"upstream_error","message":"it failed","param":null,"sequence_number":0}\n\n',
    ],
    [
      "/v1/messages",
      'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"it failed","details":{"error_code":"upstream_error"}}}\n\n',
    ],
  ])("of %s is told of a failure in the words of its API", async (path, events) => {
    const { kitchen, pieces } = await waiting({}, path);
    await next(pieces);
    await kitchen.answer("a");
    await kitchen.answer("b");
    await kitchen.answer("c", new ApiError("upstream_error", "it failed"));
    vi.advanceTimersByTime(1);
    expect(await next(pieces)).toBe(events);
    expect(await next(pieces)).toBe("the end");
  });

  it("is told of a refusal that came as a reply", async () => {
    const { kitchen, pieces } = await waiting();
    await next(pieces);
    await kitchen.answer("a");
    await kitchen.answer("b");
    const refusal = errorReply(new ApiError("model_not_found", "there is no m", { param: "model", provider: "vllm" }));
    await kitchen.answer("c", refusal);
    expect(await next(pieces)).toBe(
      'data: {"error":{"message":"there is no m","type":"invalid_request_error","param":"model","code":"model_not_found"},"provider":"vllm"}\n\ndata: [DONE]\n\n',
    );
  });

  it("is told when it has waited too long", async () => {
    const { pieces } = await waiting({ longest: 20_000, heartbeat: 60_000 });
    await next(pieces);
    vi.advanceTimersByTime(19_000);
    expect(await next(pieces)).toContain('"code":"rate_limit_exceeded"');
  });

  it("gives its place up when its reader goes, before its turn and after it", async () => {
    const { kitchen, come, guest } = await waiting();
    await come({ id: "d" });
    ((await guest.reply).body as ByteStream).cancel();
    const late = await come({ id: "e", principal: "emma", body: { stream: true } });
    vi.advanceTimersByTime(1000);
    const { body } = await late.reply;
    await kitchen.answer("a");
    await kitchen.answer("b");
    await kitchen.answer("d");
    expect(kitchen.served).toEqual(["a", "b", "d", "e"]);
    // It is being answered, but nobody has begun to read.
    (body as ByteStream).cancel();
    const stream = eventStream("data: 1\n\n");
    await kitchen.answer("e", stream.reply);
    expect(stream.cancelled()).toBe(true);
    await come({ id: "f" });
    expect(kitchen.served.at(-1)).toBe("f");
  });
});

describe("over real connections", () => {
  const servers: RunningServer[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close(0);
  });

  it("a client of OpenAI's reads its answer through the comments, and a reader of events sees none of them", async () => {
    const kitchen = new Kitchen();
    const handler = compose([errors(silent), line(settings())], kitchen.handler);
    const server = await listen({
      host: "127.0.0.1",
      port: 0,
      handler,
      log: silent,
      bodyLimit: 1 << 20,
      headerLimit: 8192,
      headersTimeout: 10_000,
      requestTimeout: 10_000,
      keepAliveTimeout: 5000,
      stallTimeout: 60_000,
    });
    servers.push(server);
    const url = `http://127.0.0.1:${server.port}/v1`;
    const post = (id: string, body: Json): Promise<Response> =>
      fetch(`${url}/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-request-id": id },
        body: JSON.stringify(body),
      });
    const first = post("first", { model: "m", messages: [] });
    await vi.waitFor(() => expect(kitchen.served).toEqual(["first"]));
    const client = new OpenAI({
      baseURL: url,
      apiKey: "none",
      maxRetries: 0,
      defaultHeaders: { "x-request-id": "second" },
    });
    // Its head comes though the first is not answered.
    const stream = await client.chat.completions.create({ model: "m", messages: [], stream: true });
    const third = await post("third", { model: "m", messages: [], stream: true });
    const events = parseSse(third.body as unknown as AsyncIterable<Uint8Array>);
    await kitchen.answer("first");
    expect((await first).status).toBe(200);
    await vi.waitFor(() => expect(kitchen.served).toContain("second"));
    const chunk = { id: "x", object: "chat.completion.chunk", choices: [{ index: 0, delta: { content: "Hi" } }] };
    const text = `data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n`;
    await kitchen.answer("second", { status: 200, headers: eventStreamHeaders, body: text });
    const said: (string | null | undefined)[] = [];
    for await (const { choices } of stream) said.push(choices[0]?.delta.content);
    expect(said).toEqual(["Hi"]);
    await vi.waitFor(() => expect(kitchen.served).toContain("third"));
    await kitchen.answer("third", { status: 200, headers: eventStreamHeaders, body: text });
    const data: string[] = [];
    for await (const event of events) data.push(event.data);
    expect(data).toEqual([JSON.stringify(chunk), "[DONE]"]);
  });
});
