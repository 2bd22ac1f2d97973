import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type ByteSink, type ByteStream, collect, isStream } from "../../src/core/bytes.ts";
import { Call, type CallInit, type Reply } from "../../src/core/call.ts";
import { Departure } from "../../src/core/departure.ts";
import { ApiError } from "../../src/core/errors.ts";
import { type ForwardLimits, type ForwardUpstream, forwarder } from "../../src/providers/forward.ts";
import { gate } from "../support/fake-server.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanup.splice(0).toReversed()) await undo();
});

async function listening(server: Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanup.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const runtime = (listener: RequestListener): Promise<string> => listening(createServer(listener));

function forward(upstream: ForwardUpstream, limits: Partial<ForwardLimits> = {}): (call: Call) => Promise<Reply> {
  const made = forwarder(upstream, { connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0, ...limits });
  cleanup.push(() => made.close());
  return made.handle;
}

const call = (more: Partial<CallInit> = {}): Call =>
  new Call({ id: "id-1", method: "POST", path: "/v1/chat/completions", signal: new Departure(), ...more });

async function text(reply: Reply): Promise<string> {
  const { body } = reply;
  if (isStream(body)) return (await collect(body, 1 << 28, () => new Error("too large"))).toString();
  return String(body ?? "");
}

/** A body that hands out what it is asked for, and counts how far its reader lets it run ahead. */
class Supply implements ByteStream {
  given = 0;
  cancelled = false;
  #sink: ByteSink | undefined;
  readonly #pieces: Iterator<Buffer>;

  constructor(pieces: Iterable<Buffer>) {
    this.#pieces = pieces[Symbol.iterator]();
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.resume();
  }

  resume(): void {
    setImmediate(() => this.#pump());
  }

  cancel(): void {
    this.cancelled = true;
    this.#sink = undefined;
  }

  fail(error: Error): void {
    const sink = this.#sink;
    this.#sink = undefined;
    sink?.fail(error);
  }

  #pump(): void {
    for (let room = true; room && this.#sink !== undefined;) {
      const { value, done } = this.#pieces.next();
      if (done === true) {
        const sink = this.#sink;
        this.#sink = undefined;
        return sink.end();
      }
      this.given += (value as Buffer).length;
      room = this.#sink.write(value as Buffer);
    }
  }
}

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const sha = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

describe("a forwarder", () => {
  test("carries method, path, query, headers and body on as they are, with the runtime's own key", async () => {
    const url = await runtime((request, response) => {
      void bytesOf(request).then((body) => {
        const { method, headers } = request;
        response.setHeader("x-mine", "1");
        response.end(JSON.stringify({ method, url: request.url, headers, body: body.toString() }));
      });
    });
    const handle = forward({ url, key: "RUNTIME-KEY" });
    const reply = await handle(
      call({
        path: "/v1/responses/resp%3A1/cancel",
        search: "?a=%20b&b=//x",
        headers: {
          "content-type": "application/json",
          accept: "text/event-stream",
          "user-agent": "opencode",
          authorization: "Bearer CALLERS-KEY",
          host: "relay.example",
          connection: "close",
          "content-length": "99",
          "accept-encoding": "gzip",
        },
        body: Buffer.from('{"a":1}'),
      }),
    );
    expect(reply.status).toBe(200);
    expect(reply.headers["x-mine"]).toBe("1");
    expect(JSON.parse(await text(reply))).toEqual({
      method: "POST",
      url: "/v1/responses/resp%3A1/cancel?a=%20b&b=//x",
      headers: {
        host: url.slice("http://".length),
        "accept-encoding": "identity",
        authorization: "Bearer RUNTIME-KEY",
        "content-type": "application/json",
        accept: "text/event-stream",
        "user-agent": "opencode",
        "x-request-id": "id-1",
        "content-length": "7",
      },
      body: '{"a":1}',
    });
  });

  test("sends no credentials where it has none, whatever the caller sent", async () => {
    const url = await runtime((request, response) => response.end(JSON.stringify(request.headers)));
    const headers = { authorization: "Bearer CALLERS-KEY", "proxy-authorization": "Basic x" };
    const seen = await text(await forward({ url })(call({ method: "GET", path: "/v1/models", headers })));
    expect(seen).not.toMatch(/authorization/);
  });

  test("asks below the address that it has, whether or not that ends in /v1", async () => {
    const paths: (string | undefined)[] = [];
    const url = await runtime((request, response) => {
      paths.push(request.url);
      response.end("{}");
    });
    for (const base of [url, `${url}/`, `${url}/v1`, `${url}/v1/`, `${url}/home/v1`])
      await text(await forward({ url: base })(call({ method: "GET", path: "/v1/models" })));
    expect(paths).toEqual(["/v1/models", "/v1/models", "/v1/models", "/v1/models", "/home/v1/models"]);
  });

  test("never lets a path choose another server, or end its line", async () => {
    const seen: (string | undefined)[] = [];
    const url = await runtime((request, response) => {
      seen.push(request.url);
      response.end("{}");
    });
    const handle = forward({ url });
    // Both are refused before, by the tunnel; here they must at least go nowhere else.
    await text(await handle(call({ method: "GET", path: "//evil.example/x" })));
    expect(seen).toEqual(["//evil.example/x"]);
    for (const path of ["/x\r\nhost: y", "/x y", "http://evil.example/", "x", "/\u00e9"])
      await expect(handle(call({ method: "GET", path }))).rejects.toMatchObject({ code: "invalid_request" });
    await expect(handle(call({ method: "CONNECT" }))).rejects.toMatchObject({ code: "invalid_request" });
    expect(seen.length).toBe(1);
  });

  test("gives every piece of a reply at once, and stops the runtime when the caller leaves", async () => {
    const left = gate();
    const next = gate();
    const url = await runtime((_request, response) => {
      response.on("close", left.open);
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
      void next.opened.then(() => response.write("data: 2\n\n"));
    });
    const departure = new Departure();
    const reply = await forward({ url })(call({ body: Buffer.from("{}"), signal: departure }));
    const pieces: string[] = [];
    const second = gate();
    const failed = new Promise<Error>((resolve) =>
      (reply.body as ByteStream).start({
        write(piece) {
          pieces.push(String(piece));
          if (pieces.length === 1) next.open();
          else second.open();
          return true;
        },
        end: () => undefined,
        fail: resolve,
      }),
    );
    await second.opened;
    expect(pieces).toEqual(["data: 1\n\n", "data: 2\n\n"]);
    departure.leave();
    await left.opened;
    expect((await failed).message).toContain("left");
  });

  test("stops the runtime also when the caller leaves before the reply's head", async () => {
    const left = gate();
    const asked = gate();
    const url = await runtime((_request, response) => {
      response.on("close", left.open);
      asked.open();
    });
    const departure = new Departure();
    const reply = forward({ url })(call({ body: Buffer.from("{}"), signal: departure }));
    await asked.opened;
    departure.leave();
    await expect(reply).rejects.toMatchObject({ code: "client_closed_request" });
    await left.opened;
  });

  test("tells of a reply that breaks off", async () => {
    const url = await runtime((_request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n", () => response.socket?.destroy());
    });
    const reply = await forward({ url })(call({ body: Buffer.from("{}") }));
    await expect(text(reply)).rejects.toThrow();
  });

  test("does not follow a redirect, but says where it would lead", async () => {
    let elsewhere = 0;
    const other = await runtime((_request, response) => {
      elsewhere++;
      response.end();
    });
    for (const status of [301, 302, 303, 307, 308]) {
      const url = await runtime((_request, response) =>
        response.writeHead(status, { location: `${other}/x?key=SECRET` }).end(),
      );
      const problem = await forward({ url })(call({ body: Buffer.from("{}") })).catch((error: unknown) => error);
      expect(problem).toMatchObject({ code: "upstream_error", status: 502 });
      expect((problem as Error).message).toContain(other.slice("http://".length));
      expect((problem as Error).message).not.toContain("SECRET");
    }
    expect(elsewhere).toBe(0);
  });

  test("says nothing of the network at home, in which a runtime may be, to callers far away", async () => {
    const error = await forward({ url: "http://0.0.0.0:1" })(call({})).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "upstream_unreachable",
      message: expect.not.stringContaining("0.0.0.0") as string,
    });
  });

  test("says of a runtime that is not there where it should be, and how to start it", async () => {
    const server = createTcp();
    const url = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    const problem = await forward({ url })(call({ body: Buffer.from("{}") })).catch((error: unknown) => error);
    expect(problem).toMatchObject({ code: "upstream_unreachable", status: 502 });
    expect((problem as Error).message).toContain(url);
    expect((problem as Error).message).toContain("lair serve");
  });

  test("does not blame the caller's key for the runtime's refusal of the agent's", async () => {
    const url = await runtime((_request, response) =>
      response.writeHead(401, { "www-authenticate": "Bearer" }).end("no"),
    );
    await expect(forward({ url })(call({ body: Buffer.from("{}") }))).rejects.toMatchObject({
      code: "upstream_auth_failed",
    });
  });

  test("passes every other status with its body", async () => {
    const url = await runtime((request, response) => {
      response
        .writeHead(Number(request.url?.slice("/v1/models/".length)), { "content-type": "text/plain" })
        .end("said");
    });
    for (const status of [201, 400, 403, 404, 422, 429, 500, 503]) {
      const reply = await forward({ url })(call({ method: "GET", path: `/v1/models/${status}` }));
      expect([reply.status, await text(reply)]).toEqual([status, "said"]);
    }
  });

  test("tries again on a new connection when the kept one had been closed, and only then", async () => {
    let requests = 0;
    const url = await listening(
      createTcp((socket) => {
        socket.on("data", () => {
          requests++;
          if (requests === 2) return socket.end();
          socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        });
        socket.on("error", () => undefined);
      }),
    );
    const handle = forward({ url });
    expect(await text(await handle(call({ body: Buffer.from("{}") })))).toBe("ok");
    expect(await text(await handle(call({ body: Buffer.from("{}") })))).toBe("ok");
    expect(requests).toBe(3);
  });
});

describe("a body that is streamed", () => {
  const piece = randomBytes(16 * 1024);
  function* pieces(count: number): Generator<Buffer> {
    for (let index = 0; index < count; index++) yield piece;
  }

  test("of 32 MB arrives whole, with its length, and never runs far ahead of its reader", async () => {
    const count = 2048;
    const expected = sha(Buffer.concat(Array.from({ length: count }, () => piece)));
    const begin = gate();
    const stuck = gate();
    let head: IncomingMessage["headers"] = {};
    const url = await runtime((request, response) => {
      head = request.headers;
      request.pause();
      stuck.open();
      void begin.opened
        .then(() => bytesOf(request))
        .then((body) => response.end(JSON.stringify({ length: body.length, sha: sha(body) })));
    });
    const supply = new Supply(pieces(count));
    const headers = { "content-length": String(count * piece.length) };
    const reply = forward({ url })(call({ body: supply, headers }));
    await stuck.opened;
    // Nobody reads: the kernel's buffers and ours fill, and then it stops.
    let before = -1;
    for (let turns = 0; turns < 200 || supply.given !== before; turns++) {
      before = supply.given;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(supply.given).toBeLessThan(16 * 1024 * 1024);
    begin.open();
    expect(JSON.parse(await text(await reply))).toEqual({ length: count * piece.length, sha: expected });
    expect(head["content-length"]).toBe(String(count * piece.length));
    expect(head["transfer-encoding"]).toBe(undefined);
  });

  test("of unknown length goes in chunks", async () => {
    let head: IncomingMessage["headers"] = {};
    const url = await runtime((request, response) => {
      head = request.headers;
      void bytesOf(request).then((body) => response.end(`${body.length} ${sha(body)}`));
    });
    // An empty piece in the middle must not end it.
    const parts = [piece, Buffer.alloc(0), piece, Buffer.from("x")];
    const whole = Buffer.concat(parts);
    const reply = await forward({ url })(call({ body: new Supply(parts) }));
    expect(await text(reply)).toBe(`${whole.length} ${sha(whole)}`);
    expect(head["transfer-encoding"]).toBe("chunked");
  });

  test("that breaks off never looks complete to the runtime, and says why", async () => {
    const seen = gate();
    const broken = gate();
    const url = await runtime((request) => {
      request.once("data", seen.open);
      request.on("end", () => expect.unreachable("the runtime took the broken body for a whole one"));
      request.on("error", broken.open);
    });
    const supply = new Supply(pieces(40));
    const reply = forward({ url })(call({ body: supply, headers: { "content-length": String(100 * piece.length) } }));
    await seen.opened;
    await expect(reply).rejects.toMatchObject({ code: "client_closed_request" });
    await broken.opened;
  });

  test("that is too large brings the refusal of who counted it", async () => {
    const seen = gate();
    const url = await runtime((request) => {
      request.once("data", seen.open);
      request.on("error", () => undefined);
    });
    let give: () => void = () => undefined;
    const waits: ByteStream = {
      start(sink) {
        sink.write(piece);
        give = () => sink.fail(new ApiError("request_too_large", "the request body is larger than the limit"));
      },
      resume: () => undefined,
      cancel: () => undefined,
    };
    const reply = forward({ url })(call({ body: waits }));
    await seen.opened;
    give();
    await expect(reply).rejects.toMatchObject({ code: "request_too_large" });
  });

  test("is not sent a second time when the runtime closes, and its source is told to stop", async () => {
    let connections = 0;
    const url = await listening(
      createTcp((socket) => {
        connections++;
        socket.once("data", () => socket.resetAndDestroy());
      }),
    );
    const supply = new Supply(pieces(4096));
    const reply = forward({ url })(call({ body: supply, headers: { "content-length": String(4096 * piece.length) } }));
    await expect(reply).rejects.toMatchObject({ code: "upstream_error" });
    expect(connections).toBe(1);
    expect(supply.cancelled).toBe(true);
  });

  test("is given up when the runtime answers before it has all of it", async () => {
    const url = await runtime((request, response) => {
      request.once("data", () => response.writeHead(413, { connection: "close" }).end("too much"));
    });
    // Ends never: only the early answer brings the call to an end.
    function* endless(): Generator<Buffer> {
      for (;;) yield piece;
    }
    const supply = new Supply(endless());
    const reply = await forward({ url })(call({ body: supply }));
    expect([reply.status, await text(reply)]).toEqual([413, "too much"]);
    expect(supply.cancelled).toBe(true);
  });

  /** Answers every request as soon as it begins, and keeps the connection. */
  async function hasty(): Promise<{ url: string; connections: () => number }> {
    let connections = 0;
    const url = await listening(
      createTcp((socket) => {
        connections++;
        let used = false;
        socket.on("error", () => undefined);
        socket.on("data", () => {
          if (!used) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
          used = true;
        });
      }),
    );
    return { url, connections: () => connections };
  }

  test("leaves no connection in use whose request was not complete when the answer came", async () => {
    const { url, connections } = await hasty();
    const handle = forward({ url });
    const waits: ByteStream = { start: (sink) => void sink.write(piece), resume: () => {}, cancel: () => {} };
    expect(await text(await handle(call({ body: waits })))).toBe("ok");
    expect(await text(await handle(call({ body: Buffer.from("{}") })))).toBe("ok");
    expect(connections()).toBe(2);
  });

  test("goes out on a new connection, for a kept one may be stale and it cannot be sent again", async () => {
    const { url, connections } = await hasty();
    const handle = forward({ url });
    expect(await text(await handle(call({ body: Buffer.from("{}") })))).toBe("ok");
    expect(await text(await handle(call({ body: new Supply([piece]) })))).toBe("ok");
    expect(connections()).toBe(2);
  });

  test("is stopped when the caller leaves in the middle of it", async () => {
    const seen = gate();
    const broken = gate();
    const url = await runtime((request) => {
      request.once("data", seen.open);
      request.on("error", broken.open);
    });
    const departure = new Departure();
    function* endless(): Generator<Buffer> {
      for (;;) yield piece;
    }
    const supply = new Supply(endless());
    const reply = forward({ url })(call({ body: supply, signal: departure }));
    await seen.opened;
    departure.leave();
    await expect(reply).rejects.toMatchObject({ code: "client_closed_request" });
    await broken.opened;
    expect(supply.cancelled).toBe(true);
  });
});
