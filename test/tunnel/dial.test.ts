import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { type Dialled, DialRefused } from "../../src/tunnel/handshake/dial.ts";
import { Heard } from "../support/open-links.ts";
import { makeCertificate } from "../support/tunnel-certificate.ts";
import { dialAs, type DoorServer, goodKey, startConnectProxy, startDoor } from "../support/tunnel-door.ts";

const certificate = makeCertificate();
if (certificate === undefined) console.warn("dialling over TLS is not tested: openssl is not installed");
const tls = certificate && { cert: readFileSync(certificate.cert, "utf8"), key: readFileSync(certificate.key, "utf8") };

const toClose: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).toReversed()) await close();
});
afterAll(() => certificate?.remove());

async function relay(...settings: Parameters<typeof startDoor>): Promise<DoorServer> {
  const door = await startDoor(...settings);
  toClose.push(() => door.stop());
  door.echo();
  return door;
}

/** A server that does to each connection what is said, and its address without a scheme. */
async function server(take: (socket: Socket) => unknown): Promise<string> {
  const sockets = new Set<Socket>();
  const listening = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    take(socket);
  });
  listening.listen(0, "127.0.0.1");
  await once(listening, "listening");
  toClose.push(() => {
    listening.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(listening.address() as AddressInfo).port}`;
}

/** Reads the head of a request. */
async function head(socket: Socket): Promise<string> {
  let read = "";
  for (;;) {
    const [bytes] = (await once(socket, "data")) as [Buffer];
    read += bytes.toString("latin1");
    if (read.includes("\r\n\r\n")) return read;
  }
}

async function expectEcho({ link }: Dialled): Promise<void> {
  toClose.push(() => link.destroy());
  const heard = new Heard(link);
  link.write(Buffer.from("hello through the tunnel"));
  await heard.until(() => heard.bytes.length === 24);
  expect(heard.bytes.toString()).toBe("hello through the tunnel");
}

async function problemOf(dialled: Promise<Dialled>): Promise<Error> {
  return dialled.then(
    ({ link }) => {
      link.destroy();
      throw new Error("the dial went through");
    },
    (error: Error) => error,
  );
}

describe("a relay is reached", () => {
  test.each(["upgrade", "ws", "auto"] as const)("by %s, and learns who comes", async (transport) => {
    const { url, arrivals } = await relay();
    const dialled = await dialAs(url, { transport });
    await expectEcho(dialled);
    expect(dialled.transport).toBe(transport === "auto" ? "upgrade" : transport);
    expect(arrivals[0]).toMatchObject({
      identity: { name: "home", keyId: "k1" },
      version: "0.9.0",
      instance: "instance-1",
      transport: dialled.transport,
      address: "127.0.0.1",
    });
  });

  test("by its name alone on this machine, where no key is needed", async () => {
    const { url, arrivals } = await relay();
    const { link } = await dialAs(url, { key: undefined, name: "attic" } as object);
    toClose.push(() => link.destroy());
    expect(arrivals[0]?.identity).toMatchObject({ name: "attic", keyId: undefined });
  });

  test("below the path where a front has mounted it", async () => {
    let asked = "";
    const address = await server((socket) => void head(socket).then((text) => ((asked = text), socket.destroy())));
    await problemOf(dialAs(`http://${address}/ai/lair/`, { transport: "upgrade" }));
    expect(asked).toMatch(/^GET \/ai\/lair\/tunnel HTTP\/1\.1\r\n/);
    await problemOf(dialAs(`http://${address}/ai/lair/`, { transport: "ws" }));
    expect(asked).toMatch(/^GET \/ai\/lair\/tunnel HTTP\/1\.1\r\n/);
    expect(asked).toContain(`Bearer ${goodKey}`);
  });

  test("when the relay speaks in the same packet as its agreement", async () => {
    const address = await server(async (socket) => {
      await head(socket);
      socket.write("HTTP/1.1 101 Ok\r\nConnection: upgrade\r\nUpgrade: lair-tunnel/1\r\n\r\nfirst bytes");
    });
    const { link } = await dialAs(`http://${address}`);
    toClose.push(() => link.destroy());
    const heard = new Heard(link);
    await heard.until(() => heard.bytes.length === 11);
    expect(heard.bytes.toString()).toBe("first bytes");
  });

  test.each([undefined, "me:secret word"])("through a proxy, with the credentials %s", async (credentials) => {
    const { url } = await relay();
    const proxy = await startConnectProxy(credentials);
    toClose.push(() => proxy.close());
    const named = credentials === undefined ? proxy.url : proxy.url.replace("//", "//me:secret%20word@");
    const address = url.replace("127.0.0.1", "relay.invalid");
    for (const transport of ["upgrade", "ws"] as const)
      await expectEcho(await dialAs(address, { transport, proxy: named }));
    expect(new Set(proxy.asked)).toEqual(new Set([address.replace("http://", "")]));
  });
});

describe.skipIf(certificate === undefined)("over TLS", () => {
  test.each(["upgrade", "ws"] as const)("a relay is reached by %s when its authority is named", async (transport) => {
    const { url } = await relay({}, { tls: tls! });
    await expectEcho(await dialAs(url, { transport, tls: { ca: tls!.cert } }));
  });

  test.each(["upgrade", "ws"] as const)("a relay is reached by %s through a proxy", async (transport) => {
    const { url } = await relay({}, { tls: tls! });
    const proxy = await startConnectProxy();
    toClose.push(() => proxy.close());
    await expectEcho(await dialAs(url, { transport, tls: { ca: tls!.cert }, proxy: proxy.url }));
    expect(proxy.asked).toHaveLength(1);
  });

  test("a relay is reached through a proxy that speaks TLS itself, which is closed with it", async () => {
    const script = fileURLToPath(new URL("../support/https-proxy-parent.ts", import.meta.url));
    const { cert, key } = certificate!;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--import", "tsx", script, cert, key], {
      env: { ...process.env, NODE_EXTRA_CA_CERTS: cert },
    });
    expect(stderr).toBe("");
    expect(stdout.trim().split("\n")).toEqual(["upgrade to http", "ws to http", "upgrade to https", "ws to https"]);
  });

  test("a certificate that nobody vouches for is refused, and --tls-ca named", async () => {
    const { url, arrivals } = await relay({}, { tls: tls! });
    expect((await problemOf(dialAs(url))).message).toMatch(/127\.0\.0\.1:\d+ is of no authority known here.*--tls-ca/);
    expect(arrivals).toEqual([]);
  });

  test("a certificate for another name is refused", async () => {
    const { url } = await relay({}, { tls: tls! });
    const proxy = await startConnectProxy();
    toClose.push(() => proxy.close());
    const other = url.replace("127.0.0.1", "relay.invalid");
    const error = await problemOf(dialAs(other, { tls: { ca: tls!.cert }, proxy: proxy.url }));
    expect(error.message).toMatch(/is for another name/);
  });

  test("a relay that wants a certificate refuses who has none, and admits who has one of its authority", async () => {
    const client = makeCertificate()!;
    toClose.push(() => client.remove());
    const [cert, key] = [readFileSync(client.cert, "utf8"), readFileSync(client.key, "utf8")];
    const { url } = await relay({ requireClientCertificate: true }, { tls: { ...tls!, clientCa: cert } });
    const ca = tls!.cert;
    expect(await problemOf(dialAs(url, { tls: { ca } }))).toMatchObject({
      status: 403,
      code: "client_certificate_required",
    });
    // The relay's own certificate is none of its clients' authority.
    expect(await problemOf(dialAs(url, { tls: { ca, cert: tls!.cert, key: tls!.key } }))).toMatchObject({
      status: 403,
    });
    await expectEcho(await dialAs(url, { tls: { ca, cert, key } }));
  });

  test("files that are none, or do not belong together, are told of", async () => {
    const { url } = await relay({}, { tls: tls! });
    const other = makeCertificate()!;
    toClose.push(() => other.remove());
    for (const files of [
      { ca: tls!.cert, cert: "nonsense", key: "nonsense" },
      { ...tls!, key: readFileSync(other.key, "utf8") },
    ])
      expect((await problemOf(dialAs(url, { tls: files }))).message).toMatch(/TLS files cannot be used.*PEM/);
  });

  test("http where TLS is spoken, and https where it is not, are told apart", async () => {
    const secure = await relay({}, { tls: tls! });
    const plain = await relay();
    expect((await problemOf(dialAs(secure.url.replace("https", "http")))).message).toMatch(/write https:\/\//);
    expect((await problemOf(dialAs(plain.url.replace("http", "https")))).message).toMatch(/write http:\/\//);
  });

  test("a TLS front that has to be told of TLS is understood", async () => {
    const bodies = [
      "<html>The plain HTTP request was sent to HTTPS port</html>",
      "Client sent an HTTP request to an HTTPS server.",
    ];
    for (const body of bodies) {
      const address = await server(async (socket) => {
        await head(socket);
        socket.end(`HTTP/1.1 400 Bad Request\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
      });
      expect((await problemOf(dialAs(`http://${address}`))).message).toMatch(/write https:\/\//);
    }
  });
});

describe("a front that passes only WebSockets", () => {
  /** Refuses an Upgrade in the way given, passes a WebSocket on. */
  async function front(
    relayUrl: string,
    refuse: (socket: Socket) => void,
  ): Promise<{ url: string; upgrades: () => number }> {
    let upgrades = 0;
    const address = await server(async (socket) => {
      const request = await head(socket);
      if (!/^upgrade: websocket\r$/im.test(request)) {
        upgrades++;
        return refuse(socket);
      }
      socket.pause();
      const upstream = connect(Number(new URL(relayUrl).port), "127.0.0.1", () => {
        upstream.write(request, "latin1");
        socket.pipe(upstream).pipe(socket);
      });
      upstream.on("error", () => socket.destroy());
      socket.on("close", () => upstream.destroy());
    });
    return { url: `http://${address}`, upgrades: () => upgrades };
  }

  test.each([200, 400, 403, 404, 405, 426, 501, 502])("is passed as one when it answers %i", async (status) => {
    const { url } = await relay();
    const before = await front(url, (socket) =>
      socket.end(`HTTP/1.1 ${status} Front\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>`),
    );
    const dialled = await dialAs(before.url);
    await expectEcho(dialled);
    expect(dialled.transport).toBe("ws");
    // The second time it is known.
    await expectEcho(await dialAs(before.url));
    expect(before.upgrades()).toBe(1);
  });

  test("is passed as one when it cuts the connection", async () => {
    const { url } = await relay();
    const before = await front(url, (socket) => socket.destroy());
    expect((await dialAs(before.url).then(keep)).transport).toBe("ws");
  });

  test("is passed as one when it never answers", async () => {
    const { url } = await relay();
    const before = await front(url, () => undefined);
    expect((await dialAs(before.url, { connectTimeout: 1500 }).then(keep)).transport).toBe("ws");
  });

  test("is not tried twice for a key that the relay itself refuses", async () => {
    const { url, logged } = await relay();
    const error = await problemOf(dialAs(url, { key: "lla_home_unknown" }));
    expect(error).toBeInstanceOf(DialRefused);
    expect(error).toMatchObject({ status: 401, code: "invalid_api_key" });
    expect(error.message).toContain("lair cloud agents");
    expect(logged).toHaveLength(1);
  });

  test("whose refusals are of both ways is told with both", async () => {
    const address = await server(async (socket) => {
      await head(socket);
      socket.end("HTTP/1.1 404 Not Found\r\nserver: some/1.0\r\ncontent-length: 0\r\n\r\n");
    });
    const { message } = await problemOf(dialAs(`http://${address}/x`));
    expect(message).toContain(`http://${address}/x`);
    expect(message).toMatch(/Upgrade, it answers 404 \(some\/1\.0\).*WebSocket, it answers 404/);
  });

  function keep(dialled: Dialled): Dialled {
    toClose.push(() => dialled.link.destroy());
    return dialled;
  }
});

describe("what goes wrong is told", () => {
  test("by the relay's own words, status and time to wait", async () => {
    const { url } = await relay();
    expect(await problemOf(dialAs(url, { key: "lla_taken_0123456789" }))).toMatchObject({
      status: 403,
      code: "insufficient_scope",
    });
    for (let time = 0; time < 5; time++) await problemOf(dialAs(url, { key: "lla_home_wrong" }));
    const error = (await problemOf(dialAs(url, { key: "lla_home_wrong" }))) as DialRefused;
    expect(error).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
    expect(error.retryAfter).toBeGreaterThan(0);
  });

  test("for a name without an address, a port without a server, and a server that is no HTTP server", async () => {
    expect((await problemOf(dialAs("https://relay.invalid"))).message).toMatch(
      /cannot find the relay's host relay\.invalid/,
    );
    const gone = createServer().listen(0, "127.0.0.1");
    await once(gone, "listening");
    const { port } = gone.address() as AddressInfo;
    gone.close();
    await once(gone, "close");
    expect((await problemOf(dialAs(`http://127.0.0.1:${port}`))).message).toMatch(
      /nothing listens at 127\.0\.0\.1:\d+.*lair cloud/,
    );
    const ssh = await server((socket) => void socket.write("SSH-2.0-OpenSSH_9.2\r\n"));
    for (const transport of ["upgrade", "ws", "auto"] as const)
      expect((await problemOf(dialAs(`http://${ssh}`, { transport }))).message).toMatch(/does not answer in HTTP/);
  });

  test("for a redirect, which is not followed", async () => {
    let connections = 0;
    const address = await server(async (socket) => {
      connections++;
      await head(socket);
      socket.end("HTTP/1.1 301 Moved\r\nlocation: https://elsewhere.example/tunnel?key=1\r\ncontent-length: 0\r\n\r\n");
    });
    expect((await problemOf(dialAs(`http://${address}`))).message).toMatch(
      /redirects to https:\/\/elsewhere\.example;/,
    );
    expect((await problemOf(dialAs(`http://${address}`, { transport: "ws" }))).message).toContain("elsewhere.example;");
    expect(connections).toBe(2);
  });

  test("for a proxy that is not there, wants credentials, or refuses", async () => {
    const proxy = await startConnectProxy("a:b");
    toClose.push(() => proxy.close());
    const { message } = await problemOf(
      dialAs("https://relay.invalid", { proxy: proxy.url.replace("//", "//a:wrong@") }),
    );
    expect(message).toMatch(/the proxy wants a user and a password.*407.*relay\.invalid:443/);
    expect(message).not.toContain("wrong");
    const gone = await problemOf(dialAs("https://relay.invalid", { proxy: "http://127.0.0.1:1" }));
    expect(gone.message).toMatch(/cannot reach the proxy 127\.0\.0\.1:1 \(ECONNREFUSED\)/);
    const refusing = await server((socket) => void socket.end("HTTP/1.1 403 Forbidden\r\n\r\n"));
    expect((await problemOf(dialAs("https://relay.invalid", { proxy: `http://${refusing}` }))).message).toMatch(
      /refused the connection \(403\)/,
    );
  });

  test.each([
    ["without end", "x".repeat(40_000)],
    ["that is no head", "HTTP/1.1 101 Ok\r\nupgrade lair-tunnel/1\r\n\r\n"],
    ["of another protocol", "HTTP/1.1 101 Ok\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"],
    ["with an endless head", `HTTP/1.1 200 Ok\r\nx: ${"y".repeat(70_000)}`],
    ["with two lengths", "HTTP/1.1 200 Ok\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12"],
  ])("for an answer %s", async (_kind, answer) => {
    const address = await server(async (socket) => {
      await head(socket);
      socket.write(answer);
    });
    for (const transport of ["upgrade", "ws"] as const) {
      const error = await problemOf(dialAs(`http://${address}`, { transport, connectTimeout: 3000 }));
      expect(error.message).toContain(address);
      expect(error.message.length).toBeLessThan(600);
      // Found out from the bytes, not by waiting.
      expect(error.message).not.toMatch(/within \d/);
    }
  });

  test("for an address that is none, and for a key that cannot be sent", async () => {
    expect((await problemOf(dialAs("relay.example"))).message).toContain("is no URL");
    expect((await problemOf(dialAs("ftp://relay.example"))).message).toContain("must begin with https://");
    expect((await problemOf(dialAs("https://a:b@relay.example"))).message).toContain("setting of its own");
    const error = await problemOf(dialAs("https://relay.invalid", { key: "lla_home_x\r\nx-evil: 1" }));
    expect(error.message).not.toContain("evil");
    expect(error.message).toContain("authorization");
  });
});

describe("a dial that takes too long or is given up", () => {
  test.each(["upgrade", "ws"] as const)("closes its socket by %s", async (transport) => {
    let closed!: () => void;
    const gone = new Promise<void>((resolve) => (closed = resolve));
    const abort = new AbortController();
    const address = await server((socket) => {
      socket.on("close", closed);
      void head(socket).then(() => abort.abort(new Error("not wanted any more")));
    });
    const error = await problemOf(dialAs(`http://${address}`, { transport }, abort.signal));
    expect(error.message).toBe("not wanted any more");
    await gone;
  });

  test("says what it was waiting for", async () => {
    const address = await server(() => undefined);
    const { message } = await problemOf(dialAs(`http://${address}`, { transport: "ws", connectTimeout: 200 }));
    expect(message).toMatch(/0\.2 s/);
    expect(message).toContain(address);
    const proxied = await problemOf(
      dialAs("https://relay.invalid", { proxy: `http://${address}`, connectTimeout: 200 }),
    );
    expect(proxied.message).toMatch(/within 0\.2 s, while connecting/);
  });

  test("is not begun when it was given up before", async () => {
    let connections = 0;
    const address = await server(() => connections++);
    const error = await problemOf(dialAs(`http://${address}`, {}, AbortSignal.abort(new Error("too late"))));
    expect(error.message).toBe("too late");
    expect(connections).toBe(0);
  });

  test.skipIf(certificate === undefined)("is over at once when TLS never answers", async () => {
    const address = await server(() => undefined);
    const { message } = await problemOf(dialAs(`https://${address}`, { connectTimeout: 300 }));
    expect(message).toContain("while connecting");
  });
});
