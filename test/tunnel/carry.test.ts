import { describe, expect, it } from "vitest";
import { type ByteStream, isStream } from "../../src/core/bytes.ts";
import type { Reply } from "../../src/core/call.ts";
import { ApiError } from "../../src/core/errors.ts";
import { carry, CarryFailure } from "../../src/tunnel/calls/carry.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import { answerJson, beginEvents, ScriptedAgent, type ScriptedOptions } from "../support/tunnel-agent.ts";
import { type Asking, FedBody, readReply, settled, SlowReader, toCall } from "../support/tunnel-calls.ts";

/** A session to a scripted agent, without anything of the relay's between. */
function connect(options: ScriptedOptions = {}): { agent: ScriptedAgent; session: Http2Session } {
  const agent = new ScriptedAgent(options);
  const session = new Http2Session(agent.arrival.link, { role: "client", onClose: () => {} });
  return { agent, session };
}

function send(session: Http2Session, asking: Asking = {}): { reply: Promise<Reply>; leave: () => void } {
  const { call, leave } = toCall(asking);
  const reply = carry(session, call, { path: call.path + call.search, headers: call.headers, body: call.body });
  return { reply, leave };
}

async function failureOf(reply: Promise<Reply>): Promise<unknown> {
  return reply.then(
    () => "no failure",
    (error: unknown) => error,
  );
}

function bodyOf(reply: Reply): ByteStream {
  if (!isStream(reply.body)) throw new Error("the reply is whole");
  return reply.body;
}

describe("a call through one stream of the tunnel", () => {
  it("arrives with its path, its body and the headers that may pass, and no other", async () => {
    const { agent, session } = connect();
    const { reply } = send(session, {
      search: "?beta=true",
      json: { model: "demo" },
      headers: { authorization: "Bearer secret", cookie: "a=b", accept: "text/event-stream", connection: "close" },
    });
    const arrived = await agent.call();
    expect(arrived.headers).toMatchObject({
      ":method": "POST",
      ":path": "/v1/chat/completions?beta=true",
      "content-type": "application/json",
      "content-length": "16",
      accept: "text/event-stream",
    });
    expect(arrived.headers["x-request-id"]).toMatch(/^call-/);
    for (const name of ["authorization", "cookie", "connection"]) expect(arrived.headers[name]).toBeUndefined();
    expect((await arrived.body).toString()).toBe('{"model":"demo"}');
    answerJson(arrived, 200, { ok: true });
    expect((await reply).status).toBe(200);
  });

  it("brings a small reply back whole, so that it can leave in one write", async () => {
    const { agent, session } = connect({ onCall: (call) => answerJson(call, 404, { error: "none" }) });
    const reply = await send(session, { json: {} }).reply;
    expect(reply.status).toBe(404);
    expect(reply.body).toEqual(Buffer.from('{"error":"none"}'));
    expect(agent.session.openStreams).toBe(0);
  });

  it("brings each event at once, and the end only by END_STREAM", async () => {
    const { agent, session } = connect();
    const { reply } = send(session, { json: {} });
    const { stream, ...call } = await agent.call();
    beginEvents({ stream, ...call });
    const pieces: string[] = [];
    let ended = false;
    bodyOf(await reply).start({
      write: (chunk) => {
        pieces.push(chunk.toString());
        return true;
      },
      end: () => (ended = true),
      fail: () => {},
    });
    for (const word of ["one", "two"]) {
      stream.write(`data: ${word}\n\n`);
      await settled();
      expect(pieces.at(-1)).toBe(`data: ${word}\n\n`);
    }
    expect(ended).toBe(false);
    stream.end();
    await settled();
    expect(ended).toBe(true);
  });

  it("is refused where the connection takes no more calls", async () => {
    const { session } = connect({ streams: 0 });
    await settled();
    const failure = await failureOf(send(session, { json: {} }).reply);
    expect(failure).toBeInstanceOf(CarryFailure);
    expect((failure as CarryFailure).stage).toBe("refused");
  });

  it("tells a call that was certainly not begun from one that may have been, and from one that was", async () => {
    const { agent, session } = connect({ onCall: ({ stream }) => stream.reset(7) });
    const refused = await failureOf(send(session, { json: {} }).reply);
    expect(refused).toMatchObject({ stage: "refused" });
    const other = connect();
    const { reply } = send(other.session, { json: {} });
    await other.agent.call();
    other.agent.link.destroy();
    expect(await failureOf(reply)).toMatchObject({ stage: "before-head" });
    agent.session.destroy();

    const third = connect();
    const answered = send(third.session, { json: {} });
    const call = await third.agent.call();
    beginEvents(call);
    call.stream.write("data: 1\n\n");
    const body = await answered.reply;
    third.agent.link.destroy();
    const { text, failure } = await readReply(body);
    expect(text).toBe("data: 1\n\n");
    expect(failure).toMatchObject({ stage: "after-head" });
  });

  it("never ends cleanly when the stream is reset, whatever the code", async () => {
    for (const code of [0, 2, 8]) {
      const { agent, session } = connect();
      const { reply } = send(session, { json: {} });
      const call = await agent.call();
      beginEvents(call);
      call.stream.write("data: 1\n\n");
      const answered = await reply;
      call.stream.reset(code);
      expect((await readReply(answered)).failure, `code ${code}`).toBeInstanceOf(CarryFailure);
    }
  });

  it("breaks a reply that is shorter than it says", async () => {
    const { agent, session } = connect();
    const { reply } = send(session, { json: {} });
    const { stream } = await agent.call();
    stream.respond({ ":status": "200", "content-length": "10" }, false);
    stream.write("12345");
    const answered = await reply;
    stream.end();
    expect((await readReply(answered)).failure).toBeInstanceOf(CarryFailure);
  });

  it("is cancelled at the agent when the caller leaves, before the head", async () => {
    const { agent, session } = connect();
    const { reply, leave } = send(session, { json: {} });
    const { reset } = await agent.call();
    leave();
    expect(await failureOf(reply)).toMatchObject({ code: "client_closed_request" });
    expect((await reset).code).toBe(8);
    expect(session.openStreams).toBe(0);
  });

  it("is cancelled at the agent when the caller leaves, after the head", async () => {
    const { agent, session } = connect();
    const { reply, leave } = send(session, { json: {} });
    const call = await agent.call();
    beginEvents(call);
    const read = readReply(await reply);
    leave();
    expect((await call.reset).code).toBe(8);
    expect((await read).failure).toMatchObject({ code: "client_closed_request" });
  });

  it("is cancelled when its reader gives the reply up", async () => {
    const { agent, session } = connect();
    const { reply } = send(session, { json: {} });
    const call = await agent.call();
    beginEvents(call);
    bodyOf(await reply).cancel();
    expect((await call.reset).code).toBe(8);
  });

  it("is reset when its body breaks off, and fails with what the body failed with", async () => {
    const { agent, session } = connect();
    const body = new FedBody();
    const { reply } = send(session, { body });
    body.feed("{");
    const { reset } = await agent.call();
    const failure = failureOf(reply);
    body.fail(new ApiError("request_too_large", "too large"));
    expect((await reset).code).toBe(8);
    expect(await failure).toMatchObject({ code: "request_too_large" });
  });

  it("stops the sender of a large body while the agent does not read, and lets it go on", async () => {
    const { agent, session } = connect({ onCall: ({ stream }) => stream.pause() });
    const body = new FedBody();
    void send(session, { body });
    const chunk = Buffer.alloc(256 * 1024, 0x61);
    let sent = 0;
    while (!body.paused && sent < 64 * 1024 * 1024) {
      body.feed(chunk);
      sent += chunk.length;
      await settled(4);
    }
    expect(body.paused).toBe(true);
    expect(sent).toBeLessThan(24 * 1024 * 1024);
    const call = await agent.call();
    expect(call.received()).toBe(0);
    call.stream.resume();
    await agent.until(() => call.received() === sent);
    await settled();
    expect(body.paused).toBe(false);
  });

  it("stops the agent while the reader of a reply is stalled, and goes on when it reads", async () => {
    const { agent, session } = connect();
    const { reply } = send(session, { json: {} });
    const { stream } = await agent.call();
    stream.respond({ ":status": "200", "content-type": "application/octet-stream" }, false);
    const size = 32 * 1024 * 1024;
    const reader = new SlowReader();
    bodyOf(await reply).start(reader);
    for (let sent = 0; sent < size; sent += 256 * 1024) {
      stream.write(Buffer.alloc(256 * 1024, 0x61));
      await settled(3);
    }
    await reader.first;
    expect(reader.received).toBeLessThan(1024 * 1024);
    stream.end();
    reader.room = true;
    bodyOf(await reply).resume();
    expect(await reader.ended).toBeUndefined();
    expect(reader.received).toBe(size);
  });

  it("stops reading a body when the agent has answered without it", async () => {
    const { session } = connect({ onCall: (call) => answerJson(call, 413, { error: "too large" }) });
    const body = new FedBody();
    const { reply } = send(session, { body });
    body.feed("{");
    expect((await reply).status).toBe(413);
    expect(body.cancelled).toBe(true);
    expect(session.openStreams).toBe(0);
  });

  it("leaves no listener with the caller when it is over", async () => {
    const { session } = connect({ onCall: (call) => answerJson(call, 200, {}) });
    const { call } = toCall({ json: {} });
    let listeners = 0;
    const leaving = {
      aborted: false,
      addEventListener: () => void listeners++,
      removeEventListener: () => void listeners--,
    };
    Object.assign(call, { leaving });
    await carry(session, call, { path: call.path, headers: call.headers, body: call.body });
    expect(listeners).toBe(0);
  });
});
