import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { expect, test } from "vitest";
import { Agent } from "../../src/tunnel/agent/agent.ts";
import { type Dialled, dial } from "../../src/tunnel/handshake/dial.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import { seeded } from "../support/bytes.ts";
import { emptySettings, preface, wildFrames, wildLine } from "../support/tunnel-hostile.ts";
import { keptLog, waitUntil } from "../support/tunnel-log.ts";

// A relay that attacks its agent: bytes and words by chance, from seeds, so that what fails can be run again.

/** Time that runs fifty times as fast, so that no pause between two attempts is long. */
const quick = {
  now: () => performance.now() * 50,
  after(milliseconds: number, task: () => void): () => void {
    const timer = setTimeout(task, milliseconds / 50);
    return () => clearTimeout(timer);
  },
  random: () => 0,
};

/** Runs an agent against what `attack` does with each connection, until it has come so many times. */
async function besiege(times: number, attack: (socket: Socket, round: number) => void): Promise<string[]> {
  const sockets = new Set<Socket>();
  let rounds = 0;
  const server: Server = createServer((_request, reply) => reply.writeHead(404).end());
  server.on("upgrade", (_request, socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lair-tunnel/1\r\n\r\n");
    attack(socket, rounds++);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const relay = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const log = keptLog();
  const calls: string[] = [];
  const agent = new Agent({
    dial: (signal) => dial({ relay, instance: "i", version: "0", transport: "upgrade", connectTimeout: 5000 }, signal),
    handler: async (call) => {
      calls.push(call.path);
      return { status: 200, headers: { "content-type": "application/json" }, body: '{"object":"list","data":[]}' };
    },
    connections: 1,
    capacity: 1,
    version: "0",
    instance: "i",
    log,
    clock: quick,
  });
  agent.start();
  try {
    await waitUntil(() => rounds >= times, `${times} connections`);
  } finally {
    await agent.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
  expect(calls.filter((path) => path !== "/v1/models")).toEqual([]);
  return log.lines;
}

test("an agent lives through a relay that sends frames without sense, and says in its log why it came back", async () => {
  const random = seeded(4);
  const lines = await besiege(40, (socket) => {
    socket.write(Buffer.concat([preface, emptySettings, wildFrames(random, 30)]));
    socket.end();
  });
  expect(lines.filter((line) => /^(warn|info|error)/.test(line)).length).toBeGreaterThan(0);
}, 60_000);

test("an agent lives through a relay that sends no HTTP/2 at all, or nothing", async () => {
  await besiege(12, (socket, round) => {
    if (round % 3 === 0) socket.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    else if (round % 3 === 1) socket.end(Buffer.alloc(100_000));
  });
}, 60_000);

test("an agent lives through a relay that asks for what may not pass, by words and paths by chance", async () => {
  const random = seeded(5);
  await besiege(30, (socket) => {
    const link = {
      remoteAddress: "127.0.0.1",
      idle: false,
      start(handler: Parameters<Dialled["link"]["start"]>[0]) {
        socket.on("data", (bytes: Buffer) => handler.onBytes(bytes)).on("drain", () => handler.onDrain());
        socket.on("close", () => handler.onClose(undefined));
      },
      write: (bytes: Buffer) => socket.write(bytes),
      pause: () => void socket.pause(),
      resume: () => void socket.resume(),
      end: () => void socket.end(),
      destroy: () => void socket.destroy(),
    };
    const session = new Http2Session(link, { role: "client", onClose: () => undefined });
    const deaf = { onData() {}, onEnd() {}, onReset() {} };
    const forbidden = ["/api/pull", "//evil/v1/models", "/v1/%2e%2e/api/pull", "/metrics", "/v1/../slots", "*", ""];
    for (const path of forbidden)
      session.open({ ":method": "POST", ":scheme": "http", ":authority": "agent", ":path": path }, deaf, true);
    const head = { ":method": "POST", ":scheme": "http", ":authority": "agent", ":path": "/.lair/control" };
    const control = session.open(head, deaf, false);
    for (let line = 0; line < 20; line++) control.write(wildLine(random, ["demo"]));
    control.end();
    setImmediate(() => setImmediate(() => socket.end()));
  });
}, 60_000);
