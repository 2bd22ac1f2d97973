import { afterEach, describe, expect, it } from "vitest";
import type { ByteStream } from "../../src/core/bytes.ts";
import { jsonReply } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { textOf, responseOf } from "../support/responses-socket.ts";
import { type Asked, closeAll, encode, eventsOf, output, says, serve } from "../support/responses-server.ts";

afterEach(closeAll);

const hello = { model: "m", input: "hello", store: false };
const missing: JsonObject = {
  error: {
    message: "no such response",
    type: "invalid_request_error",
    param: "previous_response_id",
    code: "previous_response_not_found",
  },
};

describe("a message", () => {
  it("is a streamed call by itself, and its events come back one in each message", async () => {
    const { open, asked, outcomes } = await serve(async () => says("resp_1", "Hi"));
    const client = await open({ authorization: "Bearer secret", "x-session-id": "s", "x-request-id": "one" });
    const events = await client.ask(hello);
    expect(events).toEqual(eventsOf("resp_1", "Hi"));
    const [{ body, call }] = asked as [Asked];
    expect(body).toEqual({ model: "m", input: "hello", store: false, stream: true });
    expect(call).toMatchObject({ method: "POST", path: "/v1/responses" });
    expect(call.headers).toMatchObject({
      authorization: "Bearer secret",
      "x-session-id": "s",
      "content-type": "application/json",
    });
    expect(Object.keys(call.headers).filter((name) => /^sec-|upgrade|connection/.test(name))).toEqual([]);
    expect(call.id).not.toBe("one");
    expect(outcomes).toMatchObject([{ status: 200, end: "complete" }]);
  });

  it("waits until the answer before it is complete, in its place", async () => {
    let release!: () => void;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const { open, asked } = await serve(async (body, _call, turn) => {
      if (turn === 1) await gate;
      return says(`resp_${turn}`, `answer to ${String(body.input)}`);
    });
    const client = await open();
    for (const input of ["one", "two", "three"]) client.create({ ...hello, input });
    await client.until(() => true);
    while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toHaveLength(1);
    release();
    const texts = [await client.answer(), await client.answer(), await client.answer()].map(textOf);
    expect(texts).toEqual(["answer to one", "answer to two", "answer to three"]);
  });

  it.each([
    ["that is no JSON", "{", "invalid_json"],
    ["that is a list", "[]", "invalid_type"],
    ["of another type", '{"type":"response.cancel"}', "invalid_value"],
    ["that wants an answer in the background", '{"type":"response.create","background":true}', "unsupported_parameter"],
  ])("%s is answered with an error, and the connection goes on", async (_kind, text, code) => {
    const { open, asked } = await serve(async () => says("resp_1", "Hi"));
    const client = await open();
    client.webSocket.send(text);
    expect(await client.answer()).toMatchObject([{ type: "error", status: 400, error: { code } }]);
    expect(asked).toHaveLength(0);
    expect(textOf(await client.ask(hello))).toBe("Hi");
  });

  it("that is refused gets the refusal as an error, with what HTTP's head would say", async () => {
    const error = { message: "too much", type: "rate_limit_error", param: null, code: "rate_limit_exceeded" };
    const { open } = await serve(async () => jsonReply(429, { error }, { "retry-after": "7" }));
    const client = await open();
    expect(await client.ask(hello)).toEqual([{ type: "error", status: 429, error, headers: { "retry-after": "7" } }]);
  });

  it("in bytes ends the connection", async () => {
    const { open } = await serve(async () => says("resp_1", "Hi"));
    const client = await open();
    client.webSocket.send(Buffer.from("{}"));
    expect(await client.closed()).toMatchObject({ code: 1003 });
  });
});

describe("an answer that breaks off", () => {
  const begun = eventsOf("resp_1", "Hi").slice(0, 2);
  const stream = (end: "end" | "fail"): ByteStream => ({
    start(sink) {
      sink.write(encode(begun));
      if (end === "end") sink.end();
      else sink.fail(new Error("the upstream is gone"));
    },
    resume: () => undefined,
    cancel: () => undefined,
  });

  it.each(["end", "fail"] as const)("is told as an error where its stream does %s", async (end) => {
    const { open, outcomes } = await serve(async () => ({
      status: 200,
      headers: { "content-type": "text/event-stream" },
      body: stream(end),
    }));
    const client = await open();
    const events = await client.ask(hello);
    expect(events.slice(0, -1)).toEqual(begun);
    expect(events.at(-1)).toMatchObject({ type: "error", status: end === "end" ? 502 : 500 });
    expect(JSON.stringify(events)).not.toContain("the upstream is gone");
    expect(outcomes).toMatchObject([{ status: 200, end: "failed" }]);
  });

  it("by an event of its own keeps that event's fields", async () => {
    const failure = {
      type: "error",
      code: "agent_lost",
      message: "the agent went away",
      param: null,
      sequence_number: 2,
    };
    const { open } = await serve(async () => ({
      status: 200,
      headers: { "content-type": "text/event-stream" },
      body: encode([...begun, failure]),
    }));
    const client = await open();
    const { code, message } = failure;
    expect((await client.ask(hello)).at(-1)).toEqual({
      ...failure,
      status: 502,
      error: { type: "server_error", code, message, param: null },
    });
  });
});

describe("a stream of another server", () => {
  it("may name its events in the data alone, and there at the end", async () => {
    const last = ({ type, ...event }: JsonObject): string => `data: ${JSON.stringify({ ...event, type })}\n\n`;
    const body = eventsOf("resp_1", "Hi").map(last).join("");
    const { open } = await serve(async () => ({ status: 200, headers: { "content-type": "text/event-stream" }, body }));
    const client = await open();
    expect(await client.ask(hello)).toEqual(eventsOf("resp_1", "Hi"));
    expect(textOf(await client.ask(hello))).toBe("Hi");
  });

  it("that holds no JSON is told as an error, without what it holds", async () => {
    const body = "event: response.created\ndata: <html>secret\n\n";
    const { open } = await serve(async () => ({ status: 200, headers: { "content-type": "text/event-stream" }, body }));
    const client = await open();
    const events = await client.ask(hello);
    expect(events).toMatchObject([{ type: "error", status: 502, error: { code: "upstream_error" } }]);
    expect(JSON.stringify(events)).not.toContain("secret");
  });
});

describe("previous_response_id", () => {
  const strict: Parameters<typeof serve>[0] = async (body, _call, turn) =>
    body.previous_response_id === undefined ? says(`resp_${turn}`, `answer ${turn}`) : jsonReply(400, missing);

  it("goes on from the connection's last response, though nothing was stored", async () => {
    const { open, asked } = await serve(strict);
    const client = await open();
    await client.ask(hello);
    const second = await client.ask({
      ...hello,
      input: [{ role: "user", content: "more" }],
      previous_response_id: "resp_1",
    });
    await client.ask({ ...hello, input: "and more", previous_response_id: "resp_2" });
    const first = [
      { type: "message", role: "user", content: "hello" },
      output("answer 1"),
      { role: "user", content: "more" },
    ];
    expect(asked[1]?.body.input).toEqual(first);
    expect(asked[2]?.body.input).toEqual([
      ...first,
      output("answer 2"),
      { type: "message", role: "user", content: "and more" },
    ]);
    expect(responseOf(second).previous_response_id).toBe("resp_1");
  });

  it("of another response is what the server knows of it", async () => {
    const { open } = await serve(strict);
    const client = await open();
    await client.ask(hello);
    await client.ask(hello);
    const events = await client.ask({ ...hello, previous_response_id: "resp_1" });
    expect(events).toMatchObject([{ type: "error", status: 400, error: { code: "previous_response_not_found" } }]);
  });

  it("of one connection means nothing on another", async () => {
    const { open } = await serve(strict);
    const [one, other] = [await open(), await open()];
    await one.ask(hello);
    expect(await other.ask({ ...hello, previous_response_id: "resp_1" })).toMatchObject([{ type: "error" }]);
    expect(textOf(await one.ask({ ...hello, previous_response_id: "resp_1" }))).toBe("answer 3");
  });

  it("is forgotten when a turn that goes on from it fails", async () => {
    const { open } = await serve(async (body, call, turn) =>
      turn === 2 ? jsonReply(400, { error: { message: "no", code: "invalid_value" } }) : strict(body, call, turn),
    );
    const client = await open();
    await client.ask(hello);
    expect(await client.ask({ ...hello, previous_response_id: "resp_1" })).toMatchObject([{ type: "error" }]);
    const again = await client.ask({ ...hello, previous_response_id: "resp_1" });
    expect(again).toMatchObject([{ error: { code: "previous_response_not_found" } }]);
  });

  it("of a stored response is left to where it is stored, and stands before what was not", async () => {
    const { open, asked } = await serve(async (_body, _call, turn) => says(`resp_${turn}`, `answer ${turn}`));
    const client = await open();
    await client.ask({ model: "m", input: "kept" });
    await client.ask({ ...hello, previous_response_id: "resp_1" });
    await client.ask({ ...hello, input: "more", previous_response_id: "resp_2" });
    expect(asked[1]?.body).toMatchObject({ previous_response_id: "resp_1", input: "hello" });
    expect(asked[2]?.body.previous_response_id).toBe("resp_1");
    expect(asked[2]?.body.input).toHaveLength(3);
  });

  it("is not remembered beyond the bytes that all connections have", async () => {
    const { open } = await serve(strict, { memory: 2000 });
    const [old, young] = [await open(), await open()];
    await old.ask({ ...hello, input: "x".repeat(800) });
    await young.ask({ ...hello, input: "x".repeat(800) });
    expect(await old.ask({ ...hello, previous_response_id: "resp_1" })).toMatchObject([{ type: "error" }]);
    expect(textOf(await young.ask({ ...hello, previous_response_id: "resp_2" }))).toBe("answer 4");
  });
});

describe("generate: false", () => {
  it("makes the model ready, says nothing, and can be gone on from", async () => {
    const { open, asked } = await serve(async (_body, _call, turn) => says(`resp_${turn}`, "never seen"));
    const client = await open();
    const events = await client.ask({ model: "m", input: "a long prompt", generate: false });
    expect(events.map(({ type }) => type)).toEqual(["response.created", "response.completed"]);
    expect(responseOf(events)).toMatchObject({ id: "resp_1", status: "completed", output: [] });
    expect(asked[0]?.body).toEqual({
      model: "m",
      input: "a long prompt",
      max_output_tokens: 1,
      store: false,
      stream: true,
    });
    await client.ask({ model: "m", input: "go", previous_response_id: "resp_1" });
    expect(asked[1]?.body.input).toEqual([
      { type: "message", role: "user", content: "a long prompt" },
      { type: "message", role: "user", content: "go" },
    ]);
    expect(asked[1]?.body.max_output_tokens).toBeUndefined();
  });
});
