import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { type Call, type Handler, jsonReply } from "../../src/core/call.ts";
import { ApiError } from "../../src/core/errors.ts";
import { errorCodes } from "../../src/tunnel/http2/errors.ts";
import { gate } from "../support/fake-server.ts";
import { ask, serving } from "../support/tunnel-ends.ts";

const chat = { ":path": "/v1/chat/completions", "content-type": "application/json" };

/** A body that the test pushes by hand. */
class Pushed implements ByteStream {
  sink!: ByteSink;
  readonly started = gate();
  readonly cancelled = gate();
  resumed = gate();

  start(sink: ByteSink): void {
    this.sink = sink;
    this.started.open();
  }

  resume(): void {
    this.resumed.open();
    this.resumed = gate();
  }

  cancel(): void {
    this.cancelled.open();
  }
}

const echo: Handler = async (call) =>
  jsonReply(200, {
    id: call.id,
    method: call.method,
    path: call.path,
    search: call.search,
    headers: call.headers,
    body: (await call.bytes()).toString(),
  });

const never: Handler = () => new Promise(() => undefined);

describe("a call over the tunnel", () => {
  test("reaches the handler with what may pass, and its reply comes back", async () => {
    const { relay, outcomes } = serving(echo);
    const asked = await ask(
      relay,
      {
        ...chat,
        ":path": "/v1/chat/completions?x=1",
        "x-request-id": "req-1",
        authorization: "Bearer CALLERS-KEY",
        "x-forwarded-for": "203.0.113.7",
        "content-length": "2",
      },
      "{}",
    ).over();
    expect(asked.state).toBe("ended");
    expect(asked.head).toMatchObject({ ":status": "200", "content-type": "application/json" });
    expect(asked.head["content-length"]).toBe(String(asked.size));
    expect(asked.json).toEqual({
      id: "req-1",
      method: "POST",
      path: "/v1/chat/completions",
      search: "?x=1",
      headers: { "content-type": "application/json", "x-request-id": "req-1", "content-length": "2" },
      body: "{}",
    });
    expect(outcomes).toMatchObject([{ status: 200, end: "complete", bytes: asked.size, path: "/v1/chat/completions" }]);
  });

  test("gets an id of its own where the caller's is missing or no plain one", async () => {
    const { relay } = serving(echo);
    for (const given of [undefined, "a b", "x".repeat(65)]) {
      const asked = await ask(
        relay,
        { ...chat, ...(given === undefined ? {} : { "x-request-id": given }) },
        "{}",
      ).over();
      expect((asked.json as { id: string }).id).toMatch(/^[0-9a-f-]{36}$/);
    }
  });

  test("that may not pass is refused here too, whatever the relay let through, and never reaches the handler", async () => {
    let calls = 0;
    const { relay } = serving(async () => {
      calls++;
      return jsonReply(200, {});
    });
    const refused: [Record<string, string>, number][] = [
      [{ ":path": "/api/pull" }, 404],
      [{ ":path": "/v1/%2e%2e/api/pull" }, 400],
      [{ ":path": "//evil.example/x" }, 400],
      [{ ":path": "/v1/models/\\x", ":method": "GET" }, 400],
      [{ ":path": "/v1/models/../../slots", ":method": "GET" }, 400],
      [{ ":path": "/.lair/control" }, 404],
      [{ ...chat, ":method": "PUT" }, 405],
      [{ ...chat, "content-encoding": "gzip" }, 415],
      [{ ...chat, accept: "x".repeat(9000), "user-agent": "x".repeat(9000) }, 431],
      [{ ...chat, "content-length": String(100 * 1024 * 1024) }, 413],
    ];
    for (const [headers, status] of refused) {
      const one = ask(relay, headers, "content-length" in headers ? undefined : "{}");
      await one.over();
      expect([headers[":path"], one.head[":status"]]).toEqual([headers[":path"], String(status)]);
      expect((one.json as { error: { code: string } }).error.code).toMatch(/^[a-z_]+$/);
    }
    expect(calls).toBe(0);
  });

  test("that the handler refuses gets the refusal as JSON, thrown early or late", async () => {
    const thrown = new ApiError("model_loading", "the model is being loaded", { retryAfter: 7 });
    for (const handler of [
      (() => {
        throw thrown;
      }) as Handler,
      () => Promise.reject(thrown),
    ]) {
      const asked = await ask(serving(handler).relay, chat, "{}").over();
      expect(asked.head).toMatchObject({ ":status": "503", "retry-after": "7", "content-type": "application/json" });
      expect(asked.json).toMatchObject({ error: { code: "model_loading", message: "the model is being loaded" } });
    }
  });

  test("that meets a bug of ours learns nothing of it", async () => {
    const asked = await ask(
      serving(() => Promise.reject(new TypeError("secret of the house"))).relay,
      chat,
      "{}",
    ).over();
    expect(asked.head[":status"]).toBe("500");
    expect(asked.text).not.toContain("secret");
  });

  test("beyond the limit is refused untouched, so that the relay may ask elsewhere, and the place is free again after", async () => {
    const first = gate();
    const { relay, outcome } = serving(
      async () => {
        await first.opened;
        return jsonReply(200, {});
      },
      { load: { underWay: 0, bytes: 0, most: 1 } },
    );
    const one = ask(relay, chat, "{}");
    const two = await ask(relay, chat, "{}").over();
    expect(two.state).toMatchObject({ code: errorCodes.refusedStream, refused: true });
    first.open();
    expect((await one.over()).head[":status"]).toBe("200");
    await outcome();
    expect((await ask(relay, chat, "{}").over()).head[":status"]).toBe("200");
  });

  test("with HEAD gets the head of GET's reply and no body, and the body's work is given up", async () => {
    const body = new Pushed();
    const { relay } = serving(() => Promise.resolve({ status: 200, headers: { "content-length": "5" }, body }));
    const asked = await ask(relay, { ":method": "HEAD", ":path": "/v1/models" }, null).over();
    expect(asked.head).toMatchObject({ ":status": "200", "content-length": "5" });
    expect([asked.state, asked.size]).toEqual(["ended", 0]);
    await body.cancelled.opened;
  });
});

describe("a streamed reply", () => {
  const stream =
    (body: ByteStream, headers = {}): Handler =>
    () =>
      Promise.resolve({ status: 200, headers: { "content-type": "text/event-stream", ...headers }, body });

  test("passes on every piece at once, also before and without an end", async () => {
    const body = new Pushed();
    const { relay } = serving(stream(body));
    const asked = ask(relay, chat, "{}");
    await asked.headed();
    for (const event of ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]) {
      body.sink.write(event);
      await asked.until(() => asked.text.endsWith(event));
    }
    body.sink.end();
    expect((await asked.over()).state).toBe("ended");
  });

  test("that fails is cut, and never ends as if it were whole", async () => {
    const body = new Pushed();
    const { relay, outcome, outcomes } = serving(stream(body));
    const asked = ask(relay, chat, "{}");
    await asked.headed();
    body.sink.write("data: 1\n\n");
    await asked.until(() => asked.size > 0);
    body.sink.fail(new Error("the engine is gone"));
    expect((await asked.over()).state).toMatchObject({ code: errorCodes.internalError, lost: false });
    await outcome();
    expect(outcomes).toMatchObject([{ end: "failed", problem: "the engine is gone", status: 200 }]);
  });

  test("of another length than its head promised is cut", async () => {
    for (const text of ["1234", "123456"]) {
      const body = new Pushed();
      const { relay } = serving(stream(body, { "content-length": "5" }));
      const asked = ask(relay, chat, "{}");
      await asked.headed();
      body.sink.write(text);
      body.sink.end();
      expect((await asked.over()).state).toMatchObject({ code: expect.any(Number) as number });
    }
  });

  test("waits for a relay that does not read, and goes on when it does", async () => {
    const body = new Pushed();
    const { relay } = serving(stream(body));
    const asked = ask(relay, chat, "{}");
    asked.stalled = true;
    await asked.headed();
    const piece = randomBytes(64 * 1024);
    let sent = 0;
    while (body.sink.write(piece)) {
      sent += piece.length;
      await new Promise((resolve) => setImmediate(resolve));
      expect(sent).toBeLessThan(64 * 1024 * 1024);
    }
    sent += piece.length;
    const resumed = body.resumed.opened;
    asked.stalled = false;
    asked.stream.resume();
    await resumed;
    body.sink.end();
    await asked.over();
    expect([asked.state, asked.size]).toEqual(["ended", sent]);
  });

  test("tells how many tokens it held, in the words of each format", async () => {
    const pieces = {
      // What the model says of tokens is no usage.
      quoted: ['data: {"choices":[{"delta":{"content":"\\"completion_tokens\\": 7"}}]}\n\n'],
      openai: ['data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens": 41}}\n\n', "data: [DONE]\n\n"],
      anthropic: [
        'event: message_delta\ndata: {"usage":{"output_tokens":42}}\n\n',
        "event: message_stop\ndata: {}\n\n",
      ],
      ollama: ['{"done":true,"prompt_eval_count":9,"eval_count":43}\n'],
      none: ['{"data":[]}'],
    };
    const counts: number[] = [];
    for (const [format, said] of Object.entries(pieces)) {
      const body = new Pushed();
      const { relay, outcome, outcomes } = serving(stream(body));
      ask(relay, { ...chat, ":path": format === "ollama" ? "/api/chat" : "/v1/messages" }, "{}");
      await body.started.opened;
      for (const piece of said) body.sink.write(piece);
      body.sink.end();
      await outcome();
      counts.push(outcomes[0]?.tokens ?? -1);
    }
    expect(counts).toEqual([0, 41, 42, 43, 0]);
  });
});

describe("a caller that leaves", () => {
  test("before the head is noticed by the handler at once", async () => {
    const begun = gate();
    const left = gate();
    const { relay, outcome, outcomes } = serving((call: Call) => {
      call.leaving.addEventListener("abort", left.open);
      begun.open();
      return never(call);
    });
    const asked = ask(relay, chat, "{}");
    await begun.opened;
    asked.stream.reset(errorCodes.cancel);
    await left.opened;
    await outcome();
    expect(outcomes).toMatchObject([{ status: 499, end: "left" }]);
  });

  test("in the middle of a reply stops what makes it", async () => {
    const body = new Pushed();
    const { relay, outcome, outcomes } = serving(() => Promise.resolve({ status: 200, headers: {}, body }));
    const asked = ask(relay, chat, "{}");
    await asked.headed();
    asked.stream.reset(errorCodes.cancel);
    await body.cancelled.opened;
    await outcome();
    expect(outcomes).toMatchObject([{ status: 200, end: "left" }]);
  });

  test("in the middle of its upload is told to whoever reads it", async () => {
    const failed = gate();
    const begun = gate();
    const { relay } = serving(async (call) => {
      begun.open();
      await call.bytes().catch(failed.open);
      throw new ApiError("client_closed_request", "left");
    });
    const asked = ask(relay, chat, undefined);
    asked.stream.write("{");
    await begun.opened;
    asked.stream.reset(errorCodes.cancel);
    await failed.opened;
  });

  test("is noticed also when the body has come whole and nobody reads on", async () => {
    const left = gate();
    const begun = gate();
    const { relay } = serving((call) => {
      call.leaving.addEventListener("abort", left.open);
      // As a runtime does that is busy with something else: takes a little and no more.
      (call.body as ByteStream).start({ write: () => false, end: () => undefined, fail: () => undefined });
      begun.open();
      return never(call);
    });
    const asked = ask(relay, chat, randomBytes(1024 * 1024));
    await begun.opened;
    // The upload ends before the caller leaves.
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    asked.stream.reset(errorCodes.cancel);
    await left.opened;
  });

  test("with its whole connection takes every call with it", async () => {
    const left = [gate(), gate(), gate()];
    const begun = gate();
    let count = 0;
    const { relay, outcome, outcomes } = serving((call) => {
      const mine = left[count++];
      call.leaving.addEventListener("abort", () => mine?.open());
      if (count === 3) begun.open();
      return never(call);
    });
    for (let index = 0; index < 3; index++) ask(relay, chat, "{}");
    await begun.opened;
    relay.destroy();
    await Promise.all(left.map(({ opened }) => opened));
    await outcome(3);
    expect(outcomes.every(({ problem }) => problem?.includes("lost") === true)).toBe(true);
  });

  test("two thousand at once leave the tunnel as it was", async () => {
    let here = 0;
    const all = gate();
    const none = gate();
    const { relay } = serving(
      (call) => {
        if (call.headers["x-session-id"] === "stays") return echo(call);
        if (++here === 2000) all.open();
        call.leaving.addEventListener("abort", () => --here === 0 && none.open());
        return never(call);
      },
      { load: { underWay: 0, bytes: 0, most: 4000 } },
    );
    // The agent's limit of streams is known with its first words.
    await relay.ping();
    const leaving = Array.from({ length: 2000 }, () => ask(relay, chat, "{}"));
    await all.opened;
    for (const asked of leaving) asked.stream.reset(errorCodes.cancel);
    await none.opened;
    const stays = await ask(relay, { ...chat, "x-session-id": "stays" }, "{}").over();
    expect(stays.head[":status"]).toBe("200");
  });
});

describe("a request's body", () => {
  const bodyLimit = 256 * 1024;

  test("larger than the limit is refused while it comes, and nothing is lost for others", async () => {
    const { relay } = serving(echo, { bodyLimit });
    const asked = await ask(relay, chat, randomBytes(2 * bodyLimit)).over();
    expect([asked.head[":status"], asked.state]).toEqual(["413", "ended"]);
    expect((await ask(relay, chat, "{}").over()).head[":status"]).toBe("200");
  });

  test("larger than the limit is refused also when its reader does not count", async () => {
    const { relay } = serving(
      (call) =>
        new Promise((_resolve, reject) => {
          (call.body as ByteStream).start({ write: () => true, end: () => reject(new Error("whole")), fail: reject });
        }),
      { bodyLimit },
    );
    const asked = await ask(relay, chat, randomBytes(bodyLimit + 1)).over();
    expect([asked.head[":status"], asked.json]).toMatchObject(["413", { error: { code: "request_too_large" } }]);
  });

  test("without end cannot keep its call for ever", async () => {
    const { relay } = serving(() => Promise.resolve(jsonReply(200, {})), { bodyLimit });
    const asked = ask(relay, chat, undefined);
    const piece = randomBytes(64 * 1024);
    let sent = 0;
    while (typeof asked.state !== "object" && sent < 100 * bodyLimit) {
      asked.stream.write(piece);
      sent += piece.length;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(asked.head[":status"]).toBe("200");
    expect(asked.state).toMatchObject({ code: errorCodes.noError });
  });

  test("that the handler does not read does not stop the reply", async () => {
    const { relay } = serving(() => Promise.resolve(jsonReply(200, { ok: true })));
    const asked = await ask(relay, chat, randomBytes(1024 * 1024)).over();
    expect([asked.state, asked.json]).toEqual(["ended", { ok: true }]);
  });

  test("that comes before the handler reads it is whole", async () => {
    const read = gate();
    const { relay } = serving(async (call) => {
      await read.opened;
      return jsonReply(200, { size: (await call.bytes()).length });
    });
    const asked = ask(relay, chat, randomBytes(1024 * 1024));
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    read.open();
    expect((await asked.over()).json).toEqual({ size: 1024 * 1024 });
  });

  test("waits while its reader has no room", async () => {
    let taken = 0;
    let source: ByteStream | undefined;
    const full = gate();
    const done = gate();
    const { relay } = serving(async (call) => {
      source = call.body as ByteStream;
      let room = false;
      source.start({
        write: (chunk) => {
          taken += chunk.length;
          full.open();
          return room;
        },
        end: done.open,
        fail: () => undefined,
      });
      await full.opened;
      room = true;
      await done.opened;
      return jsonReply(200, { taken });
    });
    const size = 8 * 1024 * 1024;
    const asked = ask(relay, chat, randomBytes(size));
    await full.opened;
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(taken).toBeLessThanOrEqual(64 * 1024);
    source?.resume();
    expect((await asked.over()).json).toEqual({ taken: size });
  });
});
