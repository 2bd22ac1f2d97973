import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ask, open } from "../support/tunnel-caller.ts";
import { makeCertificate } from "../support/tunnel-certificate.ts";
import { asCaller, type Chain, startChain } from "../support/tunnel-chain.ts";
import { type Line, startConnectProxy, startCutLine, startWebSocketFront } from "../support/tunnel-lines.ts";
import { nginxMissing, startNginx } from "../support/tunnel-nginx.ts";
import { answerJson, beginStream, chatEvent, SteeredRuntime, wholeChat } from "../support/tunnel-runtime.ts";

// What stands between an agent and its relay, in the world.

let runtime: SteeredRuntime;
let chain: Chain | undefined;
const lines: Line[] = [];
const chat = { body: { model: "demo", messages: [] }, headers: asCaller };

beforeAll(async () => void (runtime = await SteeredRuntime.start()));
afterEach(async () => {
  runtime.forget();
  await chain?.close();
  chain = undefined;
  for (const line of lines.splice(0)) await line.close();
});
afterAll(() => runtime.close());

/** A chain whose agent dials what `build` puts before the relay. */
async function behind<Front extends Line>(
  build: (relayUrl: string) => Promise<Front>,
  agentEnv: Record<string, string> = {},
  relayEnv: Record<string, string> = {},
): Promise<{ chain: Chain; front: Front }> {
  let front: Front | undefined;
  chain = await startChain({
    runtime: runtime.url,
    agentEnv: { LAIR_AGENT_CONNECTIONS: "1", ...agentEnv },
    relayEnv,
    front: async (url) => {
      front = await build(url);
      lines.push(front);
      return front.url;
    },
  });
  return { chain, front: front as Front };
}

/** A stream, piece by piece, at this address, and a caller that leaves it. */
async function expectCarried(url: string): Promise<void> {
  const opening = open(`${url}/v1/chat/completions`, chat);
  const asked = await runtime.next();
  beginStream(asked);
  const exchange = await opening;
  for (const word of ["one", "two"]) {
    asked.reply.write(chatEvent(word));
    await exchange.until(new RegExp(word));
  }
  exchange.leave();
  await asked.left;
}

const transportOf = ({ relay }: Chain): string[] =>
  relay.fleet.agents().flatMap(({ connections }) => connections.map(({ transport }) => transport));

describe("a front that passes nothing but WebSockets", () => {
  test.each([
    ["drops other upgrades", undefined],
    ["answers them with 426", 426],
    ["answers them with 200", 200],
    ["answers them with 400", 400],
    ["answers them with 502", 502],
  ])("and %s is found out, and passed as a WebSocket", async (_name, refusal) => {
    const { chain, front } = await behind((url) => startWebSocketFront(url, refusal));
    expect(front.upgrades.at(-1)).toBe("websocket");
    expect(transportOf(chain)).toEqual(["ws"]);
    await expectCarried(chain.url);
    await expectCarried(front.url);
  });

  test("is told plainly to who insists on `upgrade`", async () => {
    const front = async (url: string): Promise<string> => {
      const line = await startWebSocketFront(url, 426);
      lines.push(line);
      return line.url;
    };
    chain = await startChain({ runtime: runtime.url, agents: [], front });
    await chain.beginAgent("home", { LAIR_AGENT_TRANSPORT: "upgrade" });
    expect(await chain.agentLog.until(/426/)).toMatch(/^(warn|error) /);
  });
});

describe("an agent that is told to use a WebSocket", () => {
  test("carries 32 MB both ways", async () => {
    const { chain } = await behind((url) => startCutLine(url), { LAIR_AGENT_TRANSPORT: "ws" });
    expect(transportOf(chain)).toEqual(["ws"]);
    const text = JSON.stringify({ model: "demo", image: "x".repeat(32 * 1024 * 1024) });
    runtime.answering = async (asked) => {
      const body = await asked.body();
      asked.reply.writeHead(200, { "content-type": "application/octet-stream" }).end(body);
    };
    const headers = { ...asCaller, "content-type": "application/json" };
    const answer = await ask(`${chain.url}/v1/chat/completions`, { body: text, headers });
    expect(answer.clean && answer.text === text).toBe(true);
  });
});

describe("a proxy that the environment names", () => {
  test.each(["upgrade", "ws"])("is asked to CONNECT, for the transport %s", async (transport) => {
    const proxy = await startConnectProxy();
    lines.push(proxy);
    // Of another name, for loopback addresses never go through a proxy.
    const named = (url: string): string => url.replace("127.0.0.1", "relay.test");
    const { chain } = await behind(
      async (url) => ({ url: named(url), connections: () => 0, close: async () => undefined }),
      { LAIR_AGENT_TRANSPORT: transport, HTTP_PROXY: proxy.url, http_proxy: proxy.url },
      { LAIR_HOSTS: "relay.test" },
    );
    expect(proxy.targets[0]).toMatch(/^relay\.test:\d+$/);
    await expectCarried(chain.url);
  });
});

describe("nginx, as docs/relay.md configures it", () => {
  const missing = nginxMissing();
  const certificate = makeCertificate();
  beforeAll(() => {
    if (missing !== undefined) console.warn(`The tests with nginx are skipped: ${missing}.`);
  });
  afterAll(() => certificate?.remove());

  test("passes the tunnel's own upgrade, and streams piece by piece", async ({ skip }) => {
    if (missing !== undefined) return skip(missing);
    const { chain, front } = await behind((url) => startNginx({ targets: [url] }));
    expect(transportOf(chain)).toEqual(["upgrade"]);
    await expectCarried(front.url);
    await expectCarried(chain.url);
  });

  test("passes a WebSocket, too", async ({ skip }) => {
    if (missing !== undefined) return skip(missing);
    const { chain, front } = await behind((url) => startNginx({ targets: [url] }), { LAIR_AGENT_TRANSPORT: "ws" });
    expect(transportOf(chain)).toEqual(["ws"]);
    await expectCarried(front.url);
  });

  test("with TLS, and the agent trusting its certificate", async ({ skip }) => {
    if (missing !== undefined) return skip(missing);
    if (certificate === undefined) return skip("openssl, which makes the certificate, is not installed");
    const nginx = (url: string): Promise<Line> => startNginx({ targets: [url], tls: certificate });
    const { front } = await behind(nginx, { LAIR_AGENT_TLS_CA: certificate.cert });
    const answering = ask(`${front.url}/v1/chat/completions`, { ...chat, ca: certificate.cert });
    const asked = await runtime.next();
    await asked.body();
    answerJson(asked, 200, wholeChat("done"));
    expect((await answering).status).toBe(200);
  });
});

describe("a line that breaks", () => {
  test("is dialled anew, and what was under way is an error", async () => {
    const { chain, front } = await behind((url) => startCutLine(url), { LAIR_AGENT_CONNECTIONS: "2" });
    const opening = open(`${chain.url}/v1/chat/completions`, { ...chat, body: { ...chat.body, stream: true } });
    const asked = await runtime.next();
    beginStream(asked);
    asked.reply.write(chatEvent("one"));
    const exchange = await opening;
    await exchange.until(/one/);
    front.cut();
    expect(await exchange.answer).toMatchObject({ clean: false, text: expect.stringContaining("agent_lost") });
    await asked.left;
    await chain.untilReady("home");
    await expectCarried(chain.url);
  });

  test("that goes silent, as when a laptop sleeps, is given up by both ends within 10 s and dialled anew", async () => {
    const { chain, front } = await behind((url) => startCutLine(url), { LAIR_AGENT_CONNECTIONS: "1" });
    const opening = open(`${chain.url}/v1/chat/completions`, { ...chat, body: { ...chat.body, stream: true } });
    const asked = await runtime.next();
    beginStream(asked);
    const exchange = await opening;
    const before = performance.now();
    front.freeze();
    expect(await exchange.answer).toMatchObject({ clean: false, text: expect.stringContaining("agent_lost") });
    await asked.left;
    // Heartbeats of 4 s and 5 s, and what a busy machine adds.
    expect(performance.now() - before).toBeLessThan(20_000);
    await chain.untilReady("home");
    await expectCarried(chain.url);
  }, 60_000);
});
