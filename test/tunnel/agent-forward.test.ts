import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type RequestListener } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { forwarder } from "../../src/providers/forward.ts";
import { errorCodes } from "../../src/tunnel/http2/errors.ts";
import { gate } from "../support/fake-server.ts";
import { ask, serving, type Serving } from "../support/tunnel-ends.ts";

// The agent's whole half: streams of a relay in, a real server on a real socket behind.

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanup.splice(0).toReversed()) await undo();
});

async function agentBefore(listener: RequestListener): Promise<Serving> {
  const server = createServer(listener);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const runtime = forwarder(
    { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key: "RUNTIME-KEY" },
    { connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0 },
  );
  const ends = serving(runtime.handle);
  cleanup.push(async () => {
    ends.relay.destroy();
    await runtime.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return ends;
}

const chat = { ":path": "/v1/chat/completions", "content-type": "application/json" };

describe("an agent before a runtime", () => {
  test("answers as the runtime does, without what is the relay's or the runtime's own", async () => {
    const seen: IncomingHttpHeaders[] = [];
    const { relay } = await agentBefore((request, response) => {
      seen.push(request.headers);
      request.resume();
      response.setHeader("set-cookie", "a=b");
      response.setHeader("server", "uvicorn");
      response.setHeader("x-hop", "1");
      response.setHeader("connection", "keep-alive, x-hop");
      response.setHeader("content-type", "application/json");
      response.statusCode = 422;
      response.end('{"said":1}');
    });
    const asked = await ask(
      relay,
      {
        ...chat,
        authorization: "Bearer RELAYS-KEY",
        cookie: "session=1",
        "x-forwarded-for": "203.0.113.7",
        "x-request-id": "req-7",
        "content-length": "2",
      },
      "{}",
    ).over();
    expect([asked.state, asked.head[":status"], asked.text]).toEqual(["ended", "422", '{"said":1}']);
    expect(Object.keys(asked.head).toSorted()).toEqual([":status", "content-length", "content-type", "date"]);
    expect(seen).toEqual([
      {
        host: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string,
        authorization: "Bearer RUNTIME-KEY",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "2",
        "x-request-id": "req-7",
      },
    ]);
  });

  test("takes 32 MB up and back at the same time, unchanged", async () => {
    const piece = randomBytes(64 * 1024);
    const sum = createHash("sha256");
    for (let count = 0; count < 512; count++) sum.update(piece);
    const expected = sum.digest("hex");
    const { relay } = await agentBefore((request, response) => {
      const hash = createHash("sha256");
      response.writeHead(200, { "content-type": "application/octet-stream" });
      request.on("data", (chunk: Buffer) => {
        hash.update(chunk);
        if (!response.write(chunk)) {
          request.pause();
          response.once("drain", () => request.resume());
        }
      });
      request.on("end", () => response.end(hash.digest("hex")));
    });
    const asked = ask(relay, { ...chat, "content-length": String(512 * piece.length) }, undefined);
    const back = createHash("sha256");
    let size = 0;
    asked.onData = (chunk) => {
      size += chunk.length;
      if (size <= 512 * piece.length) back.update(chunk);
      else asked.pieces.push(chunk);
    };
    let drained = gate();
    asked.onDrain = () => drained.open();
    for (let count = 0; count < 512; count++) {
      drained = gate();
      if (!asked.stream.write(piece)) await drained.opened;
    }
    asked.stream.end();
    await asked.over();
    expect([asked.state, size]).toEqual(["ended", 512 * piece.length + 64]);
    expect(asked.text.slice(-64)).toBe(expected);
  });

  test("stops the runtime when the caller leaves: before the head, within the reply, within the upload", async () => {
    for (const stage of ["before the head", "within the reply", "within the upload"]) {
      const begun = gate();
      const left = gate();
      const { relay, outcome } = await agentBefore((request, response) => {
        response.on("close", left.open);
        request.on("error", () => undefined);
        request.once("data", begun.open);
        if (stage === "within the reply") response.write("data: 1\n\n");
      });
      const asked = ask(relay, chat, undefined);
      asked.stream.write(randomBytes(300 * 1024));
      if (stage !== "within the upload") asked.stream.end();
      await begun.opened;
      if (stage === "within the reply") await asked.until(() => asked.size > 0);
      asked.stream.reset(errorCodes.cancel);
      await left.opened;
      await outcome();
    }
  });

  test("cuts a reply that the runtime breaks off, and says what is wrong when there is no reply at all", async () => {
    const { relay } = await agentBefore((request, response) => {
      request.resume();
      if (request.headers["x-session-id"] === "silent") return void request.socket.destroy();
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n", () => response.socket?.destroy());
    });
    const cut = await ask(relay, chat, "{}").over();
    expect(cut.state).toMatchObject({ code: errorCodes.internalError });
    const silent = await ask(relay, { ...chat, "x-session-id": "silent" }, "{}").over();
    expect([silent.head[":status"], silent.json]).toMatchObject(["502", { error: { code: "upstream_error" } }]);
  });

  test("asks nobody else, whatever the relay asks for", async () => {
    const seen: (string | undefined)[] = [];
    const { relay } = await agentBefore((request, response) => {
      seen.push(request.url);
      response.end("{}");
    });
    const hostile = [
      "//evil.example/v1/models",
      "http://169.254.169.254/latest",
      "/v1/%2e%2e/api/pull",
      "/v1/models/%2e%2e%2fslots",
      "/v1/models/..;/slots",
      "/api/pull",
      "/slots",
      "/metrics",
      "/admin",
      "/v1/models\\..\\..\\slots",
      "/v1/models?x=\u00e9",
      "/v1/models/ x",
      "/v1/models/x#y",
    ];
    for (const path of hostile) {
      const asked = await ask(relay, { ":method": "GET", ":path": path, ":authority": "evil.example" }, null).over();
      expect([path, asked.head[":status"]]).not.toEqual([path, "200"]);
    }
    expect(seen).toEqual([]);
    await ask(relay, { ":method": "GET", ":path": "/v1/models" }, null).over();
    expect(seen).toEqual(["/v1/models"]);
  });
});
