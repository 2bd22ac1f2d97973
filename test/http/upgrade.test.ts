import { spawnSync, execFile } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { type Handler, jsonReply } from "../../src/core/call.ts";
import type { Upgrade } from "../../src/core/upgrade.ts";
import { listen, type RunningServer, type ServerOptions } from "../../src/http/server.ts";
import { quiet } from "../support/open-links.ts";

const started: RunningServer[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of started.splice(0)) await server.close(0);
});

const tell: Handler = async (call) => jsonReply(200, { path: call.path, body: (await call.bytes()).toString() });

async function serve(onUpgrade?: (upgrade: Upgrade) => void, options: Partial<ServerOptions> = {}) {
  const server = await listen({
    ...quiet,
    handler: tell,
    ...(onUpgrade === undefined ? {} : { upgrades: new Map([["/tunnel", { takes: "everything", take: onUpgrade }]]) }),
    ...options,
  });
  started.push(server);
  return server;
}

function open(port: number): Socket {
  const socket = connect(port, "127.0.0.1");
  sockets.push(socket);
  socket.on("error", () => undefined);
  return socket;
}

const nobody = (): never => {
  throw new Error("this is not for a tunnel");
};

describe("a request that offers another protocol elsewhere than at /tunnel", () => {
  const offers = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Connection: upgrade\r\nUpgrade: websocket",
  ];
  const requests: [string, string, string][] = [
    ["without a body", "GET /v1/models HTTP/1.1\r\nHost: a\r\nOFFER\r\n\r\n", ""],
    ["with a body", "POST /v1/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nOFFER\r\n\r\nhello", "hello"],
    [
      "with chunks",
      "POST /v1/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nOFFER\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
      "hello",
    ],
    [
      "that expects to be told to go on",
      "POST /v1/chat HTTP/1.1\r\nHost: a\r\nExpect: something\r\nContent-Length: 2\r\nOFFER\r\n\r\nhi",
      "hi",
    ],
    ["near it", "GET /tunnels HTTP/1.1\r\nHost: a\r\nOFFER\r\n\r\n", ""],
    ["below it", "GET /tunnel/x HTTP/1.1\r\nHost: a\r\nOFFER\r\n\r\n", ""],
  ];

  test.each(requests)("%s gets its answer, and the next on the same connection too", async (_kind, request, body) => {
    const { port } = await serve(nobody);
    const socket = open(port);
    for (const offer of [...offers, ...offers]) {
      socket.write(request.replace("OFFER", offer));
      const [answer] = (await once(socket, "data")) as [Buffer];
      expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
      expect(answer.toString()).toContain(JSON.stringify(body));
    }
  });

  const curl = spawnSync("curl", ["--version"]);
  const able = curl.status === 0 && curl.stdout.toString().includes("HTTP2");
  if (!able) console.warn("curl --http2 is not tested: curl, or its HTTP/2, is not installed");
  test.skipIf(!able)("is answered to curl --http2", async () => {
    const { port } = await serve(nobody);
    const run = promisify(execFile);
    for (const path of ["v1/models", "tunnels"]) {
      const { stdout } = await run("curl", [
        "-sS",
        "--http2",
        "-d",
        "x".repeat(100_000),
        `http://127.0.0.1:${port}/${path}`,
      ]);
      expect(JSON.parse(stdout)).toEqual({ path: `/${path}`, body: "x".repeat(100_000) });
    }
  });
});

describe("a request for a tunnel", () => {
  const request =
    "GET /tunnel?a=b HTTP/1.1\r\nHost: h\r\nX-Twice: 1\r\nX-Twice: 2\r\nConnection: Upgrade\r\nUpgrade: lair-tunnel/1\r\n\r\n";

  test("is handed over with all that it says, and with its connection", async () => {
    let taken!: (upgrade: Upgrade) => void;
    const upgraded = new Promise<Upgrade>((resolve) => (taken = resolve));
    const { port } = await serve(taken);
    const socket = open(port);
    socket.write(`${request}behind`);
    const upgrade = await upgraded;
    expect(upgrade).toMatchObject({ method: "GET", path: "/tunnel", search: "?a=b", httpVersion: "1.1" });
    expect(upgrade.headers).toMatchObject({ host: "h", upgrade: "lair-tunnel/1" });
    expect(upgrade.rawHeaders.filter((text) => text === "X-Twice")).toHaveLength(2);
    expect(upgrade.head.toString()).toBe("behind");
    upgrade.socket.end("mine now");
    const [bytes] = (await once(socket, "data")) as [Buffer];
    expect(bytes.toString()).toBe("mine now");
  });

  test("is a plain request to a server that takes none", async () => {
    const { port } = await serve();
    const socket = open(port);
    socket.write(request);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 .*"\/tunnel"/s);
  });

  test("behind a request that is not answered yet ends the connection, for their answers would mix", async () => {
    const { port } = await serve(nobody, { handler: () => new Promise(() => undefined) });
    const socket = open(port);
    socket.write(`GET /slow HTTP/1.1\r\nHost: a\r\n\r\n${request}`);
    await once(socket, "close");
  });

  test("neither holds up the end of its server nor is cut by it", async () => {
    let taken!: (upgrade: Upgrade) => void;
    const upgraded = new Promise<Upgrade>((resolve) => (taken = resolve));
    let finish!: () => void;
    const working = new Promise<void>((resolve) => (finish = resolve));
    let called!: () => void;
    const begun = new Promise<void>((resolve) => (called = resolve));
    const server = await serve(taken, {
      handler: async () => {
        called();
        await working;
        return jsonReply(200, { done: true });
      },
    });
    const socket = open(server.port);
    socket.write(request);
    const { socket: mine } = await upgraded;
    const asking = fetch(`http://127.0.0.1:${server.port}/v1/models`);
    await begun;
    let over = false;
    const closing = server.close(60_000).then(() => (over = true));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(over).toBe(false);
    finish();
    expect(await (await asking).json()).toEqual({ done: true });
    await closing;
    mine.write("still here");
    const [bytes] = (await once(socket, "data")) as [Buffer];
    expect(bytes.toString()).toBe("still here");
  });
});

test("whoever is told that this was no HTTP, and stays, is cut off", async () => {
  const { port } = await serve();
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  sockets.push(socket);
  socket.on("error", () => undefined);
  socket.resume();
  socket.write("this is no HTTP\r\n\r\n");
  await once(socket, "end");
  // This end stays; the server's is one of this process too.
  const before = openSockets();
  while (openSockets() === before) await new Promise((resolve) => setTimeout(resolve, 50));
});

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === "TCPSocketWrap").length;
}
