import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { once } from "node:events";
import type { AccessSettings } from "../../src/access/access.ts";
import type { Handler } from "../../src/core/call.ts";
import type { Log } from "../../src/core/log.ts";
import { listen } from "../../src/http/server.ts";
import { accessLog } from "../../src/pipeline/access-log.ts";
import { compose } from "../../src/pipeline/compose.ts";
import { entrance } from "../../src/pipeline/entrance.ts";
import { forwarder } from "../../src/providers/forward.ts";

export interface AccessServer {
  readonly url: string;
  readonly port: number;
  /** Each request as the server behind has got it: its line, all its headers, and its body. */
  readonly arrived: string[];
  /** Every line of the log, the access log's too, as JSON. */
  readonly lines: string[];
  close(): Promise<void>;
}

/** A real server with `access` in front of one that takes whatever it is sent, both on ports of their own. */
export async function startAccessServer(
  settings: Partial<AccessSettings>,
  around: (handler: Handler) => Handler = (handler) => handler,
): Promise<AccessServer> {
  const arrived: string[] = [];
  const lines: string[] = [];
  const behind = createServer((request, reply) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      arrived.push(
        [`${request.method} ${request.url}`, ...request.rawHeaders, Buffer.concat(pieces).toString("latin1")].join(
          "\n",
        ),
      );
      reply.setHeader("content-type", "application/json").end('{"object":"list","data":[{"id":"a"},{"id":"b"}]}');
    });
  });
  behind.listen(0, "127.0.0.1");
  await once(behind, "listening");
  const url = `http://127.0.0.1:${(behind.address() as AddressInfo).port}`;
  const limits = { connectTimeout: 5000, firstByteTimeout: 5000, idleTimeout: 5000 };
  const forward = forwarder({ url }, limits);
  const write = (fields: object, message: string): void => void lines.push(JSON.stringify({ ...fields, message }));
  const log: Log = { debug: write, info: write, warn: write, error: write };
  const access: AccessSettings = { tokens: [], adminTokens: [], callerLimits: {}, log, ...settings };
  const guarded = { hosts: [], cors: { origins: [] } };
  const server = await listen({
    host: "127.0.0.1",
    port: 0,
    handler: compose(entrance(guarded, { listenHost: "127.0.0.1", access }), around(forward.handle)),
    log,
    onOutcome: accessLog(log),
    bodyLimit: 64 * 1024 * 1024,
    headerLimit: 64 * 1024,
    headersTimeout: 5000,
    requestTimeout: 5000,
    keepAliveTimeout: 5000,
    stallTimeout: 5000,
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    port: server.port,
    arrived,
    lines,
    close: async () => {
      await server.close(0);
      await forward.close();
      behind.closeAllConnections();
      behind.close();
    },
  };
}

/** Sends these bytes on a connection of their own, and returns all that comes back until it is closed. */
export async function sendRaw(port: number, text: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.write(text, "latin1");
  let answer = "";
  socket.setEncoding("latin1").on("data", (piece: string) => (answer += piece));
  await once(socket, "close");
  return answer;
}
