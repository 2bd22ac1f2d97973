import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { collect, isStream } from "../../src/core/bytes.ts";
import { Call, type Reply } from "../../src/core/call.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import type { Provider, TranslatedPath } from "../../src/core/provider.ts";
import { createProvider } from "../../src/providers/index.ts";
import type { ProviderKind } from "../../src/providers/settings.ts";

// Servers that are said to speak a format: its calls pass through, all others are translated.

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

interface Asked {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

async function serverThat(
  answer: (response: ServerResponse, asked: Asked) => void,
): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      const one = { path: request.url ?? "", headers: request.headers, body: Buffer.concat(pieces).toString() };
      asked.push(one);
      answer(response, one);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

function providerOf(url: string, speaks: TranslatedPath[], kind: ProviderKind = "vllm", heartbeat = 10_000): Provider {
  const limits = { connectTimeout: 1000, firstByteTimeout: 0, idleTimeout: 0 };
  const provider = createProvider(
    "box",
    { kind, urls: [url], key: "OURS", speaks, ...limits },
    { log: silent, heartbeat },
  );
  closing.push(() => void provider.close());
  return provider;
}

function call(provider: Provider, path: string, body: JsonObject | string, headers: Record<string, string> = {}): Call {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const { signal } = new AbortController();
  const made = new Call({ id: "c", method: "POST", path, headers, signal, body: Buffer.from(text) });
  made.target = { provider, model: "org/real", requested: "box:org/real" };
  return made;
}

async function textOf({ body }: Reply): Promise<string> {
  if (!isStream(body)) return String(body);
  return (await collect(body, 1 << 20, () => new Error("too long"))).toString();
}

const question = '{"model": "box:org/real", "max_tokens": 5, "messages": [{"role":"user","content":"hi"}], "odd":1.50}';

describe.each(["vllm", "openai", "ollama", "lmdeploy", "mnn"] as const)("a server of the kind %s", (kind) => {
  it("gets what it speaks byte for byte but for the model's name, and so does the caller", async () => {
    const { url, asked } = await serverThat((response) => {
      response.writeHead(200, { "content-type": "application/json", server: "uvicorn" });
      response.end('{"id":"msg_1", "model":"org/real","usage":{"input_tokens":1}}');
    });
    const provider = providerOf(url, ["/v1/messages"], kind);
    expect(provider.speaks.has("/v1/messages")).toBe(true);
    const reply = await provider.handle(call(provider, "/v1/messages", question, { authorization: "Bearer THEIRS" }));
    expect(await textOf(reply)).toBe('{"id":"msg_1", "model":"box:org/real","usage":{"input_tokens":1}}');
    expect(reply.headers.server).toBeUndefined();
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ path: "/v1/messages", body: question.replace("box:org/real", "org/real") });
    expect(asked[0]?.headers).toMatchObject({ authorization: "Bearer OURS", "anthropic-version": "2023-06-01" });
  });
});

describe("what passes through", () => {
  it("is only what the configuration names", async () => {
    const { url, asked } = await serverThat((response, { path }) => {
      response.writeHead(200, { "content-type": "application/json" });
      const message = { role: "assistant", content: "hello" };
      const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
      response.end(
        path.startsWith("/v1/chat")
          ? JSON.stringify({
              id: "1",
              model: "org/real",
              choices: [{ index: 0, message, finish_reason: "stop" }],
              usage,
            })
          : "{}",
      );
    });
    const provider = providerOf(url, ["/v1/responses"]);
    await textOf(await provider.handle(call(provider, "/v1/responses", { model: "m", input: "hi" })));
    await textOf(await provider.handle(call(provider, "/v1/messages", question)));
    expect(asked.map(({ path }) => path)).toEqual(["/v1/responses", "/v1/chat/completions"]);
  });

  it("streams with the model's name changed, wherever the pieces are cut", async () => {
    const events = `event: message_start\ndata: {"type":"message_start","message":{"model":"org/real"}}\n\n`;
    const { url } = await serverThat((response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const half = events.indexOf("real");
      response.write(events.slice(0, half), () => setImmediate(() => response.end(events.slice(half))));
    });
    const provider = providerOf(url, ["/v1/messages"]);
    const reply = await provider.handle(call(provider, "/v1/messages", { model: "m", stream: true }));
    expect(await textOf(reply)).toBe(events.replace("org/real", "box:org/real"));
  });

  it("gets signs of life in the API's own form while its server is silent", async () => {
    let finish!: () => void;
    const { url } = await serverThat((response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("event: message_start\ndata: {}\n\n");
      finish = () => response.end("event: message_stop\ndata: {}\n\n");
    });
    const provider = providerOf(url, ["/v1/messages"], "vllm", 20);
    const { body } = await provider.handle(call(provider, "/v1/messages", { model: "m", stream: true }));
    if (!isStream(body)) throw new Error("no stream");
    let text = "";
    await new Promise<void>((resolve, reject) => {
      body.start({
        write: (piece) => {
          text += Buffer.from(piece as Uint8Array).toString();
          if (text.includes("event: ping")) finish();
          return true;
        },
        end: () => resolve(),
        fail: reject,
      });
    });
    expect(text).toMatch(/^event: message_start[^]*event: ping\ndata: \{"type": "ping"\}\n\n[^]*event: message_stop/);
  });

  it("tells in its stream, in the API's own form, that it broke off", async () => {
    const { url } = await serverThat((response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("event: message_start\ndata: {}\n\n", () => setImmediate(() => response.destroy()));
    });
    const provider = providerOf(url, ["/v1/messages"]);
    const { body } = await provider.handle(call(provider, "/v1/messages", { model: "m", stream: true }));
    if (!isStream(body)) throw new Error("no stream");
    let text = "";
    const failure = await new Promise<Error>((resolve, reject) => {
      body.start({
        write: (piece) => ((text += Buffer.from(piece as Uint8Array).toString()), true),
        end: () => reject(new Error("it ended as if it were complete")),
        fail: resolve,
      });
    });
    expect(failure).toBeInstanceOf(ApiError);
    expect(text).toMatch(/event: error\ndata: \{"type":"error","error":\{"type":"api_error"/);
  });

  it("is refused in our words, so that no client tries again what cannot succeed", async () => {
    const { url } = await serverThat((response) => {
      response.writeHead(400, { "content-type": "application/json" });
      response.end(
        '{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens may be at most 500"}}',
      );
    });
    const provider = providerOf(url, ["/v1/messages"]);
    const refusal = provider.handle(call(provider, "/v1/messages", question));
    await expect(refusal).rejects.toMatchObject({ status: 400 });
    await expect(refusal).rejects.not.toThrow(/500/);
  });
});
