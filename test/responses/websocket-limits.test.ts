import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import type { Reply } from "../../src/core/call.ts";
import { closeAll, encode, eventsOf, says, serve } from "../support/responses-server.ts";
import { textOf } from "../support/responses-socket.ts";
import { waitUntil } from "../support/tunnel-log.ts";

afterEach(closeAll);

const limits = { lifetime: 3_600_000, waiting: 16, pingInterval: 30_000, connections: 100, connectionsOfOne: 10 };
const hello = { model: "m", input: "hello", store: false };

/** A stream that the test feeds by hand. */
class Fed implements ByteStream {
  sink: ByteSink | undefined;
  cancelled = false;
  room = true;
  onStart: () => void = () => undefined;
  onResume: () => void = () => undefined;

  start(sink: ByteSink): void {
    this.sink = sink;
    this.onStart();
  }

  resume(): void {
    this.room = true;
    this.onResume();
  }

  cancel(): void {
    this.cancelled = true;
  }

  get reply(): Reply {
    return { status: 200, headers: { "content-type": "text/event-stream" }, body: this };
  }
}

describe("a client that does not behave", () => {
  it("is told once that too much waits, and cut off, whatever it sends on", async () => {
    let aborted!: () => void;
    const left = new Promise<void>((resolve) => (aborted = resolve));
    const { open, asked, sockets } = await serve(
      async (_body, call) => {
        if (call.leaving.aborted) aborted();
        call.leaving.addEventListener("abort", aborted);
        return new Promise(() => undefined);
      },
      { limits: { ...limits, waiting: 3 } },
    );
    const client = await open();
    for (let sent = 0; sent < 2000; sent++) client.create(hello);
    expect(await client.closed()).toMatchObject({ code: 1008 });
    expect(client.messages).toMatchObject([{ type: "error", status: 429, error: { code: "concurrency_limit" } }]);
    await left;
    expect(asked).toHaveLength(1);
    await waitUntil(() => sockets.size === 0);
  });

  it("is cut off too when it only sends nonsense and reads none of what is said to it", async () => {
    const { open, sockets } = await serve(() => new Promise(() => undefined));
    const client = await open();
    client.webSocket.pause();
    // Answers of some 20 MB, which is more than any system keeps for a socket.
    for (let sent = 0; sent < 100_000; sent++) client.webSocket.send("{");
    await new Promise<void>((resolve) => client.webSocket.send("{", () => resolve()));
    client.webSocket.resume();
    expect(await client.closed()).toMatchObject({ code: 1008 });
    expect(client.messages.at(-1)).toMatchObject({ type: "error", status: 429, error: { code: "concurrency_limit" } });
    await waitUntil(() => sockets.size === 0);
  });

  it("may keep no more bytes waiting than one request may have", async () => {
    const { open } = await serve(() => new Promise(() => undefined), { bodyLimit: 10_000 });
    const client = await open();
    for (let sent = 0; sent < 3; sent++) client.create({ ...hello, input: "x".repeat(6000) });
    expect(await client.closed()).toMatchObject({ code: 1008 });
  });

  it("cannot send a message that is larger than a request may be", async () => {
    const { open, asked } = await serve(async () => says("resp_1", "Hi"), { bodyLimit: 10_000 });
    const client = await open();
    client.create({ ...hello, input: "x".repeat(10_001) });
    expect(await client.closed()).toMatchObject({ code: 1009 });
    expect(asked).toHaveLength(0);
  });

  it("cannot make a request too large by going on from what was said before", async () => {
    const { open, asked } = await serve(async (_body, _call, turn) => says(`resp_${turn}`, "Hi"), {
      bodyLimit: 10_000,
    });
    const client = await open();
    const input = "x".repeat(6000);
    await client.ask({ ...hello, input });
    const events = await client.ask({ ...hello, input, previous_response_id: "resp_1" });
    expect(events).toMatchObject([{ type: "error", status: 413, error: { code: "request_too_large" } }]);
    expect(asked).toHaveLength(1);
  });

  it("holds up its own answer when it does not read, and nothing is piled up for it", async () => {
    const body = new Fed();
    let pushed = 0;
    const piece = encode([{ type: "response.output_text.delta", delta: "x".repeat(60_000) }]);
    const full = new Promise<void>((resolve) => {
      const push = (): void => {
        // Far more than any socket takes by itself.
        while (body.room && pushed < 2000) {
          pushed++;
          body.room = body.sink?.write(Buffer.from(piece)) ?? true;
        }
        if (body.room) resolve();
        else setTimeout(resolve, 200);
      };
      body.onStart = push;
      body.onResume = push;
    });
    const { open } = await serve(async () => body.reply);
    const client = await open();
    client.webSocket.pause();
    client.create(hello);
    await full;
    expect(pushed).toBeLessThan(1000);
    client.webSocket.resume();
    body.onResume = () => undefined;
    body.sink?.write(encode(eventsOf("resp_1", "end")));
    body.sink?.end();
    expect(textOf(await client.answer())).toContain("end");
  });

  it("is cut off when it reads nothing for too long", async () => {
    const body = new Fed();
    const { open, sockets } = await serve(async () => body.reply, { stallTimeout: 100 });
    const client = await open();
    let feeding: NodeJS.Timeout | undefined;
    body.onStart = () => {
      const piece = Buffer.from(encode([{ type: "response.output_text.delta", delta: "x".repeat(500_000) }]));
      const feed = (): void => {
        if (body.cancelled) return;
        if (body.room) body.room = body.sink?.write(piece) ?? false;
        feeding = setTimeout(feed, 1);
      };
      feed();
    };
    client.webSocket.pause();
    client.create(hello);
    await waitUntil(() => body.cancelled && sockets.size === 0);
    clearTimeout(feeding);
  });

  it("ends what it has asked for when it goes", async () => {
    let aborted!: () => void;
    const left = new Promise<void>((resolve) => (aborted = resolve));
    const body = new Fed();
    const { open, outcomes } = await serve(async (_body, call) => {
      call.leaving.addEventListener("abort", () => {
        body.sink?.fail(new Error("nobody reads"));
        aborted();
      });
      return body.reply;
    });
    const client = await open();
    body.onStart = () => client.webSocket.terminate();
    client.create(hello);
    await left;
    await waitUntil(() => outcomes.length > 0);
    expect(outcomes).toMatchObject([{ end: "left" }]);
  });

  it("that is gone in silence is found out", async () => {
    const { url, sockets } = await serve(async () => says("resp_1", "Hi"), {
      stallTimeout: 30,
      limits: { ...limits, pingInterval: 10 },
    });
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.write(
      "GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    socket.resume();
    socket.on("error", () => undefined);
    await once(socket, "close");
    await waitUntil(() => sockets.size === 0);
  });
});

describe("a connection", () => {
  it("stays while its client answers pings, however long it says nothing", async () => {
    const { open } = await serve(async () => says("resp_1", "Hi"), {
      stallTimeout: 200,
      limits: { ...limits, pingInterval: 10 },
    });
    const client = await open();
    let pings = 0;
    client.webSocket.on("ping", () => pings++);
    while (pings < 50) await once(client.webSocket, "ping");
    expect(textOf(await client.ask(hello))).toBe("Hi");
  });

  it("ends after its time, with a word that tells clients to open another", async () => {
    const { open } = await serve(async () => says("resp_1", "Hi"), { limits: { ...limits, lifetime: 30 } });
    const client = await open();
    expect(await client.closed()).toMatchObject({ code: 1000 });
    expect(client.messages).toMatchObject([
      { type: "error", status: 400, error: { code: "websocket_connection_limit_reached" } },
    ]);
  });

  it("at its end finishes the answer under way, and begins no other", async () => {
    const body = new Fed();
    const { open, asked } = await serve(async () => body.reply, { limits: { ...limits, lifetime: 50 } });
    const client = await open();
    client.create(hello);
    client.create(hello);
    await waitUntil(() => body.sink !== undefined);
    // The time is over when a timer of the same length, set later, is.
    await new Promise((resolve) => setTimeout(resolve, 60));
    body.sink?.write(encode(eventsOf("resp_1", "Hi")));
    body.sink?.end();
    expect(textOf(await client.answer())).toBe("Hi");
    await client.closed();
    expect(client.messages.at(-1)).toMatchObject({ error: { code: "websocket_connection_limit_reached" } });
    expect(asked).toHaveLength(1);
  });

  it("gets its answer while the server stops, and is then told to go", async () => {
    const body = new Fed();
    const { open, sockets, url } = await serve(async () => body.reply);
    const [busy, idle] = [await open(), await open()];
    busy.create(hello);
    await waitUntil(() => body.sink !== undefined);
    const closed = sockets.close(60_000);
    expect(await idle.closed()).toMatchObject({ code: 1001 });
    await expect(open()).rejects.toMatchObject({ status: 503 });
    expect(url).toContain("127.0.0.1");
    body.sink?.write(encode(eventsOf("resp_1", "Hi")));
    body.sink?.end();
    expect(textOf(await busy.answer())).toBe("Hi");
    expect(await busy.closed()).toMatchObject({ code: 1001 });
    await closed;
  });

  it("is cut when its answer takes longer than the grace", async () => {
    const { open, sockets } = await serve(() => new Promise(() => undefined));
    const client = await open();
    client.create(hello);
    await sockets.close(20);
    expect(sockets.size).toBe(0);
    await client.closed();
  });

  it("is one of no more than so many, of all and of one caller", async () => {
    const { open } = await serve(async () => says("resp_1", "Hi"), { limits: { ...limits, connections: 2 } });
    const first = await open();
    await open();
    await expect(open()).rejects.toMatchObject({ status: 503, headers: { "retry-after": "30" } });
    first.webSocket.close();
    await first.closed();
    await waitUntil(() =>
      open().then(
        () => true,
        () => false,
      ),
    );
  });
});

describe("a request for a WebSocket", () => {
  it.each([
    ["without a key", "Sec-WebSocket-Version: 13\r\n"],
    ["of another version", "Sec-WebSocket-Version: 7\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"],
  ])("%s of its own is refused in our words", async (_kind, lines) => {
    const { url, sockets } = await serve(async () => says("resp_1", "Hi"));
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.write(`GET /v1/responses HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines}\r\n`);
    let text = "";
    socket.on("data", (piece: Buffer) => (text += piece.toString()));
    await once(socket, "close");
    expect(text).toMatch(/^HTTP\/1\.1 400 [^]*sec-websocket-version: 13[^]*"code":"invalid_request"/);
    expect(sockets.size).toBe(0);
  });

  it.each([
    ["a plain GET", "GET /v1/responses HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["an offer of h2c", "GET /v1/responses HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"],
    [
      "a POST that offers WebSockets",
      "POST /v1/responses HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{}",
    ],
  ])("is not %s", async (_kind, request) => {
    const { url, asked } = await serve(async () => ({ status: 418, headers: {}, body: "plain" }));
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.write(request);
    const [answer] = (await once(socket, "data")) as [Buffer];
    socket.destroy();
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 418 /);
    expect(asked).toHaveLength(1);
  });
});
