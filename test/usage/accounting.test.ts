import { describe, expect, it } from "vitest";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { isStream } from "../../src/core/bytes.ts";
import type { Call, Handler, Reply } from "../../src/core/call.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { Provider } from "../../src/core/provider.ts";
import type { Limiter, Reservation } from "../../src/limits/limiter.ts";
import type { UsageRecord } from "../../src/state/state.ts";
import { accounting, type AccountingSettings } from "../../src/usage/accounting.ts";
import type { Journal } from "../../src/usage/journal.ts";
import { toPrices } from "../../src/usage/prices.ts";
import { type Asking, FedBody, readReply, settled, toCall } from "../support/tunnel-calls.ts";

const usage = { prompt_tokens: 100, completion_tokens: 20, prompt_tokens_details: { cached_tokens: 40 } };
const chat = { model: "home:qwen", messages: [{ role: "user", content: "hello" }], max_tokens: 50 };
const event = (json: object): Buffer => Buffer.from(`data: ${JSON.stringify(json)}\n\n`);
const piece = (content: string): Buffer => event({ choices: [{ delta: { content } }] });

/** Accounting around an answer, with what it did in its order. */
class Books {
  /** Of the journal, the limiter and the client's sink. */
  readonly events: string[] = [];
  readonly records: UsageRecord[] = [];
  readonly final: UsageRecord[] = [];
  readonly refusals: string[] = [];
  readonly settled: { tokens: number; spend: number }[] = [];
  readonly reserved: { model: string; spend: number }[] = [];
  /** What the limiter answers, if not at once with a place. */
  verdict: (() => Reservation | Promise<Reservation>) | undefined;
  readonly #settings: Partial<AccountingSettings>;

  constructor(settings: Partial<AccountingSettings> = {}) {
    this.#settings = settings;
  }

  readonly reservation: Reservation = {
    headers: { "x-ratelimit-remaining-requests": "9" },
    settle: (used) => {
      this.events.push("settled");
      this.settled.push(used);
    },
  };

  handle(call: Call, answer: Handler): Promise<Reply> {
    const limiter: Limiter = {
      reserve: (_principal, { model }, spend) => {
        this.reserved.push({ model, spend });
        return this.verdict === undefined ? this.reservation : this.verdict();
      },
      close: () => Promise.resolve(),
    };
    const write = (record: UsageRecord): void => {
      this.events.push("written");
      this.records.push(record);
    };
    const journal = {
      append: write,
      appendInTurn: write,
      replace: (old: UsageRecord, record: UsageRecord) => {
        this.records[this.records.indexOf(old)] = record;
        return true;
      },
    } as Journal;
    const prices = toPrices({ "home:*": { prompt: 2, cached: 0.5, completion: 10 } });
    const onRecord = (record: UsageRecord): void => void this.final.push(record);
    const onRefusal = (code: string): void => void this.refusals.push(code);
    return accounting({ limiter, journal, prices, capture: false, onRecord, onRefusal, ...this.#settings })(
      call,
      answer,
    );
  }

  /** The one record. */
  get record(): UsageRecord {
    expect(this.records).toHaveLength(1);
    return this.records[0] as UsageRecord;
  }

  /** A sink that notes what reaches the client. */
  sink(): ByteSink {
    return {
      write: () => this.events.push("bytes") > 0,
      end: () => void this.events.push("end"),
      fail: () => void this.events.push("fail"),
    };
  }
}

function whole(body: string | Buffer, status = 200, headers: Record<string, string> = {}): Handler {
  return () => Promise.resolve({ status, headers: { "content-type": "application/json", ...headers }, body });
}

function streaming(body: ByteStream): Handler {
  return () => Promise.resolve({ status: 200, headers: { "content-type": "text/event-stream" }, body });
}

function ask(asking: Asking = {}): ReturnType<typeof toCall> {
  return toCall({ json: chat, ...asking });
}

function streamOf(reply: Reply): ByteStream {
  if (!isStream(reply.body)) throw new Error("the body is no stream");
  return reply.body;
}

const provider = { name: "home" } as Provider;

describe("a call that is answered", () => {
  it("leaves one record of what the server told, priced, and gives back what it did not use", async () => {
    const books = new Books();
    const { call } = ask();
    call.principal = { id: "k1", name: "laptop", roles: new Set(["inference"]), limits: {} };
    const body = JSON.stringify({ choices: [{ message: { content: "hi" } }], usage });
    const reply = await books.handle(call, (one) => {
      one.target = { provider, model: "qwen", requested: "home:qwen" };
      return whole(body, 200, { "x-lair-agent": "attic" })(one);
    });
    expect(reply.headers["x-ratelimit-remaining-requests"]).toBe("9");
    expect(reply.body).toBe(body);
    const { time, duration, firstToken, ...record } = books.record;
    expect(record).toEqual({
      id: call.id,
      key: "k1",
      path: "/v1/chat/completions",
      model: "home:qwen",
      provider: "home",
      agent: "attic",
      promptTokens: 100,
      cachedTokens: 40,
      completionTokens: 20,
      counted: "reported",
      spend: 60 * 2 + 40 * 0.5 + 20 * 10,
      bytesIn: Buffer.byteLength(JSON.stringify(chat)),
      bytesOut: body.length,
      status: 200,
      outcome: "complete",
    });
    expect(Math.abs(Date.now() - time)).toBeLessThan(60_000);
    expect(duration).toBeGreaterThanOrEqual(firstToken as number);
    expect(books.settled).toEqual([{ tokens: 120, spend: 340 }]);
    expect(books.final).toEqual(books.records);
    const [reserved] = books.reserved;
    expect(reserved?.model).toBe("home:qwen");
    expect(reserved?.spend).toBeGreaterThan(50 * 10);
  });

  it("in a stream is on record before the client hears its end, byte for byte as it came", async () => {
    const books = new Books();
    const body = new FedBody();
    const reply = await books.handle(ask().call, streaming(body));
    streamOf(reply).start(books.sink());
    body.feed(": ping\n\n");
    body.feed(piece("hel"));
    body.feed(event({ choices: [], usage }));
    expect(books.events).toEqual(["bytes", "bytes", "bytes"]);
    body.end();
    expect(books.events).toEqual(["bytes", "bytes", "bytes", "settled", "written", "end"]);
    expect(books.record).toMatchObject({ promptTokens: 100, completionTokens: 20, outcome: "complete" });
    expect(books.record.firstToken).not.toBeNull();
  });

  it("passes on as it is when it asks no model, and leaves no record", async () => {
    const books = new Books();
    const reply = await books.handle(toCall({ method: "GET", path: "/v1/models" }).call, whole("[]"));
    expect(reply.headers["x-ratelimit-remaining-requests"]).toBeUndefined();
    expect(books.records).toEqual([]);
    expect(books.reserved).toEqual([]);
  });

  it("is counted on each path that reaches a model, by its own words", async () => {
    const paths: [path: string, body: object, prompt: number, completion: number][] = [
      ["/v1/completions", { usage }, 100, 20],
      ["/v1/embeddings", { usage: { prompt_tokens: 8, total_tokens: 8 } }, 8, 0],
      ["/v1/rerank", { usage: { total_tokens: 44 } }, 44, 0],
      ["/rerank", { usage: { prompt_tokens: 44, total_tokens: 44 } }, 44, 0],
      ["/v1/responses", { usage: { input_tokens: 5, output_tokens: 6 } }, 5, 6],
      ["/infill", { content: "x", tokens_predicted: 3, tokens_evaluated: 9, tokens_cached: 12 }, 9, 3],
      ["/v1/messages", { usage: { input_tokens: 5, output_tokens: 6 } }, 5, 6],
      ["/api/chat", { message: { content: "x" }, prompt_eval_count: 7, eval_count: 4 }, 7, 4],
      ["/tokenize", { tokens: [1, 2, 3] }, 0, 0],
      ["/v1/chat/completions/", { usage }, 100, 20],
    ];
    for (const [path, body, promptTokens, completionTokens] of paths) {
      const books = new Books();
      await books.handle(ask({ path }).call, whole(JSON.stringify(body)));
      expect(books.record, path).toMatchObject({ path, promptTokens, completionTokens, counted: "reported" });
    }
  });
});

describe("a call that does not come to its end", () => {
  it("is refused by its limits before anybody is asked", async () => {
    const refusal = new ApiError("rate_limit_exceeded", "too many");
    for (const verdict of [
      () => Promise.reject(refusal),
      () => {
        throw refusal;
      },
    ]) {
      const books = new Books();
      books.verdict = verdict;
      await expect(books.handle(ask().call, () => expect.unreachable())).rejects.toBe(refusal);
      expect(books.record).toMatchObject({ status: 429, outcome: "refused", promptTokens: 0, firstToken: null });
      expect(books.refusals).toEqual(["rate_limit_exceeded"]);
      expect(books.settled).toEqual([]);
    }
  });

  it("is refused when its key may not use the model", async () => {
    const books = new Books();
    const { call } = ask();
    call.principal = { id: "k1", name: "k", roles: new Set(), limits: {}, allows: (model) => model === "other" };
    await expect(books.handle(call, () => expect.unreachable())).rejects.toMatchObject({ code: "model_not_found" });
    expect(books.record).toMatchObject({ key: "k1", outcome: "refused", status: 404 });
    expect(books.reserved).toEqual([]);
  });

  it("with a body that is no JSON still takes its place, and who answers says what is wrong", async () => {
    for (const text of ["{", "[]", "", "null"]) {
      const books = new Books();
      const { call } = toCall({ body: Buffer.from(text) });
      const wrong = new ApiError("invalid_json", "no");
      await expect(books.handle(call, () => Promise.reject(wrong))).rejects.toBe(wrong);
      expect(books.record).toMatchObject({ model: "", status: 400, outcome: "refused" });
      expect(books.settled).toEqual([{ tokens: 0, spend: 0 }]);
    }
  });

  it("that is too large, or whose client leaves while sending it, is on record", async () => {
    const large = new Books();
    const { call } = toCall({ body: new FedBody(), bodyLimit: 10 });
    const refused = large.handle(call, () => expect.unreachable());
    (call.body as FedBody).feed("x".repeat(11));
    await expect(refused).rejects.toMatchObject({ code: "request_too_large" });
    expect(large.record).toMatchObject({ status: 413, outcome: "refused" });
    const gone = new Books();
    const leaving = toCall({ body: new FedBody() });
    const left = gone.handle(leaving.call, () => expect.unreachable());
    leaving.leave();
    (leaving.call.body as FedBody).fail(new Error("aborted"));
    await expect(left).rejects.toThrow("aborted");
    expect(gone.record).toMatchObject({ status: 499, outcome: "left", promptTokens: 0 });
  });

  it("has failed with an error that is thrown or returned, and used nothing", async () => {
    const thrown = new Books();
    const { call } = ask();
    const failure = new ApiError("upstream_unreachable", "gone", { provider: "home" });
    await expect(thrown.handle(call, () => Promise.reject(failure))).rejects.toBe(failure);
    expect(thrown.record).toMatchObject({ provider: "home", status: 502, outcome: "failed", promptTokens: 0 });
    expect(thrown.settled).toEqual([{ tokens: 0, spend: 0 }]);
    const bug = new Books();
    await expect(bug.handle(ask().call, () => Promise.reject(new TypeError("oops")))).rejects.toThrow("oops");
    expect(bug.record).toMatchObject({ status: 500, outcome: "failed" });
    const returned = new Books();
    await returned.handle(ask().call, whole(JSON.stringify({ error: { message: "no" }, usage }), 400));
    expect(returned.record).toMatchObject({ status: 400, outcome: "failed", promptTokens: 0, completionTokens: 0 });
  });

  it("has used its prompt when the client left before the answer", async () => {
    const books = new Books();
    const { call, leave } = ask();
    const aborted = Object.assign(new Error("aborted"), { name: "AbortError" });
    const answer = books.handle(call, () => {
      leave();
      return Promise.reject(aborted);
    });
    await expect(answer).rejects.toBe(aborted);
    expect(books.record).toMatchObject({ status: 499, outcome: "left", counted: "estimated", completionTokens: 0 });
    expect(books.record.promptTokens).toBeGreaterThan(10);
  });

  it("has used what came, when the client left in the middle or the upstream died", async () => {
    for (const ending of ["left", "failed"] as const) {
      const books = new Books();
      const body = new FedBody();
      const reply = await books.handle(ask().call, streaming(body));
      streamOf(reply).start(books.sink());
      for (const word of ["one", " two", " three"]) body.feed(piece(word));
      if (ending === "left") streamOf(reply).cancel();
      else body.fail(new Error("broken"));
      expect(books.record).toMatchObject({ status: 200, outcome: ending, completionTokens: 4, counted: "estimated" });
      expect(books.settled).toEqual([{ tokens: books.record.promptTokens + 4, spend: books.record.spend }]);
      expect(body.cancelled).toBe(ending === "left");
      // What else may happen to the stream makes no second record.
      streamOf(reply).cancel();
      expect(books.records).toHaveLength(1);
      expect(books.settled).toHaveLength(1);
    }
  });

  it("was left when its upstream was given up because the client is gone", async () => {
    const books = new Books();
    const { call, leave } = ask();
    const body = new FedBody();
    call.leaving.addEventListener("abort", () => body.fail(new Error("aborted")));
    const reply = await books.handle(call, streaming(body));
    streamOf(reply).start(books.sink());
    body.feed(piece("one"));
    leave();
    streamOf(reply).cancel();
    expect(books.record).toMatchObject({ outcome: "left", completionTokens: 1 });
  });

  it("has failed when its stream tells of a failure and ends", async () => {
    const books = new Books();
    let told: ByteSink | undefined;
    const body: ByteStream = { start: (sink) => (told = sink), resume() {}, cancel() {} };
    const reply = await books.handle(ask().call, streaming(body));
    const problems: (Error | undefined)[] = [];
    streamOf(reply).start({ ...books.sink(), end: (problem) => void problems.push(problem) });
    const failure = new Error("lost");
    told?.end(failure);
    expect(problems).toEqual([failure]);
    expect(books.record.outcome).toBe("failed");
  });

  it("is on record when its stream is given up before it starts", async () => {
    const books = new Books();
    const body = new FedBody();
    const reply = await books.handle(ask().call, streaming(body));
    streamOf(reply).cancel();
    expect(body.cancelled).toBe(true);
    expect(books.record).toMatchObject({ outcome: "left", completionTokens: 0, firstToken: null, bytesOut: 0 });
  });

  it("is complete when the client hung up on the word that it is", async () => {
    const books = new Books();
    const body = new FedBody();
    const reply = await books.handle(ask().call, streaming(body));
    streamOf(reply).start(books.sink());
    body.feed(event({ choices: [], usage }));
    body.feed("data: [DONE]\n\n");
    streamOf(reply).cancel();
    expect(books.record).toMatchObject({ outcome: "complete", completionTokens: 20, counted: "reported" });
  });
});

describe("an answer of which no usage was told", () => {
  it("is counted by the model's own tokenizer, afterwards", async () => {
    const asked: string[] = [];
    const tokenize = (_call: Call, text: string): Promise<number> => {
      asked.push(text);
      return Promise.resolve(7);
    };
    const books = new Books({ tokenize });
    const body = new FedBody();
    const reply = await books.handle(ask().call, streaming(body));
    const read = readReply(reply);
    body.feed(piece("Grüß "));
    body.feed(piece('"Gott"'));
    body.end();
    expect((await read).failure).toBeUndefined();
    expect(books.record).toMatchObject({ counted: "estimated", outcome: "complete" });
    await settled();
    expect(asked).toEqual(['Grüß "Gott"']);
    expect(books.record).toMatchObject({ completionTokens: 7, counted: "tokenized" });
    expect(books.record.spend).toBe(books.record.promptTokens * 2 + 70);
    expect(books.final).toEqual(books.records);
  });

  it("stays estimated where nobody can count it", async () => {
    for (const tokenize of [() => Promise.resolve(undefined), () => Promise.reject(new Error("away"))]) {
      const books = new Books({ tokenize });
      await books.handle(ask().call, whole(JSON.stringify({ choices: [{ message: { content: "x".repeat(400) } }] })));
      await settled();
      expect(books.record).toMatchObject({ completionTokens: 100, counted: "estimated" });
      expect(books.final).toEqual(books.records);
    }
  });
});

describe("what was said", () => {
  it("is in no record, unless it is asked for, and then of bounded length", async () => {
    const secret = "the launch is on Tuesday ";
    const json = { ...chat, messages: [{ role: "user", content: secret.repeat(5000) }] };
    const answer = JSON.stringify({ choices: [{ message: { content: `yes, ${secret}` } }], usage });
    const plain = new Books();
    await plain.handle(ask({ json }).call, whole(answer));
    expect(JSON.stringify(plain.record)).not.toContain("Tuesday");
    const capturing = new Books({ capture: true });
    await capturing.handle(ask({ json }).call, whole(answer));
    expect(capturing.record.content?.request).toHaveLength(65_536);
    expect(capturing.record.content?.reply).toBe(answer);
    const stream = new Books({ capture: true });
    const body = new FedBody();
    const reply = await stream.handle(ask().call, streaming(body));
    streamOf(reply).start(stream.sink());
    body.feed(piece("yes, "));
    body.feed(piece("Tuesday"));
    body.end();
    expect(stream.record.content).toEqual({ request: JSON.stringify(chat), reply: "yes, Tuesday" });
  });
});
