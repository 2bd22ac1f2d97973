import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { type ByteStream, collect, isStream } from "../../src/core/bytes.ts";
import { Call, type CallInit, type Reply } from "../../src/core/call.ts";
import { Departure } from "../../src/core/departure.ts";
import { silent } from "../../src/core/log.ts";
import type { Provider } from "../../src/core/provider.ts";
import { createProvider } from "../../src/providers/index.ts";
import type { ProviderSettings } from "../../src/providers/settings.ts";

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

async function startServer(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  undo.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function remoteAt(url: string, settings: Partial<ProviderSettings> = {}): Provider {
  const times = { connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0 };
  const provider = createProvider("home", { kind: "lair", urls: [url], ...times, ...settings }, { log: silent });
  undo.push(() => provider.close());
  return provider;
}

interface Asking extends Partial<CallInit> {
  readonly model?: string;
  readonly requested?: string;
}

function ask(provider: Provider, { model = "demo", requested = model, ...init }: Asking = {}): Promise<Reply> {
  const call = new Call({
    id: "id-1",
    method: "POST",
    path: "/v1/chat/completions",
    signal: new Departure(),
    body: Buffer.from(JSON.stringify({ model: requested })),
    ...init,
  });
  call.target = { provider, model, requested };
  return provider.handle(call);
}

async function text({ body }: Reply): Promise<string> {
  if (!isStream(body)) return String(body ?? "");
  return (await collect(body, 1 << 28, () => new Error("too large"))).toString();
}

/** What a stream says until it breaks, and why it does. */
async function untilBroken(body: ByteStream): Promise<{ said: string; error: Error }> {
  let said = "";
  const error = await new Promise<Error>((resolve, reject) => {
    const end = (): void => reject(new Error(`ended as if it were complete: ${said}`));
    body.start({ write: (chunk) => Boolean((said += String(chunk))), end, fail: resolve });
  });
  return { said, error };
}

const echo: RequestListener = (request, reply) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const { method, url, headers } = request;
    reply.setHeader("content-type", "application/json");
    reply.end(JSON.stringify({ method, url, headers, body: Buffer.concat(chunks).toString() }));
  });
};

describe("a call to another server of our own kind", () => {
  it("keeps its path, query and body, and leaves credentials and addresses behind", async () => {
    const url = await startServer(echo);
    const reply = await ask(remoteAt(url, { key: "OUR-KEY", headers: { "X-Team": "a", Accept: "text/ours" } }), {
      path: "/v1/responses",
      search: "?x=%20y",
      body: Buffer.from('{ "model" : "demo", "z": 1e2, "\u00e4": "\\u00e4" }'),
      headers: {
        host: "gateway.example",
        authorization: "Bearer CALLERS-KEY",
        "api-key": "CALLERS-KEY",
        "x-api-key": "CALLERS-KEY",
        cookie: "a=b",
        "proxy-authorization": "Basic x",
        "x-forwarded-for": "203.0.113.7",
        "x-team": "callers",
        origin: "https://page.example",
        connection: "close, x-session-id",
        "transfer-encoding": "chunked",
        "accept-encoding": "gzip",
        "content-type": "application/json; charset=utf-8",
        accept: "text/event-stream",
        "user-agent": "opencode/1",
        "x-session-id": "s1",
        "x-session-affinity": "s2",
        "anthropic-version": "2023-06-01",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      },
    });
    expect(JSON.parse(await text(reply))).toEqual({
      method: "POST",
      url: "/v1/responses?x=%20y",
      body: '{ "model" : "demo", "z": 1e2, "\u00e4": "\\u00e4" }',
      headers: {
        host: url.slice("http://".length),
        "accept-encoding": "identity",
        authorization: "Bearer OUR-KEY",
        "x-team": "a",
        "content-type": "application/json; charset=utf-8",
        "content-length": expect.any(String) as string,
        accept: "text/ours",
        "user-agent": "opencode/1",
        "x-session-id": "s1",
        "x-session-affinity": "s2",
        "anthropic-version": "2023-06-01",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-request-id": "id-1",
        "x-lair-hops": "1",
      },
    });
  });

  it("has only the model's name changed where that is another one there, in the request and in the reply", async () => {
    const url = await startServer(echo);
    const body = Buffer.from('{"tools":[{"model":"mine"}],"n":1.0,"model":"mine","t":"\u00e4\u{1f600}"}');
    const reply = await ask(remoteAt(url), { model: "m\u00fcller:8b", requested: "mine", body });
    const said = JSON.parse(await text(reply)) as { body: string };
    expect(said.body).toBe('{"tools":[{"model":"mine"}],"n":1.0,"model":"m\u00fcller:8b","t":"\u00e4\u{1f600}"}');
  });

  it("says the name that was asked for, however the reply is cut into pieces", async () => {
    const whole =
      'data: {"id":"1","model":"real","x":{"model": "real"},"y":"\\"model\\":\\"real\\""}\n\ndata: [DONE]\n\n';
    const url = await startServer((_request, reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      void (async () => {
        for (const character of whole) {
          reply.write(character);
          await new Promise((resolve) => setImmediate(resolve));
        }
        reply.end();
      })();
    });
    const expected = whole.replace('"model":"real"', '"model":"mine"').replace('"model": "real"', '"model": "mine"');
    expect(await text(await ask(remoteAt(url), { model: "real", requested: "mine" }))).toBe(expected);
  });

  it("takes eight megabytes each way, unchanged", async () => {
    const url = await startServer((request, reply) => {
      reply.writeHead(200, { "content-type": "application/octet-stream" });
      request.pipe(reply);
    });
    const body = randomBytes(8 * 1024 * 1024);
    const reply = await ask(remoteAt(url), { body });
    const back = await collect(reply.body as ByteStream, 1 << 28, () => new Error("too large"));
    expect(createHash("sha256").update(back).digest("hex")).toBe(createHash("sha256").update(body).digest("hex"));
  });

  it("cannot be made to end its request's line", async () => {
    const provider = remoteAt(await startServer(echo));
    for (const search of ["?a b", "?a\r\nx: y", "?\u00e4"])
      await expect(ask(provider, { search })).rejects.toMatchObject({ code: "invalid_request" });
  });
});

describe("a reply of another server of our own kind", () => {
  it("keeps status, body and what it says of itself, but not what it says of our limits, its origin and its connection", async () => {
    const url = await startServer((_request, reply) => {
      reply.writeHead(429, {
        "content-type": "application/json",
        "retry-after": "7",
        "x-lair-agent": "desk",
        "x-mine": "1",
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-tokens": "0",
        "set-cookie": "a=b",
        server: "x",
        "www-authenticate": "Bearer",
        "strict-transport-security": "max-age=1",
        "access-control-allow-origin": "*",
        connection: "keep-alive, x-hop",
        "x-hop": "1",
      });
      reply.end('{"error":{"message":"slow down","code":"rate_limit_exceeded"}}');
    });
    const reply = await ask(remoteAt(url));
    const { date, ...headers } = reply.headers;
    expect([reply.status, await text(reply)]).toEqual([
      429,
      '{"error":{"message":"slow down","code":"rate_limit_exceeded"}}',
    ]);
    expect([headers, typeof date]).toEqual([
      { "content-type": "application/json", "retry-after": "7", "x-lair-agent": "desk", "x-mine": "1" },
      "string",
    ]);
  });

  it("that refuses our key is our fault, not the caller's", async () => {
    for (const status of [401, 403]) {
      const url = await startServer((_request, reply) =>
        reply.writeHead(status).end('{"error":{"message":"no such key"}}'),
      );
      await expect(ask(remoteAt(url, { key: "OUR-KEY" }))).rejects.toMatchObject({
        code: "upstream_auth_failed",
        status: 502,
        message: expect.not.stringContaining("OUR-KEY") as string,
      });
    }
  });

  it("that leads elsewhere is not followed", async () => {
    let elsewhere = 0;
    const other = await startServer((_request, reply) => {
      elsewhere++;
      reply.end("{}");
    });
    for (const status of [301, 302, 303, 307, 308]) {
      const url = await startServer((_request, reply) => reply.writeHead(status, { location: other }).end());
      await expect(ask(remoteAt(url))).rejects.toMatchObject({ code: "upstream_error", status: 502 });
    }
    expect(elsewhere).toBe(0);
  });

  it.each([
    ["/v1/chat/completions", /^data: \{"error":\{"message":"home broke/],
    ["/v1/responses", /^event: error\ndata: \{"type":"error","code":"upstream_error"/],
    ["/v1/messages", /^event: error\ndata: \{"type":"error","error":\{"type":"api_error"/],
  ])("that breaks off tells so in the words of %s, and does not end", async (path, pattern) => {
    const url = await startServer((_request, reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write("event: a\r\ndata: 1\r\n\r\n", () => reply.socket?.destroy());
    });
    const reply = await ask(remoteAt(url), { path, requested: "mine" });
    const { said, error } = await untilBroken(reply.body as ByteStream);
    expect(said.startsWith("event: a\r\ndata: 1\r\n\r\n")).toBe(true);
    expect(said.slice("event: a\r\ndata: 1\r\n\r\n".length)).toMatch(pattern);
    expect(said + error.message).not.toContain("127.0.0.1");
  });

  it("that falls silent in its middle is ended by the time limit, and told", async () => {
    const url = await startServer((_request, reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write("data: 1\n\n");
    });
    const reply = await ask(remoteAt(url, { idleTimeout: 50 }));
    const { said, error } = await untilBroken(reply.body as ByteStream);
    expect([said, error]).toMatchObject([
      expect.stringMatching(/^data: 1\n\ndata: \{"error"/),
      { code: "upstream_timeout" },
    ]);
  });

  it("whose caller leaves is ended there", async () => {
    let left: () => void = () => undefined;
    const gone = new Promise<void>((resolve) => (left = resolve));
    const url = await startServer((_request, reply) => {
      reply.on("close", left);
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write("data: 1\n\n");
    });
    const departure = new Departure();
    const reply = await ask(remoteAt(url), { signal: departure });
    const broken = untilBroken(reply.body as ByteStream);
    departure.leave();
    await gone;
    // Nobody is there to be told.
    expect((await broken).said).not.toContain("error");
  });
});

describe("several addresses of one upstream", () => {
  it("stand for each other where one is away", async () => {
    const url = await startServer(echo);
    const away = createServer();
    away.listen(0, "127.0.0.1");
    await once(away, "listening");
    const { port } = away.address() as AddressInfo;
    await new Promise((resolve) => away.close(resolve));
    const provider = remoteAt(`http://127.0.0.1:${port}`, { urls: [`http://127.0.0.1:${port}`, url, `${url}/v1`] });
    for (let count = 0; count < 4; count++) expect((await ask(provider)).status).toBe(200);
  });
});

describe("the models of another server of our own kind", () => {
  const cards = [
    {
      id: "llama_cpp:demo",
      object: "model",
      provider: "llama_cpp",
      agents: ["desk"],
      context_length: 8192,
      max_output_tokens: 2048,
      state: "unloaded",
      capabilities: { chat: true, tools: false, vision: true, reasoning: true, embeddings: false, rerank: false },
      modalities: { input: ["text", "image"], output: ["text"] },
    },
    { id: "my-embed", capabilities: { chat: false, embeddings: true } },
    { id: "" },
    "x",
  ];

  it("are read with all that it says of them, and kept as it says it", async () => {
    let seen: IncomingHttpHeaders = {};
    const url = await startServer((request, reply) => {
      seen = request.headers;
      reply.setHeader("content-type", "application/json");
      reply.end(JSON.stringify({ object: "list", data: cards }));
    });
    const models = await remoteAt(`${url}/v1`, { key: "OUR-KEY" }).models();
    expect(seen.authorization).toBe("Bearer OUR-KEY");
    expect(models).toMatchObject([
      {
        id: "llama_cpp:demo",
        contextLength: 8192,
        maxOutput: 2048,
        state: "unloaded",
        capabilities: { chat: true, tools: false, vision: true, reasoning: true, embeddings: false, rerank: false },
        card: cards[0],
      },
      { id: "my-embed", capabilities: { chat: false, tools: false, embeddings: true } },
    ]);
    expect(models.length).toBe(2);
  });

  it("may be fewer, or have further names, by our own settings", async () => {
    const url = await startServer((_request, reply) => reply.end(JSON.stringify({ data: [{ id: "a" }, { id: "b" }] })));
    const provider = remoteAt(url, { models: { exclude: ["b"] }, aliases: { mine: "a" }, contextLength: 512 });
    expect(await provider.models()).toMatchObject([
      { id: "mine", contextLength: 512 },
      { id: "a", contextLength: 512 },
    ]);
  });

  it("and its health are told by it, or that it is away", async () => {
    let status = 200;
    const url = await startServer((_request, reply) => reply.writeHead(status).end("{}"));
    const provider = remoteAt(url);
    expect(await provider.health()).toEqual({ ok: true });
    status = 503;
    expect(await provider.health()).toMatchObject({ ok: false });
    await expect(provider.models()).rejects.toMatchObject({ code: "service_unavailable" });
  });
});
