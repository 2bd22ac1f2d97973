import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { ApiError } from "../../src/core/errors.ts";
import type { DoorSettings } from "../../src/tunnel/handshake/door.ts";
import { toLimitKey } from "../../src/core/ip-address.ts";
import { MinuteCount } from "../../src/tunnel/handshake/door-limits.ts";
import { Heard } from "../support/open-links.ts";
import { dialAs, type DoorServer, goodKey, startDoor } from "../support/tunnel-door.ts";

const toClose: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).toReversed()) await close();
});

async function open(settings: Partial<DoorSettings> = {}): Promise<DoorServer> {
  const door = await startDoor(settings);
  toClose.push(() => door.stop());
  return door;
}

type Lines = Record<string, string | string[] | undefined>;

const upgradeLines: Lines = {
  host: "relay.example",
  connection: "Upgrade",
  upgrade: "lair-tunnel/1",
  authorization: `Bearer ${goodKey}`,
  "lair-version": "0.9.0",
  "lair-instance": "instance-1",
};
const webSocketLines: Lines = {
  ...upgradeLines,
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  "sec-websocket-protocol": "lair-tunnel.1",
};

function toRequest(lines: Lines, start = "GET /tunnel HTTP/1.1"): string {
  const written = Object.entries(lines).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((one) => `${name}: ${one}\r\n`),
  );
  return `${start}\r\n${written.join("")}\r\n`;
}

/** Everything that a request is answered, until the relay closes the connection. */
async function answerOf({ port }: DoorServer, request: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  let answer = "";
  socket.on("data", (bytes: Buffer) => (answer += bytes.toString("latin1")));
  socket.on("error", () => undefined);
  socket.write(request, "latin1");
  await closed(socket);
  return answer;
}

/** However it ends. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.on("close", () => resolve()));
}

/** Status, headers and error of a refusal. */
async function refusalOf(door: DoorServer, lines: Lines, start?: string) {
  const [head = "", body = ""] = (await answerOf(door, toRequest(lines, start))).split("\r\n\r\n");
  const headers = Object.fromEntries(
    head
      .split("\r\n")
      .slice(1)
      .map((line) => line.split(": ") as [string, string]),
  );
  const { error } = JSON.parse(body) as { error: { code: string; message: string } };
  return { status: Number(head.slice(9, 12)), headers, ...error };
}

describe("an agent that is let in", () => {
  test("gets the tunnel's protocol and nothing beside it", async () => {
    const door = await open();
    const socket = connect(door.port, "127.0.0.1");
    toClose.push(() => socket.destroy());
    socket.write(toRequest(upgradeLines));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toBe(
      "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: lair-tunnel/1\r\nlair-relay: 1.2.3\r\n\r\n",
    );
    expect(door.arrivals).toHaveLength(1);
  });

  test("is heard from its first byte on, even one that came with its request", async () => {
    const door = await open();
    const socket = connect(door.port, "127.0.0.1");
    toClose.push(() => socket.destroy());
    socket.write(`${toRequest(upgradeLines)}early `);
    await once(socket, "data");
    socket.write("late");
    const heard = new Heard(door.arrivals[0]!.link);
    await heard.until(() => heard.bytes.length === 10);
    expect(heard.bytes.toString()).toBe("early late");
  });

  test.each([upgradeLines, webSocketLines])("may not be able to make the relay throw", async (lines) => {
    const door = await open({
      admit: () => {
        throw new Error("no room");
      },
    });
    await answerOf(door, toRequest(lines));
    expect(door.logged.at(-1)?.message).toContain("could not be admitted");
  });

  test("may be the one beside it in the same header", async () => {
    const door = await open();
    const socket = connect(door.port, "127.0.0.1");
    toClose.push(() => socket.destroy());
    socket.write(toRequest({ ...upgradeLines, upgrade: "h2c, LAIR-tunnel/1", connection: "keep-alive, upgrade" }));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toContain(" 101 ");
  });
});

describe("a key that is not good", () => {
  test("is answered in the very same bytes, whatever is wrong with it", async () => {
    const door = await open({ limits: { failures: 1000 } });
    const keys = [
      "Bearer lla_home_unknown",
      "Bearer lla_home_revoked",
      "Bearer x",
      "Basic aG9tZTp4",
      "Bearer",
      "Bearer a b",
    ];
    const answers = await Promise.all(
      [upgradeLines, webSocketLines].flatMap((lines) =>
        keys.map((authorization) => answerOf(door, toRequest({ ...lines, authorization }))),
      ),
    );
    expect(new Set(answers).size).toBe(1);
    expect(answers[0]).toMatch(/^HTTP\/1\.1 401 .*\r\nlair-relay: 1\.2\.3\r\n.*"code":"invalid_api_key"/s);
    expect(answers[0]).not.toMatch(/revoked|unknown/);
  });

  test("is refused without a look after five in a minute, while a good one passes", async () => {
    const door = await open();
    const wrong = { ...upgradeLines, authorization: "Bearer lla_home_guess" };
    for (let guess = 0; guess < 5; guess++) expect(await refusalOf(door, wrong)).toMatchObject({ status: 401 });
    const refusal = await refusalOf(door, wrong);
    expect(refusal).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
    expect(Number(refusal.headers["retry-after"])).toBeGreaterThan(0);
    expect(Number(refusal.headers["retry-after"])).toBeLessThanOrEqual(60);
    const { link } = await dialAs(door.url);
    link.destroy();
  });

  test("counts for its own address alone: behind a front here, for the one that the front tells", async () => {
    const door = await open();
    const wrong = (address: string): Lines => ({
      ...upgradeLines,
      authorization: "Bearer lla_home_guess",
      "x-forwarded-for": `198.51.100.7, ${address}`,
    });
    for (let guess = 0; guess < 5; guess++) await refusalOf(door, wrong("203.0.113.1"));
    expect(await refusalOf(door, wrong("203.0.113.1"))).toMatchObject({ status: 429 });
    expect(await refusalOf(door, wrong("203.0.113.2"))).toMatchObject({ status: 401 });
    for (let guess = 0; guess < 5; guess++) await refusalOf(door, wrong(`2001:db8:1:2::${guess}`));
    expect(await refusalOf(door, wrong("2001:db8:1:2:ffff::9"))).toMatchObject({ status: 429 });
    expect(await refusalOf(door, wrong("2001:db8:1:3::1"))).toMatchObject({ status: 401 });
  });

  test("is never taken from the address of the request, which ends up in logs", async () => {
    const door = await open();
    const start = `GET /tunnel?key=${goodKey} HTTP/1.1`;
    expect(await refusalOf(door, { ...upgradeLines, authorization: undefined }, start)).toMatchObject({ status: 400 });
    expect(JSON.stringify(door.logged)).not.toContain(goodKey);
  });
});

describe("a request that is not an agent's", () => {
  test.each<[string, Lines, string | undefined, number, string]>([
    ["of another method", {}, "POST /tunnel HTTP/1.1", 405, "method_not_allowed"],
    ["of HTTP/1.0", {}, "GET /tunnel HTTP/1.0", 400, "invalid_request"],
    ["for h2c", { upgrade: "h2c" }, undefined, 426, "upgrade_required"],
    ["for a later tunnel", { upgrade: "lair-tunnel/2" }, undefined, 426, "upgrade_required"],
    ["of a page in a browser", { origin: "https://evil.example" }, undefined, 403, "forbidden_origin"],
    ["with a body", { "content-length": "3" }, undefined, 400, "invalid_request"],
    ["with chunks", { "transfer-encoding": "chunked" }, undefined, 400, "invalid_request"],
    ["with two hosts", { host: ["a", "b"] }, undefined, 400, "invalid_request"],
    ["with two keys", { authorization: ["Bearer a", `Bearer ${goodKey}`] }, undefined, 400, "invalid_request"],
    ["without a version", { "lair-version": undefined }, undefined, 400, "invalid_request"],
    ["with a version of another shape", { "lair-version": "1 2" }, undefined, 400, "invalid_request"],
    ["with an endless version", { "lair-version": "1".repeat(65) }, undefined, 400, "invalid_request"],
    ["without an instance", { "lair-instance": undefined }, undefined, 400, "invalid_request"],
    ["with a short instance", { "lair-instance": "abc" }, undefined, 400, "invalid_request"],
    ["with a name that could pass for another", { "lair-name": "Home/x" }, undefined, 400, "invalid_request"],
  ])("%s is refused", async (_kind, change, start, status, code) => {
    const door = await open();
    for (const lines of [upgradeLines, ...(change["upgrade"] === undefined ? [webSocketLines] : [])]) {
      const refusal = await refusalOf(door, { ...lines, ...change }, start);
      expect(refusal).toMatchObject({ status, code, headers: { connection: "close", "lair-relay": "1.2.3" } });
    }
    expect(door.arrivals).toEqual([]);
  });

  test.each<[string, Lines]>([
    ["of another version", { "sec-websocket-version": "8" }],
    ["with a malformed key", { "sec-websocket-key": "short" }],
    ["without the tunnel's protocol", { "sec-websocket-protocol": "chat" }],
    ["without any protocol", { "sec-websocket-protocol": undefined }],
    ["with a malformed protocol", { "sec-websocket-protocol": "lair-tunnel.1, ," }],
    ["with a protocol twice", { "sec-websocket-protocol": "lair-tunnel.1, lair-tunnel.1" }],
  ])("a WebSocket %s is refused in the relay's words", async (_kind, change) => {
    const refusal = await refusalOf(await open(), { ...webSocketLines, ...change });
    expect(refusal).toMatchObject({ status: 400, code: "invalid_request", headers: { "lair-relay": "1.2.3" } });
  });

  test("is refused as the relay's own rules say, before its key is looked at", async () => {
    let asked = 0;
    const door = await open({
      refusal: ({ headers }) =>
        headers.host === "evil.example" ? new ApiError("forbidden_host", "not this host") : undefined,
      authenticate: () => {
        asked++;
        return new ApiError("invalid_api_key", "no");
      },
    });
    expect(await refusalOf(door, { ...upgradeLines, host: "evil.example" })).toMatchObject({ code: "forbidden_host" });
    expect(asked).toBe(0);
  });
});

describe("without a key", () => {
  const nameless: Lines = { ...upgradeLines, authorization: undefined, "lair-name": "attic" };

  test.each<[string, Lines, boolean]>([
    ["this machine, addressed as such", { host: "127.0.0.1:8081" }, true],
    ["this machine by name", { host: "localhost" }, true],
    ["this machine by its other address", { host: "[::1]:8081" }, true],
    ["this machine under another name", { host: "relay.example" }, false],
    ["a front that tells of another", { host: "localhost", "x-forwarded-for": "203.0.113.9" }, false],
    ["a front in another way", { host: "localhost", forwarded: "for=203.0.113.9" }, false],
    ["a front that tells of itself alone", { host: "localhost", via: "1.1 front" }, false],
  ])("%s is told apart", async (_kind, change, trusted) => {
    let told: boolean | undefined;
    const door = await open({
      authenticate: (_key, from) => {
        told = from.trusted;
        return new ApiError("invalid_api_key", "a key is needed here");
      },
    });
    expect((await refusalOf(door, { ...nameless, ...change })).message).toBe("a key is needed here");
    expect(told).toBe(trusted);
  });
});

describe("too much of it", () => {
  test("from one address in a minute is refused without a look at the key", async () => {
    let looks = 0;
    const door = await open({
      limits: { knocks: 3, failures: 1000 },
      authenticate: () => {
        looks++;
        return new ApiError("invalid_api_key", "no");
      },
    });
    const statuses = [];
    for (let knock = 0; knock < 5; knock++) statuses.push((await refusalOf(door, upgradeLines)).status);
    expect(statuses).toEqual([401, 401, 401, 429, 429]);
    expect(looks).toBe(3);
  });

  test("from who does not take the answer and go is cut off", async () => {
    const door = await open({ limits: { pendingTime: 100 } });
    const socket = connect({ port: door.port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", () => undefined);
    socket.write(toRequest({ ...upgradeLines, authorization: "Bearer x" }));
    socket.resume();
    await once(socket, "end");
    // Half open from here on; what is still said is read and dropped, until the time is up.
    const talk = setInterval(() => socket.write("more"), 5);
    await closed(socket);
    clearInterval(talk);
    expect(door.sockets.size).toBe(0);
  });

  test("at a time is cut off without an answer, and let in again when there is room", async () => {
    const door = await open({ limits: { pending: 3, pendingTime: 60_000 } });
    const waiting: Socket[] = [];
    for (let count = 0; count < 3; count++) {
      const socket = connect({ port: door.port, host: "127.0.0.1", allowHalfOpen: true });
      toClose.push(() => socket.destroy());
      socket.write(toRequest({ ...upgradeLines, authorization: "Bearer x" }));
      await once(socket, "data");
      waiting.push(socket);
    }
    expect(await answerOf(door, toRequest(upgradeLines))).toBe("");
    for (const socket of waiting) socket.destroy();
    while (door.sockets.size > 0) await new Promise((resolve) => setImmediate(resolve));
    const { link } = await dialAs(door.url);
    link.destroy();
  });

  test("of addresses is not remembered", () => {
    const count = new MinuteCount();
    for (let address = 0; address < 30_000; address++) count.add(`a${address}`);
    expect(count.size).toBeLessThanOrEqual(10_000);
    expect(count.add("a29999")).toBe(2);
  });
});

test.each([
  ["203.0.113.7", "203.0.113.7"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"],
  ["2001:0DB8:0000:0001::9", "2001:db8:0:1::/64"],
  ["2001:db8::", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
])("the limits of %s are those of %s", (address, key) => {
  expect(toLimitKey(address)).toBe(key);
});
