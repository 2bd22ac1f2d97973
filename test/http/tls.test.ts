import { readFileSync } from "node:fs";
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { jsonReply } from "../../src/core/call.ts";
import type { Upgrade } from "../../src/core/upgrade.ts";
import { listen, type RunningServer, type ServerOptions } from "../../src/http/server.ts";
import { quiet } from "../support/open-links.ts";
import { type Certificate, makeCertificate } from "../support/tunnel-certificate.ts";

const [first, second, client] = [makeCertificate(), makeCertificate(), makeCertificate()];
if (first === undefined) console.warn("TLS is not tested: openssl is not installed");
const [one, two, three] = [first, second, client].map((made) =>
  made === undefined ? { cert: "", key: "" } : read(made),
) as [Pem, Pem, Pem];
afterAll(() => [first, second, client].forEach((made) => made?.remove()));

interface Pem {
  readonly cert: string;
  readonly key: string;
}

function read({ cert, key }: Certificate): Pem {
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}

const started: RunningServer[] = [];
afterEach(async () => {
  for (const server of started.splice(0)) await server.close(0);
});

async function serve(options: Partial<ServerOptions> = {}): Promise<RunningServer> {
  const handler: ServerOptions["handler"] = (call) => Promise.resolve(jsonReply(200, { path: call.path }));
  const server = await listen({ ...quiet, handler, tls: one, ...options });
  started.push(server);
  return server;
}

async function secure(port: number, options: object = {}): Promise<TLSSocket> {
  const socket = connect({ port, host: "127.0.0.1", ca: [one.cert, two.cert], ...options });
  await once(socket, "secureConnect");
  return socket;
}

/** The answer to a request over TLS, by one connection of its own. */
async function ask(port: number, options: object = {}): Promise<string> {
  const socket = await secure(port, options);
  let answer = "";
  socket.on("data", (bytes: Buffer) => (answer += bytes.toString()));
  socket.write("GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  await once(socket, "close");
  return answer;
}

describe.skipIf(first === undefined)("a server with a certificate", () => {
  test("answers over TLS", async () => {
    expect(await ask((await serve()).port)).toMatch(/^HTTP\/1\.1 200 .*"\/v1\/models"/s);
  });

  test("speaks nothing older than TLS 1.2", async () => {
    const { port } = await serve();
    // Without the level, the client itself would not offer it.
    const old = { maxVersion: "TLSv1.1", minVersion: "TLSv1", ciphers: "DEFAULT@SECLEVEL=0" };
    await expect(secure(port, old)).rejects.toThrow();
    expect((await secure(port, { maxVersion: "TLSv1.2" })).destroy().destroyed).toBe(true);
  });

  test("drops who does not speak TLS, and goes on", async () => {
    const { port } = await serve();
    for (const text of [
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      "nonsense",
      "\u0016\u0003\u0001\u0002\u0000garbage".repeat(100),
    ]) {
      const socket = connectTcp(port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.resume();
      socket.write(text, "latin1");
      await new Promise((resolve) => socket.on("close", resolve));
    }
    expect(await ask(port)).toContain("200");
  });

  test("does not wait for who never finishes the handshake", async () => {
    const { port } = await serve({ headersTimeout: 200 });
    const socket = connectTcp(port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.resume();
    await new Promise((resolve) => socket.on("close", resolve));
  });

  test("takes a new certificate for the connections from then on, and keeps the old one for what is none", async () => {
    const server = await serve();
    const before = await secure(server.port);
    server.renewTls(two.cert, two.key);
    const after = await secure(server.port);
    expect(after.getPeerCertificate().fingerprint256).not.toBe(before.getPeerCertificate().fingerprint256);
    expect(() => server.renewTls(one.cert, two.key)).toThrow();
    expect(() => server.renewTls("nonsense", one.key)).toThrow();
    const still = await secure(server.port);
    expect(still.getPeerCertificate().fingerprint256).toBe(after.getPeerCertificate().fingerprint256);
    before.write("GET /old HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(String((await once(before, "data"))[0])).toContain("/old");
    for (const socket of [before, after, still]) socket.destroy();
  });

  test("asks for a certificate of its clients' authority, and serves those without one all the same", async () => {
    const seen: (boolean | undefined)[] = [];
    const take = ({ socket }: Upgrade): void => {
      seen.push((socket as TLSSocket).authorized);
      socket.destroy();
    };
    const server = await serve({
      tls: { ...one, clientCa: three.cert },
      upgrades: new Map([["/tunnel", { takes: "everything", take }]]),
    });
    expect(await ask(server.port)).toContain("200");
    for (const files of [{}, three, two]) {
      const socket = await secure(server.port, files);
      socket.on("error", () => undefined);
      socket.write("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
      await new Promise((resolve) => socket.on("close", resolve));
    }
    expect(seen).toEqual([false, true, false]);
    server.renewTls(two.cert, two.key);
    const socket = await secure(server.port, three);
    socket.on("error", () => undefined);
    socket.write("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    await new Promise((resolve) => socket.on("close", resolve));
    expect(seen.at(-1)).toBe(true);
  });

  test("does not start with a key of another certificate", async () => {
    await expect(serve({ tls: { cert: one.cert, key: two.key } })).rejects.toThrow();
  });
});
