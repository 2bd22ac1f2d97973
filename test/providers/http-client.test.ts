import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttp, type RequestListener } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, connect, createServer as createTcp, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { HttpClient, type HttpClientOptions } from "../../src/providers/http-client.ts";
import type { HttpRequest } from "../../src/providers/http-exchange.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanup.splice(0).toReversed()) await undo();
});

async function listening(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanup.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const serve = (listener: RequestListener): Promise<number> => listening(createHttp(listener));

function client(port: number, more: Partial<HttpClientOptions> = {}): HttpClient {
  const made = new HttpClient({ origin: `http://127.0.0.1:${port}`, connectTimeout: 5000, ...more });
  cleanup.push(() => made.close());
  return made;
}

const ask = (more: Partial<HttpRequest> = {}): HttpRequest => ({
  method: "GET",
  path: "/",
  headers: {},
  body: null,
  signal: new AbortController().signal,
  firstByteTimeout: 0,
  idleTimeout: 0,
  ...more,
});

async function text(from: HttpClient, request: HttpRequest): Promise<string> {
  return (await (await from.send(request)).bytes(1 << 24)).toString();
}

const echo: RequestListener = (request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (chunk: string) => (body += chunk));
  request.on("end", () => {
    const { method, url, headers } = request;
    response.end(`${method} ${url} ${headers.host} ${String(headers["x-a"])} ${body}`);
  });
};

describe("HttpClient", () => {
  test("sends requests with and without a body, short and long, and reads what comes back", async () => {
    const port = await serve(echo);
    const http = client(port);
    expect(await text(http, ask({ path: "/a?b", headers: { "x-a": "1" } }))).toBe(`GET /a?b 127.0.0.1:${port} 1 `);
    for (const body of ["", "é", "é".repeat(3000), "日".repeat(300_000)]) {
      const expected = `POST / 127.0.0.1:${port} undefined ${body}`;
      expect((await text(http, ask({ method: "POST", body }))) === expected).toBe(true);
      expect((await text(http, ask({ method: "POST", body: Buffer.from(body) }))) === expected).toBe(true);
    }
  });

  test("uses a connection again, and opens another only for requests at the same time", async () => {
    const ports = new Set<number | undefined>();
    let held: (() => void)[] = [];
    const port = await serve((request, response) => {
      ports.add(request.socket.remotePort);
      if (request.url === "/hold") held.push(() => response.end());
      else response.end("ok");
    });
    const http = client(port);
    for (let count = 0; count < 5; count++) await text(http, ask());
    expect(ports.size).toBe(1);
    const both = [text(http, ask({ path: "/hold" })), text(http, ask({ path: "/hold" }))];
    while (held.length < 2) await new Promise((resolve) => setImmediate(resolve));
    for (const let_go of held) let_go();
    held = [];
    await Promise.all(both);
    expect(ports.size).toBe(2);
  });

  test("closes connections that nobody uses any more", async () => {
    let left = 3;
    const closed = withResolvers();
    const server = createHttp((_request, response) => response.end("ok"));
    server.on("connection", (socket) => socket.on("close", () => --left === 0 && closed.resolve()));
    const http = client(await listening(server), { longestIdle: 20 });
    await Promise.all([text(http, ask()), text(http, ask()), text(http, ask())]);
    await closed.promise;
    expect(await text(http, ask())).toBe("ok");
  });

  test("says that a kept connection was stale when the server closed it as the request went out", async () => {
    let sockets = 0;
    const port = await listening(
      createTcp((socket) => {
        const first = ++sockets === 1;
        socket.once("data", () => {
          socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
          socket.once("data", () => (first ? socket.resetAndDestroy() : socket.end()));
        });
      }),
    );
    const http = client(port);
    expect(await text(http, ask())).toBe("ok");
    await expect(http.send(ask({ method: "POST", body: "{}" }))).rejects.toMatchObject({
      failure: "broken",
      stale: true,
    });
    expect(await text(http, ask())).toBe("ok");
  });

  test("a new connection that ends without an answer is broken, not stale", async () => {
    const port = await listening(createTcp((socket) => void socket.once("data", () => socket.end())));
    await expect(client(port).send(ask())).rejects.toMatchObject({ failure: "broken", stale: false });
  });

  test("nobody listening is a refusal that names the cause", async () => {
    const server = createTcp();
    const port = await listening(server);
    server.close();
    await once(server, "close");
    await expect(client(port).send(ask())).rejects.toMatchObject({ failure: "refused", message: "ECONNREFUSED" });
  });

  test("a body cut short is a failure, never a shorter body", async () => {
    const port = await serve((_request, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write("half", () => response.destroy());
    });
    const reply = await client(port).send(ask());
    await expect(reply.bytes(1000)).rejects.toMatchObject({ failure: "broken" });
  });

  test("a body longer than the limit is not read on", async () => {
    const gone = withResolvers();
    const port = await serve((_request, response) => {
      response.on("close", () => gone.resolve());
      response.write(Buffer.alloc(1 << 20));
    });
    const reply = await client(port).send(ask());
    await expect(reply.bytes(1000)).rejects.toThrow("longer than 1000");
    await gone.promise;
  });

  test("waits for the first byte and between bytes as long as it was told, and no longer", async () => {
    const port = await serve((request, response) => {
      if (request.url === "/start") response.write("start");
    });
    const http = client(port);
    await expect(http.send(ask({ firstByteTimeout: 20 }))).rejects.toMatchObject({
      failure: "timeout",
      message: "no answer within 0.02 s",
    });
    const reply = await http.send(ask({ path: "/start", idleTimeout: 20 }));
    await expect(reply.bytes(100)).rejects.toMatchObject({ failure: "timeout", message: "nothing more within 0.02 s" });
  });

  test.each(["before the connection", "before the head", "within the body"])(
    "closes the connection when the caller leaves %s",
    async (when) => {
      const left = new AbortController();
      const closed = withResolvers();
      const port = await serve((_request, response) => {
        response.on("close", () => closed.resolve());
        if (when === "within the body") response.write("start");
        else if (when === "before the head") left.abort();
      });
      const sent = client(port).send(ask({ signal: left.signal }));
      if (when === "before the connection") left.abort();
      if (when === "within the body") {
        const reply = await sent;
        left.abort();
        await expect(reply.bytes(100)).rejects.toMatchObject({ failure: "aborted" });
      } else await expect(sent).rejects.toMatchObject({ failure: "aborted" });
      if (when !== "before the connection") await closed.promise;
    },
  );

  test("a reader that is full stops the server, and nothing is lost", async () => {
    const size = 32 << 20;
    const written = { bytes: 0 };
    const port = await serve((_request, response) => {
      const piece = Buffer.alloc(1 << 16, 1);
      const more = (): void => {
        while (written.bytes < size) {
          written.bytes += piece.length;
          if (!response.write(piece)) return void response.once("drain", more);
        }
        response.end();
      };
      more();
    });
    const reply = await client(port).send(ask());
    let read = 0;
    let full = true;
    const ended = withResolvers();
    reply.body.start({
      write: (chunk) => ((read += chunk.length), !full),
      end: () => ended.resolve(),
      fail: (error) => ended.reject(error),
    });
    let before = -1;
    // As long as the kernel's buffers take more, the server goes on; then it must stand still.
    while (before !== written.bytes) {
      before = written.bytes;
      for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(written.bytes).toBeLessThan(size);
    full = false;
    reply.body.resume();
    await ended.promise;
    expect(read).toBe(size);
  });

  test("goes through a proxy with its password, and tells a refusal", async () => {
    const port = await serve(echo);
    const seen: (string | undefined)[] = [];
    const proxy = createHttp();
    proxy.on("connect", (request, socket) => {
      seen.push(request.url, request.headers["proxy-authorization"]);
      if (seen.length > 2) return void socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
      const through = connect(port, "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        through.pipe(socket).pipe(through);
      });
      through.on("error", () => socket.destroy());
      socket.on("error", () => through.destroy());
    });
    const proxyPort = await listening(proxy);
    const options = { proxy: `http://me:p%20w@127.0.0.1:${proxyPort}` };
    expect(await text(client(port, options), ask({ path: "/via" }))).toContain("GET /via");
    expect(seen).toEqual([`127.0.0.1:${port}`, `Basic ${Buffer.from("me:p w").toString("base64")}`]);
    await expect(client(port, options).send(ask())).rejects.toMatchObject({ failure: "refused" });
  });

  test("refuses a certificate that nobody vouches for", async ({ skip }) => {
    const folder = mkdtempSync(join(tmpdir(), "lair-tls-"));
    cleanup.push(() => rmSync(folder, { recursive: true }));
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    try {
      execFileSync(
        "openssl",
        [
          "req",
          "-x509",
          "-newkey",
          "ec",
          "-pkeyopt",
          "ec_paramgen_curve:prime256v1",
          "-nodes",
          "-keyout",
          key,
          "-out",
          cert,
          "-subj",
          "/CN=localhost",
          "-days",
          "2",
        ],
        { stdio: "ignore" },
      );
    } catch {
      skip("openssl, which makes this test's certificate, is not installed");
    }
    const port = await listening(
      createHttps({ key: readFileSync(key), cert: readFileSync(cert) }, (_request, response) => response.end("secret")),
    );
    await expect(client(port, { origin: `https://localhost:${port}` }).send(ask())).rejects.toMatchObject({
      failure: "refused",
      message: "DEPTH_ZERO_SELF_SIGNED_CERT",
    });
  });
});

function withResolvers(): { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((ok, no) => ([resolve, reject] = [ok, no]));
  return { promise, resolve, reject };
}
