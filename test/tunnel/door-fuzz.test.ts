import { connect } from "node:net";
import { afterEach, expect, test } from "vitest";
import { Heard } from "../support/open-links.ts";
import { dialAs, type DoorServer, goodKey, startDoor } from "../support/tunnel-door.ts";

const seed = Number(process.env["LAIR_FUZZ_SEED"] ?? 20261122);
const rounds = Number(process.env["LAIR_FUZZ_ROUNDS"] ?? 400);

let door: DoorServer;
afterEach(() => door.stop());

/** Numbers of [0, 1) that are the same in every run (mulberry32). */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const lines = [
  "host: relay.example",
  "connection: Upgrade",
  "upgrade: lair-tunnel/1",
  "lair-version: 0.9.0",
  "lair-instance: instance-1",
  "sec-websocket-version: 13",
  "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
  "sec-websocket-protocol: lair-tunnel.1",
];
const strange = [
  "upgrade: websocket",
  "upgrade: h2c, websocket, lair-tunnel/1",
  "authorization: Bearer",
  `authorization: Bearer ${"k".repeat(5000)}`,
  "authorization: Bearer \u00e4\u00f6",
  "host: a\r\nhost: b",
  "transfer-encoding: chunked",
  "content-length: 5",
  "content-length: -1",
  "origin: null",
  "x-forwarded-for: ,,,::::,%",
  "lair-name: __proto__",
  "__proto__: x",
  " folded: x",
  "no colon",
  "nul: \0",
  "connection: close, upgrade, host",
  "expect: 100-continue",
  "sec-websocket-extensions: permessage-deflate; server_max_window_bits=99",
  `x: ${"y".repeat(9000)}`,
];
const starts = [
  "GET /tunnel HTTP/1.1",
  "GET /tunnel HTTP/1.1",
  "GET /tunnel HTTP/1.1",
  "GET /tunnel?x=1 HTTP/1.1",
  "GET //tunnel HTTP/1.1",
  "GET http://evil.example/tunnel HTTP/1.1",
  "POST /tunnel HTTP/1.1",
  "CONNECT /tunnel HTTP/1.1",
  "GET /tunnel HTTP/1.0",
  "GET /tunnel HTTP/9.9",
  "PRI * HTTP/2.0",
  "\u0016\u0003\u0001",
];

/** A request for a tunnel, spoiled somewhere. Never with a good key. */
function wildRequest(random: () => number): string {
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const chosen = lines.filter(() => random() < 0.9);
  while (random() < 0.5) chosen.splice(Math.floor(random() * chosen.length), 0, pick(strange));
  let text = `${pick(starts)}\r\n${chosen.join("\r\n")}\r\n\r\n`;
  if (random() < 0.3) text += pick(["hello", "5\r\nhello\r\n0\r\n\r\n", "\0".repeat(70_000), text]);
  if (random() < 0.2) text = text.replaceAll("\r\n", "\n");
  if (random() < 0.3) {
    const at = Math.floor(random() * text.length);
    text =
      text.slice(0, at) + String.fromCharCode(Math.floor(random() * 256)) + text.slice(at + (random() < 0.5 ? 1 : 0));
  }
  return random() < 0.2 ? text.slice(0, Math.floor(random() * text.length)) : text;
}

/** Sends a request, whole or in pieces, then leaves in one of several ways. The answer's first line. */
function send({ port }: DoorServer, text: string, random: () => number): Promise<string> {
  const pieces = random() < 0.3 ? Math.ceil(random() * 20) : 1;
  const manner = Math.floor(random() * 4);
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: manner === 0 });
    let answer = "";
    socket.on("data", (bytes: Buffer) => {
      answer += bytes.toString("latin1");
      if (manner === 1) socket.destroy();
    });
    socket.on("error", () => undefined);
    // A peer that only stops to send leaves a half of a connection behind, which this one holds on to for a while.
    if (manner === 0) socket.on("end", () => setTimeout(() => socket.destroy(), 20));
    socket.on("close", () => resolve(answer.split("\r\n")[0] ?? ""));
    const size = Math.ceil(text.length / pieces);
    const next = (at: number): void => {
      if (socket.destroyed || !socket.writable) return;
      if (at < text.length) {
        socket.write(text.slice(at, at + size), "latin1");
        setImmediate(() => next(at + size));
      } else if (manner === 2) socket.resetAndDestroy();
      else if (manner === 3) socket.end();
    };
    socket.on("connect", () => next(0));
  });
}

test(`a flood of spoiled requests (seed ${seed}) leaves a relay that answers and keeps no socket`, async () => {
  door = await startDoor(
    { limits: { failures: 1e9, knocks: 1e9, pendingTime: 500 } },
    { headersTimeout: 500, requestTimeout: 1000, keepAliveTimeout: 500 },
  );
  door.echo();
  const random = randomOf(seed);
  const answers: string[] = [];
  for (let round = 0; round < rounds; round += 200)
    answers.push(...(await Promise.all(Array.from({ length: 200 }, () => send(door, wildRequest(random), random)))));
  const kinds = new Set(answers.map((answer) => answer.slice(0, 12)));
  expect(kinds).toContain("HTTP/1.1 401");
  for (const kind of kinds) expect(kind).toMatch(/^(|HTTP\/1\.1 (4\d\d|100))$/);
  expect(door.arrivals).toEqual([]);
  while (door.sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  for (const transport of ["upgrade", "ws"] as const) {
    const { link } = await dialAs(door.url, { transport, key: goodKey });
    const heard = new Heard(link);
    link.write(Buffer.from("still here"));
    await heard.until(() => heard.bytes.toString() === "still here");
    link.destroy();
  }
});

test("heads that come too slowly are cut off, whether or not they are for the tunnel", async () => {
  door = await startDoor({}, { headersTimeout: 300 });
  const sockets = ["GET /tunnel HTTP/1.1\r\nupgr", "GET / HTTP/1.1\r\n", ""].map((text) => {
    const socket = connect(door.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.resume();
    socket.write(text);
    return new Promise<void>((resolve) => socket.on("close", () => resolve()));
  });
  await Promise.all(sockets);
});
