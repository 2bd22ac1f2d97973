import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { startRuntime } from "../../src/app.ts";
import { silent } from "../../src/core/log.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { openPlace } from "../support/gateway.ts";
import { openResponses, textOf } from "../support/responses-socket.ts";
import { ask } from "../support/tunnel-caller.ts";
import { makeCertificate } from "../support/tunnel-certificate.ts";
import { asCaller, startChain } from "../support/tunnel-chain.ts";

const closing: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function freePort(): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}

async function llamaServer(): Promise<string> {
  const server = await startFakeOpenAi({ model: "small", reply: [{ text: "hello" }, { finish: "stop" }] });
  closing.push(() => server.close());
  return server.url;
}

const host = (port: string): string => `http://127.0.0.1:${port}`;

describe("ollama.listen", () => {
  it("answers the same on a second port, behind the same guards, until the server stops", async () => {
    const place = await openPlace();
    closing.push(() => place.close());
    const [second, url] = [await freePort(), await llamaServer()];
    const config = await place.configure({
      RUNTIME_LISTEN_PORT: "0",
      LAIR_OLLAMA_LISTEN: second,
      LAIR_PROVIDERS_BOX_KIND: "openai",
      LAIR_PROVIDERS_BOX_URLS: url,
      LAIR_STATE: "",
      LLM_V1_PROXY_TOKEN: "secret",
    });
    const runtime = await startRuntime(config, silent, { version: "0.0.0-test", env: {} });
    const headers = { authorization: "Bearer secret" };
    const body = { model: "box:small", messages: [{ role: "user", content: "hi" }], stream: false };
    try {
      for (const place of [runtime.url, host(second)]) {
        expect((await ask(`${place}/api/chat`, { headers, body })).text).toContain("hello");
        expect((await ask(`${place}/api/chat`, { body })).status).toBe(401);
        const stranger = { ...headers, host: "evil.example" };
        expect((await ask(`${place}/api/chat`, { headers: stranger, body })).status).toBe(403);
        const client = await openResponses(place, headers);
        expect(textOf(await client.ask({ model: "box:small", input: "hi", store: false }))).toBe("hello");
      }
    } finally {
      await runtime.close();
    }
    await expect(ask(`${host(second)}/health`, { method: "GET" })).rejects.toThrow(/ECONNREFUSED/);
  });

  it("leaves nothing open where the second port is taken", async () => {
    const place = await openPlace();
    closing.push(() => place.close());
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    closing.push(() => void taken.close());
    const { port } = taken.address() as AddressInfo;
    const first = await freePort();
    const config = await place.configure({ RUNTIME_LISTEN_PORT: first, LAIR_OLLAMA_LISTEN: String(port) });
    const starting = startRuntime(config, silent, { version: "0.0.0-test", env: {} });
    await expect(starting).rejects.toMatchObject({ code: "EADDRINUSE", port });
    await expect(ask(`${host(first)}/health`, { method: "GET" })).rejects.toThrow(/ECONNREFUSED/);
  });
});

const certificate = makeCertificate();
if (certificate === undefined) console.warn("WebSockets over TLS are not tested: openssl is not installed");

afterAll(() => certificate?.remove());

describe.skipIf(certificate === undefined)("a relay with TLS", () => {
  it("speaks it with WebSockets too, and on its second port", async () => {
    const { cert = "", key = "" } = certificate ?? {};
    const second = await freePort();
    const relayEnv = { LAIR_RELAY_TLS_CERT: cert, LAIR_RELAY_TLS_KEY: key, LAIR_OLLAMA_LISTEN: second };
    const chain = await startChain({ runtime: await llamaServer(), relayEnv, agentEnv: { LAIR_AGENT_TLS_CA: cert } });
    closing.push(() => chain.close());
    for (const url of [chain.url, `https://127.0.0.1:${second}`]) {
      const client = await openResponses(url, asCaller);
      expect(textOf(await client.ask({ model: "small", input: "hi", store: false }))).toBe("hello");
      client.webSocket.close();
    }
  });
});
