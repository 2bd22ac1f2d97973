import { connect } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { ByteSink } from "../../src/core/bytes.ts";
import { silent } from "../../src/core/log.ts";
import { listen, type RunningServer } from "../../src/http/server.ts";

// A reply that breaks off: the client gets what there was, and no end.

let server: RunningServer | undefined;
afterEach(() => server?.close(0));

let breaking = (): void => undefined;

/** A server whose replies begin and, when `breaking` says so, are broken off after these words. */
async function startBreaking(words: string): Promise<number> {
  const bounds = { bodyLimit: 1000, headerLimit: 16_384, headersTimeout: 5000, requestTimeout: 5000 };
  const start = (sink: ByteSink): void => {
    sink.write("begun ");
    breaking = () => {
      if (words !== "") sink.write(words);
      sink.fail(new Error("broken"));
    };
  };
  server = await listen({
    ...bounds,
    host: "127.0.0.1",
    port: 0,
    log: silent,
    keepAliveTimeout: 5000,
    stallTimeout: 5000,
    handler: async () => ({
      status: 200,
      headers: { "content-type": "text/event-stream" },
      body: { start, resume: () => undefined, cancel: () => undefined },
    }),
  });
  return server.port;
}

/** Everything that comes back, and how the connection ended. */
function ask(port: number, version: string): Promise<{ text: string; end: string }> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let text = "";
    let end = "closed";
    socket.on("data", (chunk) => {
      const begun = text.includes("begun");
      text += chunk.toString();
      if (!begun && text.includes("begun")) breaking();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => (end = error.code ?? ""));
    socket.on("close", () => resolve({ text, end }));
    socket.write(`GET / HTTP/${version}\r\nHost: 127.0.0.1\r\n\r\n`);
  });
}

test("what was said last arrives before the connection breaks", async () => {
  const port = await startBreaking("data: the error\n\n");
  for (let time = 0; time < 20; time++) {
    const { text } = await ask(port, "1.1");
    expect(text).toMatch(/begun [\s\S]*data: the error\n\n\r\n$/);
  }
});

test("a client of HTTP/1.0, where the connection's end is the body's, gets a reset instead", async () => {
  // libuv takes bytes and a reset that come together for an end: here the reset comes alone.
  const port = await startBreaking("");
  expect((await ask(port, "1.0")).end).toBe("ECONNRESET");
});
