import { connect } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { type Handler, jsonReply, type Middleware, type Reply } from "../../src/core/call.ts";
import { ApiError } from "../../src/core/errors.ts";
import { silent } from "../../src/core/log.ts";
import { listen, type RunningServer } from "../../src/http/server.ts";
import { createLimiter, type LeasingLimiter } from "../../src/limits/create-limiter.ts";
import { line } from "../../src/limits/line.ts";
import { compose } from "../../src/pipeline/compose.ts";
import { errors } from "../../src/pipeline/errors.ts";
import type { UsageRecord } from "../../src/state/state.ts";
import { accounting } from "../../src/usage/accounting.ts";
import { toPrices } from "../../src/usage/prices.ts";
import { eventStreamHeaders } from "../../src/wire/headers.ts";
import { MemoryMeters } from "../support/memory-meters.ts";

const started: { server: RunningServer; limiter: LeasingLimiter }[] = [];
afterEach(async () => {
  for (const { server, limiter } of started.splice(0)) {
    await server.close(0);
    await limiter.close();
  }
});

const today = `k1/tokens/${new Date().toISOString().slice(0, 10)}`;
const usage = { prompt_tokens: 30, completion_tokens: 12, total_tokens: 42 };
const frame = (json: object): string => `data: ${JSON.stringify(json)}\n\n`;
const hello = frame({ choices: [{ index: 0, delta: { content: "Hello" }, finish_reason: null }] });

/** A stream that a test pushes by hand. */
class Answer implements ByteStream {
  readonly sink: Promise<ByteSink>;
  cancelled = false;
  #start!: (sink: ByteSink) => void;

  constructor() {
    this.sink = new Promise((resolve) => (this.#start = resolve));
  }

  start(sink: ByteSink): void {
    this.#start(sink);
  }

  resume(): void {}

  cancel(): void {
    this.cancelled = true;
  }
}

/** One key with limits in front of `handler`, on a port. */
async function serve(handler: Handler) {
  const store = new MemoryMeters();
  const limiter = createLimiter({ meters: store, replica: "one", grace: 60_000, log: silent });
  const records: UsageRecord[] = [];
  const identify: Middleware = (call, next) => {
    call.principal = {
      id: "k1",
      name: "k1",
      roles: new Set(["inference"]),
      limits: { tokensPerDay: 100_000, concurrent: 3 },
    };
    return next(call);
  };
  const chain = compose(
    [
      errors(silent),
      identify,
      accounting({ limiter, prices: toPrices({}), capture: false, onRecord: (record) => void records.push(record) }),
      line({ concurrent: 1, waiting: 1, longest: 60_000, models: {}, heartbeat: 15_000 }),
    ],
    handler,
  );
  const server = await listen({
    host: "127.0.0.1",
    port: 0,
    handler: chain,
    log: silent,
    bodyLimit: 1 << 20,
    headerLimit: 8192,
    headersTimeout: 10_000,
    requestTimeout: 10_000,
    keepAliveTimeout: 5000,
    stallTimeout: 60_000,
  });
  started.push({ server, limiter });
  const used = (): number => 100_000 - store.level({ id: today, capacity: 100_000, refill: 0, expires: 0 });
  /** When all is settled: what was used, and how the calls ended. */
  const over = async (calls: number): Promise<{ used: number; outcomes: string[] }> => {
    await vi.waitFor(() => {
      expect(records.length).toBe(calls);
      expect(store.held("k1/concurrent")).toBe(0);
    }, 5000);
    const all = records.reduce((sum, record) => sum + record.promptTokens + record.completionTokens, 0);
    await vi.waitFor(() => expect(used()).toBe(all), 5000);
    return { used: all, outcomes: records.map(({ outcome }) => outcome) };
  };
  return { port: server.port, records, over };
}

const question = { model: "m", max_tokens: 5000, messages: [{ role: "user", content: "hello" }] };

function post(port: number, fields: object = {}): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...question, ...fields }),
  });
}

/** A client that can be cut off. */
function rawPost(port: number): { cut: () => void; said: (text: string) => Promise<void> } {
  const socket = connect(port, "127.0.0.1");
  const body = JSON.stringify({ ...question, stream: true });
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  return {
    cut: () => socket.destroy(),
    said: (wanted) => vi.waitFor(() => expect(text).toContain(wanted), 5000),
  };
}

describe("what a call has in hand goes back", () => {
  it("when it is answered, whole or in a stream, and the answer says what is left", async () => {
    const { port, over } = await serve(async (call) => {
      if (call.demand?.streamed !== true) return jsonReply(200, { choices: [], usage });
      const text = hello + frame({ choices: [], usage }) + "data: [DONE]\n\n";
      return { status: 200, headers: eventStreamHeaders, body: text };
    });
    await (await post(port)).json();
    await (await post(port, { stream: true })).text();
    expect(await over(2)).toEqual({ used: 84, outcomes: ["complete", "complete"] });
  });

  it("when it fails, before its answer and within it", async () => {
    const answer = new Answer();
    const ends: (() => Promise<Reply>)[] = [
      () => Promise.reject(new ApiError("upstream_error", "it failed")),
      () => Promise.reject(new TypeError("a bug")),
      () => Promise.resolve(jsonReply(404, { error: { message: "no" } })),
      () => Promise.resolve({ status: 200, headers: eventStreamHeaders, body: answer }),
    ];
    const { port, over } = await serve(() => ends.shift()!());
    const statuses = [await post(port), await post(port), await post(port)].map(({ status }) => status);
    expect(statuses).toEqual([502, 500, 404]);
    const client = rawPost(port);
    const sink = await answer.sink;
    sink.write(hello);
    await client.said("Hello");
    sink.fail(new Error("the upstream died"));
    const { outcomes, used } = await over(4);
    expect(outcomes).toEqual(["failed", "failed", "failed", "failed"]);
    expect(used).toBeGreaterThan(0);
    expect(used).toBeLessThan(200);
  });

  it("when its client leaves: before the answer, within it, and in the line", async () => {
    const answers = [new Answer(), new Answer()];
    let asked = 0;
    const { port, over, records } = await serve((call) => {
      if (asked++ === 0)
        return new Promise((_resolve, reject) =>
          call.leaving.addEventListener("abort", () => reject(new ApiError("client_closed_request", "gone"))),
        );
      return Promise.resolve({ status: 200, headers: eventStreamHeaders, body: answers[asked - 2]! });
    });
    const first = rawPost(port);
    await vi.waitFor(() => expect(asked).toBe(1));
    // It waits for the first, and is told so.
    const waiting = rawPost(port);
    await waiting.said("waiting in line, position 1 of 1");
    waiting.cut();
    await vi.waitFor(() => expect(records.length).toBe(1), 5000);
    first.cut();
    const third = rawPost(port);
    const sink = await answers[0]!.sink;
    sink.write(hello);
    await third.said("Hello");
    third.cut();
    await vi.waitFor(() => expect(answers[0]!.cancelled).toBe(true));
    const { outcomes } = await over(3);
    expect(outcomes).toEqual(["left", "left", "left"]);
  });

  it("when the line has no room for it", async () => {
    const answer = new Answer();
    const { port, over } = await serve(() =>
      Promise.resolve({ status: 200, headers: eventStreamHeaders, body: answer }),
    );
    const first = rawPost(port);
    const sink = await answer.sink;
    sink.write(hello);
    await first.said("Hello");
    const second = rawPost(port);
    await second.said("waiting in line");
    const refused = await post(port);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toBe("5");
    first.cut();
    second.cut();
    const { outcomes } = await over(3);
    expect(outcomes.toSorted()).toEqual(["left", "left", "refused"]);
  });
});
