import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { type Call, type Handler, jsonReply } from "../../src/core/call.ts";
import { silent } from "../../src/core/log.ts";
import type { Outcome } from "../../src/core/outcome.ts";
import { listen, type RunningServer, type ServerOptions } from "../../src/http/server.ts";

const started: RunningServer[] = [];
afterEach(async () => {
  for (const server of started.splice(0)) await server.close(0);
});

async function serve(handler: Handler, options: Partial<ServerOptions> = {}): Promise<RunningServer & { url: string }> {
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
    ...options,
  });
  started.push(server);
  return { ...server, url: `http://127.0.0.1:${server.port}` };
}

/** What a raw request is answered, until the server closes the connection. */
async function raw(port: number, text: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.write(text);
  let answer = "";
  socket.on("data", (chunk) => (answer += chunk));
  await once(socket, "close");
  return answer;
}

/** A body that a test pushes by hand. */
class Tap implements ByteStream {
  readonly opened: Promise<ByteSink>;
  readonly cancelled: Promise<void>;
  #open!: (sink: ByteSink) => void;
  #cancel!: () => void;
  readonly resumed: (() => void)[] = [];
  constructor() {
    this.opened = new Promise((resolve) => (this.#open = resolve));
    this.cancelled = new Promise((resolve) => (this.#cancel = resolve));
  }
  start(sink: ByteSink): void {
    this.#open(sink);
  }
  resume(): void {
    for (const wake of this.resumed.splice(0)) wake();
  }
  cancel(): void {
    this.#cancel();
  }
}

const echo: Handler = async (call) =>
  jsonReply(200, { path: call.path, search: call.search, body: (await call.bytes()).toString() });

describe("listen", () => {
  test("hands method, path, query and body to the handler and its reply back", async () => {
    const { url } = await serve(echo);
    const reply = await fetch(`${url}/a/b?x=1`, { method: "POST", body: "hello" });
    expect(await reply.json()).toEqual({ path: "/a/b", search: "?x=1", body: "hello" });
    expect(reply.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("keeps a caller's plain request id and replaces one that could forge a log line", async () => {
    const { url } = await serve(echo);
    expect((await fetch(url, { headers: { "x-request-id": "abc-1" } })).headers.get("x-request-id")).toBe("abc-1");
    expect((await fetch(url, { headers: { "x-request-id": "a b\tc" } })).headers.get("x-request-id")).not.toContain(
      "a b",
    );
  });

  test("sends the head of a stream before its first byte, and every piece when it is written", async () => {
    const tap = new Tap();
    const { url } = await serve(() =>
      Promise.resolve({ status: 200, headers: { "content-type": "text/event-stream" }, body: tap }),
    );
    const reply = await fetch(url);
    expect(reply.status).toBe(200);
    const sink = await tap.opened;
    const reader = reply.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (const piece of ["one", "two"]) {
      sink.write(piece);
      expect((await reader.read()).value).toBe(piece);
    }
    sink.end();
    expect((await reader.read()).done).toBe(true);
  });

  test("tells of a stream that ended well, that ended in a failure it told of, and that broke", async () => {
    const outcomes: Outcome[] = [];
    let tap = new Tap();
    const { url } = await serve(() => Promise.resolve({ status: 200, headers: {}, body: tap }), {
      onOutcome: (_call, outcome) => outcomes.push(outcome),
    });
    for (const act of [
      (sink: ByteSink) => sink.end(),
      (sink: ByteSink) => sink.end(new Error("told")),
      (sink: ByteSink) => sink.fail(new Error("broke")),
    ]) {
      tap = new Tap();
      const reply = await fetch(url);
      const sink = await tap.opened;
      sink.write("x");
      act(sink);
      await reply.text().catch(() => undefined);
    }
    while (outcomes.length < 3) await new Promise((resolve) => setImmediate(resolve));
    expect(outcomes.map(({ end, problem }) => [end, problem])).toEqual([
      ["complete", undefined],
      ["failed", "told"],
      ["failed", "broke"],
    ]);
  });

  test("cuts the connection of a reply that failed, so that nobody takes it for whole", async () => {
    const tap = new Tap();
    const { url } = await serve(() => Promise.resolve({ status: 200, headers: {}, body: tap }));
    const reply = await fetch(url);
    const sink = await tap.opened;
    sink.write("half");
    sink.fail(new Error("broken"));
    await expect(reply.text()).rejects.toThrow();
  });

  test("aborts the call when the client leaves before the first byte", async () => {
    let called!: (call: Call) => void;
    const arrived = new Promise<Call>((resolve) => (called = resolve));
    const outcomes: Outcome[] = [];
    const { url } = await serve((call) => new Promise(() => called(call)), {
      onOutcome: (_call, outcome) => outcomes.push(outcome),
    });
    const client = httpRequest(url);
    client.on("error", () => undefined);
    client.end();
    const call = await arrived;
    client.destroy();
    if (!call.signal.aborted) await once(call.signal, "abort");
    expect(outcomes[0]).toMatchObject({ status: 499, end: "left" });
  });

  test("tells whoever reads a body that its client left in the middle of it", async () => {
    const failed = new Promise<unknown>((resolve) => {
      void serve(async (call) => {
        await call.bytes().catch(resolve);
        return jsonReply(200, {});
      }).then(({ port }) => {
        const socket = connect(port, "127.0.0.1");
        socket.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf", () => socket.destroy());
      });
    });
    expect(await failed).toMatchObject({ code: "client_closed_request" });
  });

  test("cancels a stream whose client leaves, and a reply that comes after it left", async () => {
    const tap = new Tap();
    const { url } = await serve(() => Promise.resolve({ status: 200, headers: {}, body: tap }));
    const client = httpRequest(url, (incoming) => incoming.destroy());
    client.on("error", () => undefined);
    client.end();
    await tap.cancelled;

    const late = new Tap();
    let reply!: () => void;
    let called!: (call: Call) => void;
    const arrived = new Promise<Call>((resolve) => (called = resolve));
    const second = await serve((call) => {
      called(call);
      return new Promise((resolve) => (reply = () => resolve({ status: 200, headers: {}, body: late })));
    });
    const leaver = httpRequest(second.url);
    leaver.on("error", () => undefined);
    leaver.end();
    const call = await arrived;
    leaver.destroy();
    if (!call.signal.aborted) await once(call.signal, "abort");
    reply();
    await late.cancelled;
  });

  test("stops a producer whose client does not read, and lets it go on when the client does", async () => {
    const tap = new Tap();
    const { port } = await serve(() => Promise.resolve({ status: 200, headers: {}, body: tap }));
    const socket = connect(port, "127.0.0.1");
    socket.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    socket.pause();
    const sink = await tap.opened;
    const piece = Buffer.alloc(1 << 20);
    let room = true;
    for (let count = 0; room && count < 200; count++) room = sink.write(piece);
    expect(room).toBe(false);
    const resumed = new Promise<void>((resolve) => tap.resumed.push(resolve));
    socket.resume();
    await resumed;
    socket.destroy();
  });

  test("cuts a client that leaves its reply unread for too long", async () => {
    const tap = new Tap();
    const { port } = await serve(() => Promise.resolve({ status: 200, headers: {}, body: tap }), { stallTimeout: 20 });
    const socket = connect(port, "127.0.0.1");
    socket.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    socket.pause();
    const sink = await tap.opened;
    const piece = Buffer.alloc(1 << 20);
    const pump = (): void => {
      tap.resumed.push(pump);
      for (let count = 0; count < 200 && sink.write(piece); count++);
    };
    pump();
    await tap.cancelled;
    socket.destroy();
  });

  test("refuses a body beyond the limit, by its announced length and by its counted bytes", async () => {
    const read: Handler = async (call) => jsonReply(200, { length: (await call.bytes()).length });
    const { url, port } = await serve(async (call) => {
      try {
        return await read(call);
      } catch (error) {
        return jsonReply((error as { status: number }).status, {}, { connection: "close" });
      }
    });
    expect((await fetch(url, { method: "POST", body: Buffer.alloc((1 << 20) + 1) })).status).toBe(413);
    const piece = `10000\r\n${"x".repeat(65536)}\r\n`;
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    for (let count = 0; count < 17; count++) socket.write(piece);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 413/);
    socket.destroy();
    expect((await fetch(url, { method: "POST", body: Buffer.alloc(1 << 20) })).status).toBe(200);
  });

  test.each([
    ["two Host headers", "GET / HTTP/1.1\r\nhost: localhost\r\nHost: evil\r\nconnection: close\r\n\r\n", 400],
    ["no Host header", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n", 400],
    [
      "length and chunks at once",
      "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
      400,
    ],
    ["two lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400],
    [
      "an unknown transfer coding",
      "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
      400,
    ],
    ["something that is no HTTP", "hello there\r\n\r\n", 400],
    ["an absolute target", "GET http://evil/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400],
    ["huge headers", `GET / HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(9000)}\r\n\r\n`, 431],
  ])("refuses %s", async (_name, text, status) => {
    const { port } = await serve(echo);
    expect(await raw(port, text)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  });

  test("answers HEAD with the head alone", async () => {
    const { url } = await serve(echo);
    const reply = await fetch(url, { method: "HEAD" });
    expect(reply.status).toBe(200);
    expect(await reply.text()).toBe("");
  });

  test("a reply without content has no length", async () => {
    const { port } = await serve(() => Promise.resolve({ status: 204, headers: { connection: "close" }, body: null }));
    const answer = await raw(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 204 /);
    expect(answer.toLowerCase()).not.toContain("content-length");
  });

  test("a handler that throws is answered with a bare 500", async () => {
    const { url } = await serve(() => Promise.reject(new Error("secret detail")));
    const reply = await fetch(url);
    expect(reply.status).toBe(500);
    expect(await reply.text()).not.toContain("secret");
  });

  test("lets a client that always has another request go when it closes", async () => {
    let turn: () => void = () => undefined;
    const server = await serve(() => {
      turn();
      return Promise.resolve(jsonReply(200, {}));
    });
    const socket = connect(server.port, "127.0.0.1");
    const ask = (): void => void socket.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    const answers: string[] = [];
    socket.on("data", (bytes) => {
      answers.push(String(bytes));
      ask();
    });
    const asked = new Promise<void>((resolve) => (turn = resolve));
    ask();
    await asked;
    await Promise.all([server.close(60_000), once(socket, "close")]);
    expect(answers.at(-1)).toMatch(/^HTTP\/1.1 200[^]*connection: close/i);
  });

  test("waits at its close for no connection by which nothing was asked yet", async () => {
    const server = await serve(echo);
    const ahead = connect(server.port, "127.0.0.1");
    await once(ahead, "connect");
    // The server has taken it when one that came later is answered.
    await (await fetch(server.url)).text();
    await Promise.all([server.close(60_000), once(ahead, "close")]);
  });

  test("finishes streams under way when it closes, accepts nothing new, and cuts what outlasts the grace", async () => {
    const taps = [new Tap(), new Tap()];
    let count = 0;
    const server = await serve(() => Promise.resolve({ status: 200, headers: {}, body: taps[count++] as Tap }));
    const replies = [await fetch(server.url), await fetch(server.url)];
    const [first, second] = await Promise.all(taps.map((tap) => tap.opened));
    const closed = server.close(200);
    await expect(fetch(server.url)).rejects.toThrow();
    first!.write("last words");
    first!.end();
    expect(await replies[0]!.text()).toBe("last words");
    second!.write("unfinished");
    await taps[1]!.cancelled;
    await closed;
    await expect(replies[1]!.text()).rejects.toThrow();
  });

  test("says which port is taken", async () => {
    const { port } = await serve(echo);
    await expect(serve(echo, { port })).rejects.toMatchObject({ code: "EADDRINUSE" });
  });

  test("serves the next request on a connection whose last body was not read", async () => {
    const { port } = await serve(() => Promise.resolve(jsonReply(200, {})));
    const socket: Socket = connect(port, "127.0.0.1");
    socket.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    await once(socket, "data");
    socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 200/);
    socket.destroy();
  });
});
