import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Dialled, dial } from "../../src/tunnel/handshake/dial.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import type { Http2Stream } from "../../src/tunnel/http2/stream.ts";
import { seeded } from "../support/bytes.ts";
import { ask } from "../support/tunnel-caller.ts";
import { asCaller, type Chain, startChain } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { drop, emptySettings, frame, wildFrames, wildLine } from "../support/tunnel-hostile.ts";
import { answerJson, SteeredRuntime, wholeChat } from "../support/tunnel-runtime.ts";

// An agent with a good key that attacks its relay: bytes and words by chance, from seeds, so that what fails can be run
// again.

let runtime: SteeredRuntime;
let chain: Chain;
let key = "";
const megabyte = 1024 * 1024;

beforeAll(async () => {
  runtime = await SteeredRuntime.start(async (asked) => {
    await asked.body();
    answerJson(asked, 200, wholeChat("done"));
  });
  chain = await startChain({ runtime: runtime.url });
  ({ key } = await chain.keys.add("evil"));
});
afterAll(async () => {
  await chain?.close();
  await runtime?.close();
});

const never = new AbortController().signal;

function intrude(): Promise<Dialled> {
  const options = { relay: chain.url, key, instance: "evil-instance", version: "0", connectTimeout: 5000 };
  return dial({ ...options, transport: "upgrade" }, never);
}

/** The agent that means well answers, and its models are what they were. */
async function expectUnharmed(): Promise<void> {
  const body = { model: "home/demo", messages: [] };
  const answer = await ask(`${chain.url}/v1/chat/completions`, { body, headers: asCaller });
  expect([answer.status, JSON.parse(answer.text)]).toEqual([200, { ...wholeChat("done"), model: "home/demo" }]);
}

/** Gives what the work adds to the memory that is in use. */
async function growth(work: () => Promise<void>): Promise<number> {
  const used = (): number => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  const before = used();
  let most = 0;
  const timer = setInterval(() => (most = Math.max(most, used())), 5);
  await work();
  clearInterval(timer);
  return Math.max(most, used()) - before;
}

describe("a relay lives through an agent", () => {
  test("that sends frames without sense, and says why it was cut", async () => {
    const random = seeded(1);
    for (let round = 0; round < 60; round++) {
      const { link } = await intrude();
      const closed = drop(link);
      link.write(Buffer.concat([emptySettings, wildFrames(random, 30)]));
      // What ends in the middle of a frame is waited for, as any silence.
      link.end();
      await closed;
    }
    await expectUnharmed();
    const reasons = chain.relayLog.lines.filter((line) => /evil/.test(line) && !line.startsWith("debug"));
    expect(reasons.length).toBeGreaterThan(0);
  });

  test("that says anything on its control stream", async () => {
    const random = seeded(2);
    for (let round = 0; round < 60; round++) {
      const { link } = await intrude();
      await new Promise<void>((resolve) => {
        const session = new Http2Session(link, {
          role: "server",
          onStream(stream) {
            stream.respond({ ":status": "200" }, false);
            for (let line = 0; line < 10; line++) stream.write(wildLine(random, ["demo", "home/demo", "stolen"]));
            stream.end();
            return { onData() {}, onEnd() {}, onReset() {} };
          },
          onClose: () => resolve(),
        });
        setTimeout(() => session.destroy(), 2000).unref();
      });
    }
    await expectUnharmed();
  }, 60_000);

  test("that talks without end, in lines and without", async () => {
    for (const word of ["x".repeat(65_536), `${JSON.stringify({ type: "load", ready: true })}\n`.repeat(1000)]) {
      const { link } = await intrude();
      const grown = await growth(
        () =>
          new Promise((resolve) => {
            const pour = (stream: Http2Stream): void => {
              while (stream.write(word));
            };
            const session: Http2Session = new Http2Session(link, {
              role: "server",
              onStream(stream) {
                stream.respond({ ":status": "200" }, false);
                stream.write(
                  `${JSON.stringify({ type: "hello", protocol: 1, version: "0", instance: "evil-instance", capacity: 1, ready: true, models: [] })}\n`,
                );
                pour(stream);
                return { onData() {}, onEnd() {}, onReset() {}, onDrain: () => pour(stream) };
              },
              onClose: () => resolve(),
            });
            void session;
          }),
      );
      expect(grown).toBeLessThan(128 * megabyte);
    }
    await expectUnharmed();
  }, 60_000);

  test("that opens streams, pings, and sends settings without end", async () => {
    const floods = [
      frame(1, 5, 2, Buffer.from([0x82])),
      frame(6, 0, 0, Buffer.alloc(8)),
      frame(4, 0, 0, Buffer.from([0, 1, 0, 0, 0x10, 0])),
      frame(8, 0, 0, Buffer.from([0, 0, 0, 1])),
      frame(3, 0, 1, Buffer.from([0, 0, 0, 8])),
      frame(0, 0, 1, Buffer.alloc(0)),
      frame(9, 0, 1, Buffer.alloc(0)),
    ];
    for (const flood of floods) {
      const { link } = await intrude();
      const closed = drop(link);
      const piece = Buffer.concat(Array.from({ length: 2000 }, () => flood));
      const grown = await growth(async () => {
        link.write(emptySettings);
        for (let round = 0; round < 20; round++) {
          if (!link.write(piece)) await new Promise((resolve) => setImmediate(resolve));
        }
        link.end();
        await closed;
      });
      expect(grown).toBeLessThan(96 * megabyte);
    }
    await expectUnharmed();
  }, 60_000);

  test("that claims the models of another: calls by the other's name do not come to it", async () => {
    const { link } = await intrude();
    const paths: string[] = [];
    let told = (): void => undefined;
    const welcomed = new Promise<void>((resolve) => (told = resolve));
    const session = new Http2Session(link, {
      role: "server",
      onStream(stream, headers) {
        if (headers[":path"] !== "/.lair/control") paths.push(headers[":path"] ?? "");
        stream.respond({ ":status": "200" }, false);
        const models = ["demo", "home/demo", "home", "llama_cpp:demo"].map((id) => ({ id, object: "model" }));
        const hello = {
          type: "hello",
          protocol: 1,
          version: "0",
          instance: "evil-instance",
          capacity: 100_000,
          ready: true,
          models,
        };
        stream.write(`${JSON.stringify(hello)}\n`);
        return { onData: told, onEnd() {}, onReset() {} };
      },
      onClose: () => undefined,
    });
    await welcomed;
    for (let call = 0; call < 5; call++) await expectUnharmed();
    expect(paths).toEqual([]);
    session.destroy();
    await waitUntil(() => chain.relay.fleet.agents().find(({ name }) => name === "evil")?.since === null);
  });

  test("or anybody who asks for upgrades without sense", async () => {
    const random = seeded(3);
    const pick = (...items: readonly string[]): string => items[Math.floor(random() * items.length)] as string;
    for (let round = 0; round < 150; round++) {
      const lines = [
        `${pick("GET", "GET", "GET", "POST", "PUT")} ${pick("/tunnel", "/tunnel", "/tunnel/", "/v1/models", "//tunnel", "/tunnel?key=1")} HTTP/1.1`,
        pick("Host: 127.0.0.1", "Host: evil.example", "host: 127.0.0.1\r\nHost: 127.0.0.1", ""),
        `Connection: ${pick("Upgrade", "upgrade, close", "keep-alive, Upgrade", "close")}`,
        `Upgrade: ${pick("lair-tunnel/1", "websocket", "lair-tunnel/9", "h2c", "lair-tunnel/1, websocket", "")}`,
        pick(
          `Authorization: Bearer ${key.slice(0, -1)}`,
          "Authorization: Bearer lla_",
          `Authorization: Basic ${key}`,
          "",
          `Authorization: Bearer ${"x".repeat(9000)}`,
        ),
        pick("Sec-WebSocket-Key: x", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", ""),
        pick("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", ""),
        pick("Sec-WebSocket-Protocol: lair-tunnel.1", "Sec-WebSocket-Protocol: other", ""),
        pick("Content-Length: 5", "Transfer-Encoding: chunked", ""),
        pick("lair-instance: i", `lair-instance: ${"x".repeat(500)}`, "lair-name: evil", ""),
      ];
      const text = await sendClosing(
        `${lines.filter((line) => line !== "").join("\r\n")}\r\n\r\n${pick("", "hello", "PRI * HTTP/2.0\r\n\r\n")}`,
      );
      expect(text.slice(0, 13), lines.join(" | ")).toMatch(/^(HTTP\/1\.1 [45]\d\d|)/);
      expect(text).not.toMatch(/^HTTP\/1\.1 101/);
    }
    await expectUnharmed();
  }, 60_000);
});

/** Sends bytes and says that nothing more comes; gives what comes back. */
function sendClosing(bytes: string): Promise<string> {
  const { port } = new URL(chain.url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), "127.0.0.1", () => socket.end(bytes));
    let text = "";
    socket.on("data", (chunk) => (text += chunk.toString("latin1")));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(text));
  });
}

test("what strangers say stands in the log without anything that steers a terminal", () => {
  expect(chain.relayLog.lines.filter((line) => /\p{Cc}/u.test(line))).toEqual([]);
});
