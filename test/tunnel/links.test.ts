import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Upgrade } from "../../src/core/upgrade.ts";
import { listen } from "../../src/http/server.ts";
import type { Link } from "../../src/tunnel/links/link.ts";
import { socketLink } from "../../src/tunnel/links/socket-link.ts";
import { linkAcceptor } from "../../src/tunnel/links/websocket-link.ts";
import { Heard, type OpenLinks, openMemory, openTcp, openTls, openWebSockets, quiet } from "../support/open-links.ts";
import { makeCertificate } from "../support/tunnel-certificate.ts";

const certificate = makeCertificate();
if (certificate === undefined) console.warn("links over TLS are not tested: openssl is not installed");
afterAll(() => certificate?.remove());

const kinds: [string, () => Promise<OpenLinks>][] = [
  ["in memory", openMemory],
  ["over TCP", openTcp],
  ["over a WebSocket", openWebSockets],
];
if (certificate !== undefined) kinds.push(["over TLS", () => openTls(certificate)]);

const opened: OpenLinks[] = [];
afterEach(async () => {
  for (const { one, other, close } of opened.splice(0)) {
    one.destroy();
    other.destroy();
    await close();
  }
});

describe.each(kinds)("a link %s", (_kind, open) => {
  async function pair(): Promise<OpenLinks> {
    const links = await open();
    opened.push(links);
    return links;
  }

  test("carries bytes both ways, whole and in order", async () => {
    const { one, other } = await pair();
    const [there, back] = [randomBytes(3_000_000), randomBytes(1_000_000)];
    const [atOne, atOther] = [new Heard(one), new Heard(other)];
    for (let at = 0; at < there.length; at += 70_001) one.write(there.subarray(at, at + 70_001));
    other.write(back);
    await atOther.until(() => atOther.bytes.length >= there.length);
    await atOne.until(() => atOne.bytes.length >= back.length);
    expect(digest(atOther.bytes)).toBe(digest(there));
    expect(digest(atOne.bytes)).toBe(digest(back));
  });

  test("keeps what has come before anybody listens", async () => {
    const { one, other } = await pair();
    one.write(Buffer.from("early, "));
    one.write(Buffer.from("and late"));
    await turns(5);
    const heard = new Heard(other);
    await heard.until(() => heard.bytes.length === 15);
    expect(heard.bytes.toString()).toBe("early, and late");
  });

  test("makes a writer wait for a reader that is held, and tells when there is room", async () => {
    const { one, other } = await pair();
    const [writer, reader] = [new Heard(one), new Heard(other)];
    other.pause();
    const piece = randomBytes(256 * 1024);
    let sent = 0;
    // The kernel's buffers of both ends take some megabytes; then it has to be said.
    for (let pieces = 0; pieces < 400 && one.write(piece); pieces++) {
      sent += piece.length;
      await turns(3);
    }
    sent += piece.length;
    expect(sent).toBeLessThan(400 * piece.length);
    expect(writer.drains).toBe(0);
    const held = reader.bytes.length;
    await turns(5);
    expect(reader.bytes.length).toBe(held);
    other.resume();
    await writer.until(() => writer.drains === 1);
    await reader.until(() => reader.bytes.length === sent);
  });

  test("delivers nothing between a pause within a piece and the resume", async () => {
    const { one, other } = await pair();
    let pieces = 0;
    const heard = new Heard(other, {
      onBytes: () => {
        pieces++;
        other.pause();
      },
    });
    for (let count = 0; count < 40; count++) one.write(randomBytes(10_000));
    await heard.until(() => pieces === 1);
    await turns(20);
    expect(pieces).toBe(1);
    while (heard.bytes.length < 400_000) {
      const before = pieces;
      other.resume();
      await heard.until(() => pieces === before + 1);
    }
  });

  test("sends all that was written before an end, then closes both ends once, without an error", async () => {
    const { one, other } = await pair();
    const [atOne, atOther] = [new Heard(one), new Heard(other)];
    const all = randomBytes(2_000_000);
    one.write(all);
    one.end();
    await Promise.all([atOne.closed, atOther.closed]);
    await turns(5);
    expect(digest(atOther.bytes)).toBe(digest(all));
    expect([atOne.closes, atOne.error, atOther.closes, atOther.error]).toEqual([1, undefined, 1, undefined]);
  });

  test("tells of its destruction once, and is harmless afterwards", async () => {
    const { one, other } = await pair();
    const [atOne, atOther] = [new Heard(one), new Heard(other)];
    one.destroy();
    one.destroy();
    await Promise.all([atOne.closed, atOther.closed]);
    for (const link of [one, other]) {
      expect(link.write(Buffer.from("nobody"))).toBe(true);
      link.pause();
      link.resume();
      link.end();
      link.destroy();
    }
    await turns(5);
    expect([atOne.closes, atOther.closes]).toEqual([1, 1]);
  });

  test("can be destroyed while it is held back", async () => {
    const { one, other } = await pair();
    const [atOne, atOther] = [new Heard(one), new Heard(other)];
    other.pause();
    one.write(randomBytes(1_000_000));
    await turns(5);
    other.destroy();
    await Promise.all([atOne.closed, atOther.closed]);
  });

  test("tells of a close that came before it was started", async () => {
    const { one, other } = await pair();
    const heard = new Heard(one);
    one.destroy();
    await heard.closed;
    other.destroy();
    await turns(10);
    await new Heard(other).closed;
  });
});

describe.each(kinds.filter(([kind]) => kind !== "in memory"))("a connection %s", (_kind, open) => {
  test("whose handler throws is closed with that error, and nothing else is", async () => {
    const links = await open();
    opened.push(links);
    const atOne = new Heard(links.one);
    const atOther = new Heard(links.other, {
      onBytes: () => {
        throw new Error("a bug of the session");
      },
    });
    links.one.write(Buffer.from("bytes"));
    await Promise.all([atOne.closed, atOther.closed]);
    expect(atOther.error?.message).toBe("a bug of the session");
  });

  test("is over when the peer only stops to send", async () => {
    const links = await open();
    opened.push(links);
    const [atOne, atOther] = [new Heard(links.one), new Heard(links.other)];
    links.socket?.end();
    await Promise.all([atOne.closed, atOther.closed]);
  });

  test("that is cut off tells of it without an exception", async () => {
    const links = await open();
    opened.push(links);
    const [atOne, atOther] = [new Heard(links.one), new Heard(links.other)];
    links.one.write(randomBytes(500_000));
    if (links.resets === true) links.socket?.resetAndDestroy();
    else links.socket?.destroy();
    await Promise.all([atOne.closed, atOther.closed]);
  });
});

test("a socket's bytes that were read too early come first", async () => {
  const server = createServer((accepted) => accepted.end("body")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  await once(socket, "connect");
  const heard = new Heard(socketLink(socket, Buffer.from("head ")));
  await heard.closed;
  server.close();
  expect(heard.bytes.toString()).toBe("head body");
});

describe("a WebSocket that is no tunnel's", () => {
  async function dialled(): Promise<{ webSocket: WebSocket; heard: Heard; closed: Promise<unknown[]> }> {
    const accept = linkAcceptor({});
    let arrive!: (link: Link) => void;
    const arrived = new Promise<Link>((resolve) => (arrive = resolve));
    const take = (upgrade: Upgrade): void => accept(upgrade, arrive);
    const server = await listen({ ...quiet, upgrades: new Map([["/tunnel", { takes: "everything", take }]]) });
    const webSocket = new WebSocket(`ws://127.0.0.1:${server.port}/tunnel`, ["lair-tunnel.1"]);
    const closed = once(webSocket, "close");
    const link = await arrived;
    opened.push({ one: link, other: link, close: () => server.close(0) });
    const heard = new Heard(link);
    if (webSocket.readyState !== webSocket.OPEN) await once(webSocket, "open");
    return { webSocket, heard, closed };
  }

  test("is closed for text", async () => {
    const { webSocket, heard, closed } = await dialled();
    webSocket.send("text");
    webSocket.send(Buffer.from("not heard any more"));
    expect((await closed)[0]).toBe(1003);
    await heard.closed;
    expect(heard.error?.message).toContain("text");
    expect(heard.bytes.length).toBe(0);
  });

  test("is closed for a message that is too large, before it was read", async () => {
    const { webSocket, heard, closed } = await dialled();
    webSocket.send(Buffer.alloc(2_000_000));
    expect((await closed)[0]).toBe(1009);
    await heard.closed;
    expect(heard.bytes.length).toBe(0);
  });

  test("is not compressed, whatever its client offers", async () => {
    const { webSocket } = await dialled();
    expect(webSocket.extensions).toBe("");
    expect(webSocket.protocol).toBe("lair-tunnel.1");
  });
});

function digest(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}
