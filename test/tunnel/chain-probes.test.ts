import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ask, type Answer, open, sendRaw } from "../support/tunnel-caller.ts";
import { asCaller, callerKey, type Chain, startChain } from "../support/tunnel-chain.ts";
import { answerJson, type Asked, SteeredRuntime, wholeChat } from "../support/tunnel-runtime.ts";

// What strangers may try, through the whole chain (tunnel.md, 4.1): nothing of it may reach the runtime.

let runtime: SteeredRuntime;
let chain: Chain;
const runtimeKey = "key-of-the-runtime-behind";
const body = JSON.stringify({ model: "demo", messages: [] });

beforeAll(async () => {
  runtime = await SteeredRuntime.start();
  chain = await startChain({ runtime: runtime.url, agentEnv: { LAIR_AGENT_OPENAI_KEY: runtimeKey } });
});
afterEach(() => runtime.forget());
afterAll(async () => {
  await chain?.close();
  await runtime?.close();
});

/** Sends a chat with these headers and gives what the runtime saw, and the answer. */
async function pass(headers: Record<string, string>, search = ""): Promise<{ asked: Asked; answer: Answer }> {
  const answering = ask(`${chain.url}/v1/chat/completions${search}`, {
    body: { model: "demo", messages: [] },
    headers: { ...asCaller, ...headers },
  });
  const refused = answering.then((answer) => Promise.reject(new Error(`refused: ${answer.text}`)));
  const asked = await Promise.race([runtime.next(), refused]);
  refused.catch(() => undefined);
  await asked.body();
  answerJson(asked, 200, wholeChat("done"));
  return { asked, answer: await answering };
}

/** What of a request the runtime could read: all of its head. */
const headOf = ({ request, target }: Asked): string => `${request.method} ${target}\n${request.rawHeaders.join("\n")}`;

describe("credentials", () => {
  test.each<[string, Record<string, string>]>([
    ["Authorization", {}],
    ["api-key", { "api-key": callerKey }],
    ["x-api-key", { "x-api-key": callerKey }],
    ["Cookie", { cookie: `session=${callerKey}` }],
    ["Proxy-Authorization", { "proxy-authorization": `Bearer ${callerKey}` }],
    ["x-goog-api-key", { "x-goog-api-key": callerKey }],
    [
      "Forwarded and its kin",
      { forwarded: `for="${callerKey}"`, "x-forwarded-for": callerKey, "x-real-ip": callerKey },
    ],
    ["Origin and Referer", { referer: `http://127.0.0.1/${callerKey}`, origin: "http://127.0.0.1" }],
    ["the tunnel's own names", { "lair-instance": callerKey, "lair-name": callerKey, "lair-version": callerKey }],
  ])("of a caller, in %s, do not reach the runtime", async (_name, headers) => {
    const { asked } = await pass(headers);
    const head = headOf(asked);
    expect(head).not.toContain(callerKey);
    expect(head).not.toMatch(/lla_|lair-|cookie|forwarded|origin/i);
    expect(asked.request.headers.authorization).toBe(`Bearer ${runtimeKey}`);
    expect(asked.request.headers.host).toBe(new URL(runtime.url).host);
  });

  test("of the runtime and of agents do not reach callers, nor do its cookies", async () => {
    const opening = open(`${chain.url}/v1/chat/completions`, { body: JSON.parse(body), headers: asCaller });
    const asked = await runtime.next();
    asked.reply.writeHead(200, {
      "content-type": "application/json",
      "set-cookie": "runtime=1",
      "strict-transport-security": "max-age=1",
      "alt-svc": 'h2=":1"',
      server: "runtime/1",
      "x-kept": "1",
      connection: "x-private",
      "x-private": "1",
    });
    asked.reply.end("{}");
    const { headers } = await (await opening).answer;
    expect(headers).toMatchObject({ "x-kept": "1" });
    const text = JSON.stringify(headers);
    expect(text).not.toMatch(/set-cookie|strict-transport|alt-svc|runtime|x-private|lla_/);
  });

  test("stand in no line of either log", async () => {
    await pass({ cookie: "secret-cookie" }, "?key=secret-in-the-query");
    const lines = [...chain.relayLog.lines, ...chain.agentLog.lines].join("\n");
    expect(lines).not.toMatch(/lla_\w+_|secret-cookie|secret-in-the-query/);
    expect(lines).not.toContain(callerKey);
    expect(lines).not.toContain(runtimeKey);
  });
});

describe("a relay refuses, and the runtime hears nothing", () => {
  const head = `Authorization: Bearer ${callerKey}\r\nContent-Type: application/json\r\n`;
  const length = `Content-Length: ${body.length}\r\n`;
  const end = "Connection: close\r\n\r\n";
  const post = "POST /v1/chat/completions HTTP/1.1\r\n";
  const host = "Host: 127.0.0.1\r\n";
  test.each<[string, string]>([
    ["two Host headers", `${post}${host}Host: evil.example\r\n${head}${length}${end}${body}`],
    ["no Host header", `${post}${head}${length}${end}${body}`],
    ["a strange Host", `${post}Host: evil.example\r\n${head}${length}${end}${body}`],
    ["a length and chunks", `${post}${host}${head}${length}Transfer-Encoding: chunked\r\n${end}0\r\n\r\n`],
    ["two lengths", `${post}${host}${head}${length}Content-Length: 3\r\n${end}${body}`],
    ["an unknown transfer coding", `${post}${host}${head}Transfer-Encoding: xchunked\r\n${end}0\r\n\r\n`],
    [
      "a target with a host",
      `POST http://169.254.169.254/v1/chat/completions HTTP/1.1\r\n${host}${head}${length}${end}${body}`,
    ],
    ["a target that begins with two slashes", `GET //evil.example/v1/models HTTP/1.1\r\n${host}${head}${end}`],
    ["encoded dots", `GET /v1/%2e%2e/api/tags HTTP/1.1\r\n${host}${head}${end}`],
    ["plain dots", `GET /v1/../api/tags HTTP/1.1\r\n${host}${head}${end}`],
    ["an encoded slash", `GET /v1%2fmodels HTTP/1.1\r\n${host}${head}${end}`],
    ["a slash the other way", `GET /v1\\models HTTP/1.1\r\n${host}${head}${end}`],
    ["an encoded line end", `GET /v1/models/a%0d%0aX:1 HTTP/1.1\r\n${host}${head}${end}`],
    ["a control character", `GET /v1/models/\u0001 HTTP/1.1\r\n${host}${head}${end}`],
    ["a line end within a header", `${post}${host}X-A: a\rX-B: b\r\n${head}${length}${end}${body}`],
    ["a folded header", `${post}${host}X-A: a\r\n b\r\n${head}Content-Length : ${body.length}\r\n${end}${body}`],
    ["TRACE", `TRACE /v1/models HTTP/1.1\r\n${host}${head}${end}`],
    ["administration of Ollama", `POST /api/pull HTTP/1.1\r\n${host}${head}Content-Length: 14\r\n${end}{"model":"qw"}`],
    ["the tunnel's control stream", `POST /.lair/control HTTP/1.1\r\n${host}${head}${length}${end}${body}`],
  ])("%s", async (_name, bytes) => {
    const before = runtime.asked.length;
    const text = await sendRaw(chain.url, bytes);
    expect(text).toMatch(/^HTTP\/1\.1 4\d\d /);
    expect(text.match(/^HTTP\/1\.1 \d/gm)).toHaveLength(1);
    expect(runtime.asked.length).toBe(before);
  });

  test("CONNECT, by closing the connection", async () => {
    const before = runtime.asked.length;
    expect(await sendRaw(chain.url, `CONNECT 127.0.0.1:22 HTTP/1.1\r\n${host}${head}${end}`)).not.toMatch(/ 2\d\d /);
    expect(runtime.asked.length).toBe(before);
  });

  test("to change the protocol for anything but the tunnel, and answers as if nobody had asked", async () => {
    const text = await sendRaw(
      chain.url,
      `GET /v1/models HTTP/1.1\r\n${host}${head}Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
  });

  test("no part of a second request that was hidden within a first", async () => {
    const smuggled = `GET /api/tags HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Ignore: x`;
    const before = runtime.asked.length;
    const text = await sendRaw(
      chain.url,
      `${post}${host}${head}Content-Length: ${smuggled.length}\r\nTransfer-Encoding: chunked\r\n${end}0\r\n\r\n${smuggled}`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 400/);
    expect(runtime.asked.length).toBe(before);
  });
});

describe("what a caller says of its connection", () => {
  test.each(["close, x-request-id", "authorization", "content-type, keep-alive", "x-tenant"])(
    "cannot take anything from a request: Connection: %s",
    async (connection) => {
      const bytes = `POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${callerKey}\r\nContent-Type: application/json\r\nX-Request-Id: kept\r\nContent-Length: ${body.length}\r\nConnection: ${connection}\r\n\r\n${body}`;
      runtime.answering = async (asked) => {
        await asked.body();
        answerJson(asked, 200, wholeChat("done"));
      };
      const before = runtime.asked.length;
      const answering = sendRaw(chain.url, connection.includes("close") ? bytes : `${bytes}GET / HTTP/1.1\r\n\r\n`);
      const text = await answering;
      const [asked] = runtime.asked.slice(before);
      // Refused is well, too; what is not: to be let in as another than one is, or with another framing.
      if (asked === undefined) return expect(text).toMatch(/^HTTP\/1\.1 400/);
      expect(asked.request.headers).toMatchObject({
        authorization: `Bearer ${runtimeKey}`,
        "content-type": "application/json",
        "x-request-id": "kept",
      });
      expect((await asked.body()).toString()).toBe(body);
    },
  );
});

describe("a runtime that lies about its answer", () => {
  test("saying more bytes than it sends, is found out", async () => {
    const opening = open(`${chain.url}/v1/chat/completions`, { body: JSON.parse(body), headers: asCaller });
    const asked = await runtime.next();
    asked.reply.writeHead(200, { "content-type": "application/octet-stream", "content-length": "100" });
    asked.reply.write("short");
    const exchange = await opening;
    await exchange.until(/short/);
    asked.reply.socket?.end();
    expect((await exchange.answer).clean).toBe(false);
  });

  test("sending the caller elsewhere, is not followed, and the caller is not sent there", async () => {
    const answering = ask(`${chain.url}/v1/chat/completions`, { body: JSON.parse(body), headers: asCaller });
    const asked = await runtime.next();
    asked.reply.writeHead(302, { location: "http://169.254.169.254/latest" }).end();
    const answer = await answering;
    expect(answer.headers.location).toBeUndefined();
    expect(runtime.asked.at(-1)).toBe(asked);
  });
});
