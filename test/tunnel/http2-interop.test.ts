import { once } from "node:events";
import * as http2 from "node:http2";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { afterEach, expect, test } from "vitest";
import { errorCodes } from "../../src/tunnel/http2/errors.ts";
import { Http2Session, type SessionOptions } from "../../src/tunnel/http2/session.ts";
import type { Http2Stream } from "../../src/tunnel/http2/stream.ts";
import { socketLink } from "../../src/tunnel/links/socket-link.ts";
import { seeded } from "../support/bytes.ts";
import { request, Told } from "../support/http2-peer.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const plenty = { maxSessionMemory: 1000 };
const sizes = [0, 1, 16_384, 100_000, 32 * 1024 * 1024];

function bytesOf(size: number): Buffer {
  const random = seeded(size);
  const block = Buffer.from(Array.from({ length: 65_537 }, () => random() * 256));
  return Buffer.alloc(size, block);
}

/** Our client at a server of node's. */
async function atNode(
  onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => unknown,
  options: Partial<SessionOptions> & { server?: http2.ServerOptions } = {},
): Promise<{ client: Http2Session; server: http2.Http2Server; closed: Promise<Error | undefined> }> {
  const server = http2.createServer({ ...plenty, ...options.server });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    onStream(stream, headers);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => server.close());
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  let tellClosed!: (error: Error | undefined) => void;
  const closed = new Promise<Error | undefined>((resolve) => {
    tellClosed = resolve;
  });
  const client = new Http2Session(socketLink(socket), { role: "client", ...options, onClose: tellClosed });
  closing.push(() => client.destroy());
  await client.ping();
  return { client, server, closed };
}

/** A client of node's at our server. */
async function atOurs(
  onStream: SessionOptions["onStream"],
  options: Partial<SessionOptions> = {},
): Promise<{ client: http2.ClientHttp2Session; session: () => Http2Session; server: Server }> {
  let session: Http2Session | undefined;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const serverOptions: SessionOptions = { role: "server", onStream: onStream!, onClose: () => {}, ...options };
    session = new Http2Session(socketLink(socket), serverOptions);
    closing.push(() => session?.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => server.close());
  const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, plenty);
  client.on("error", () => {});
  closing.push(() => client.destroy());
  await once(client, "connect");
  return { client, session: () => session!, server };
}

/** Gives back what it is sent, no faster than that is read. */
function echo(stream: Http2Stream): Told {
  const told = new Told();
  stream.respond({ ":status": "200" }, false);
  told.onData = (chunk) => {
    if (!stream.write(chunk)) stream.pause();
  };
  told.onDrain = () => stream.resume();
  told.onEnd = () => stream.end();
  return told;
}

async function bodyOf(stream: http2.ClientHttp2Stream): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

test.each(sizes)("a body of %i bytes reaches node's server and comes back whole", async (size) => {
  const { client } = await atNode((stream) => {
    stream.respond({ ":status": 200, "x-size": size });
    stream.pipe(stream);
  });
  const body = bytesOf(size);
  const told = new Told();
  const stream = client.open({ ...request, "content-length": String(size) }, told, false);
  stream.write(body);
  stream.end();
  await told.over;
  expect(told.words).toEqual(["head", "end"]);
  expect(told.head).toMatchObject({ ":status": "200", "x-size": String(size) });
  expect(Buffer.concat(told.body).equals(body)).toBe(true);
  expect(client.openStreams).toBe(0);
});

test.each(sizes)("a body of %i bytes from node's client comes back whole", async (size) => {
  const { client, session } = await atOurs(echo);
  const body = bytesOf(size);
  const stream = client.request({ ":method": "POST", ":path": "/", "content-length": size });
  stream.end(body);
  expect((await bodyOf(stream)).equals(body)).toBe(true);
  expect(session().openStreams).toBe(0);
});

test("200 streams at a time through node's server, each with its own answer", async () => {
  const { client } = await atNode(async (stream, headers) => {
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(part as Buffer);
    stream.respond({ ":status": 200, "x-path": headers[":path"] });
    stream.end(Buffer.concat(parts));
  });
  const all = Array.from({ length: 200 }, (_, n) => {
    const told = new Told();
    const stream = client.open({ ...request, ":path": `/${n}` }, told, false);
    for (let piece = 0; piece < 20; piece++) stream.write(`${n}:`.repeat(n * 10));
    stream.end();
    return told;
  });
  for (const [n, told] of all.entries()) {
    await told.over;
    expect(told.head?.["x-path"]).toBe(`/${n}`);
    expect(told.text).toBe(`${n}:`.repeat(n * 200));
  }
});

test("200 streams at a time from node's client", async () => {
  const { client } = await atOurs(echo);
  const bodies = Array.from({ length: 200 }, (_, n) => bytesOf(n * 997));
  const answers = bodies.map((body) => {
    const stream = client.request({ ":method": "POST", ":path": "/" });
    stream.end(body);
    return bodyOf(stream);
  });
  for (const [n, answer] of answers.entries()) expect((await answer).equals(bodies[n]!)).toBe(true);
});

test("headers of more than a frame, and every letter in node's Huffman code, are read", async () => {
  const heads: http2.IncomingHttpHeaders[] = [];
  const { client } = await atOurs((stream, headers) => {
    heads.push(headers);
    stream.respond({ ":status": "200", "x-long": "y".repeat(20_000), "x-many": headers["x-many"]! }, true);
    return new Told();
  });
  const letters: Record<string, string> = {};
  for (let code = 0x21; code < 0x100; code++)
    if (code !== 0x7f) letters[`x-${code}`] = `0000000000${String.fromCharCode(code)}0000000000`;
  const many = "many words ".repeat(3000).trim();
  const stream = client.request({ ":path": "/", "x-many": many, ...letters });
  const [answer] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  expect(heads[0]).toMatchObject({ ...letters, "x-many": many });
  expect(answer["x-long"]).toBe("y".repeat(20_000));
  expect(answer["x-many"]).toBe(many);
});

test("headers of more than a frame reach node's server", async () => {
  const { client } = await atNode(
    (stream, headers) => {
      stream.respond({ ":status": 200, "x-length": String(headers["x-long"]).length }, { endStream: true });
    },
    { server: { maxHeaderListPairs: 1000, settings: { maxHeaderListSize: 100_000 } } },
  );
  const told = new Told();
  client.open({ ...request, "x-long": "z".repeat(50_000) }, told, true);
  await told.over;
  expect(told.head?.["x-length"]).toBe("50000");
  expect(told.words).toEqual(["head without a body", "end"]);
});

test("trailers are passed over, and what precedes the head of the response too", async () => {
  const { client } = await atNode((stream) => {
    stream.additionalHeaders({ ":status": 103, link: "</a>" });
    stream.respond({ ":status": 200 }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "1" }));
    stream.end("body");
  });
  const told = await whole(client);
  expect(told.words).toEqual(["head", "end"]);
  expect(told.head?.[":status"]).toBe("200");
  expect(told.text).toBe("body");
});

test("trailers of node's client end a request", async () => {
  const { client } = await atOurs(echo);
  const stream = client.request({ ":method": "POST", ":path": "/" }, { waitForTrailers: true } as object);
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "1" }));
  stream.end("body");
  expect((await bodyOf(stream)).toString()).toBe("body");
});

test("a reset of node's server is told with its code, and REFUSED_STREAM as not processed", async () => {
  const { client } = await atNode((stream, headers) => stream.close(Number(headers["x-code"])));
  for (const code of [errorCodes.cancel, errorCodes.internalError, errorCodes.refusedStream]) {
    const told = new Told();
    client.open({ ...request, "x-code": String(code) }, told, false);
    await told.over;
    expect(told.resetReason).toMatchObject({ code, lost: false, refused: code === errorCodes.refusedStream });
  }
  expect(client.openStreams).toBe(0);
});

test("our reset reaches node's server, also before the head of the response", async () => {
  const codes: number[] = [];
  const resets = new Promise<void>((resolve) => {
    void atNode((stream) => {
      stream.on("close", () => {
        if (codes.push(stream.rstCode) === 2) resolve();
      });
      stream.resume();
    }).then(async ({ client }) => {
      client.open(request, new Told(), false).reset(errorCodes.cancel);
      const late = client.open(request, new Told(), true);
      await client.ping();
      late.reset(errorCodes.enhanceYourCalm);
    });
  });
  await resets;
  expect(codes.sort((one, other) => one - other)).toEqual([errorCodes.cancel, errorCodes.enhanceYourCalm]);
});

test("a reset of node's client is told to our server, and ours to node's client", async () => {
  const requests: Told[] = [];
  const { client } = await atOurs((stream, headers) => {
    const told = new Told();
    requests.push(told);
    if (headers[":path"] === "/refuse") stream.reset(errorCodes.refusedStream);
    return told;
  });
  const given = client.request({ ":method": "POST", ":path": "/" });
  given.on("error", () => {});
  given.write("x");
  await new Promise((resolve) => client.ping(resolve));
  given.close(errorCodes.cancel);
  await requests[0]!.over;
  expect(requests[0]!.resetReason).toMatchObject({ code: errorCodes.cancel, lost: false });
  const refused = client.request({ ":path": "/refuse" });
  refused.on("error", () => {});
  await new Promise((resolve) => refused.on("close", resolve));
  expect(refused.rstCode).toBe(errorCodes.refusedStream);
});

test("after node's GOAWAY no stream is opened, and those under way end", async () => {
  let said = 0;
  const streams: http2.ServerHttp2Stream[] = [];
  const { client, closed } = await atNode((stream) => streams.push(stream), { onGoaway: () => said++ });
  const told = new Told();
  client.open(request, told, true);
  await client.ping();
  streams[0]!.session!.close();
  while (client.accepting) await new Promise((resolve) => setImmediate(resolve));
  expect(said).toBe(1);
  expect(() => client.open(request, new Told(), true)).toThrow("no more streams");
  streams[0]!.respond({ ":status": 200 });
  streams[0]!.end("late");
  await told.over;
  expect(told.words).toEqual(["head", "end"]);
  expect(await closed).toBeUndefined();
});

test("our GOAWAY lets node's client finish, and then the connection closes", async () => {
  const streams: Http2Stream[] = [];
  const { client, session } = await atOurs((stream) => {
    streams.push(stream);
    return new Told();
  });
  const under = client.request({ ":path": "/" });
  await new Promise((resolve) => client.ping(resolve));
  const finished = session().finish();
  await once(client, "goaway");
  streams[0]!.respond({ ":status": "200" }, false);
  streams[0]!.write("late");
  streams[0]!.end();
  expect((await bodyOf(under)).toString()).toBe("late");
  await finished;
  expect(session().closed).toBe(true);
});

test("more streams than we allow are refused, and node's limit is kept", async () => {
  const held: Http2Stream[] = [];
  const { client } = await atOurs(
    (stream) => {
      held.push(stream);
      return new Told();
    },
    { maxConcurrentStreams: 3 },
  );
  await new Promise((resolve) => client.ping(resolve));
  expect(client.remoteSettings.maxConcurrentStreams).toBe(3);
  const limited = await atNode((stream) => stream.respond({ ":status": 200 }), {
    server: { settings: { maxConcurrentStreams: 2 } },
  });
  limited.client.open(request, new Told(), true);
  expect(limited.client.accepting).toBe(true);
  limited.client.open(request, new Told(), true);
  expect(limited.client.accepting).toBe(false);
});

test("a response that is shorter than it announced is a reset and no end", async () => {
  const { client } = await atNode((stream) => {
    stream.respond({ ":status": 200, "content-length": "10" });
    stream.end("short");
  });
  const told = await whole(client);
  expect(told.words).toEqual(["head", `reset ${errorCodes.protocolError}`]);
  const { client: other } = await atNode((stream) => {
    stream.respond({ ":status": 200, "content-length": "10" }, { endStream: true });
  });
  const head = new Told();
  other.open({ ...request, ":method": "HEAD" }, head, true);
  await head.over;
  expect(head.words).toEqual(["head without a body", "end"]);
});

test("when node's end is killed every stream is lost, then the session closes once", async () => {
  const { client, server, closed } = await atNode((stream) => stream.respond({ ":status": 200 }));
  const sessions: http2.ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  const all = Array.from({ length: 50 }, () => {
    const told = new Told();
    client.open(request, told, false);
    return told;
  });
  const first = all[0]!;
  while (first.head === undefined) await new Promise((resolve) => setImmediate(resolve));
  client.link.destroy();
  await closed;
  for (const told of all) expect(told.resetReason).toMatchObject({ lost: true, refused: false });
  await expect(client.ping()).rejects.toThrow("closed");
});

async function whole(client: Http2Session): Promise<Told> {
  const told = new Told();
  client.open(request, told, true);
  return told.over;
}
