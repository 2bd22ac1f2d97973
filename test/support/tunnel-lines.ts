import { once } from "node:events";
import {
  createServer as createHttpServer,
  type IncomingMessage,
  request as httpRequest,
  type Server as HttpServer,
} from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";

/** Something that stands between two ends of a connection, on a port of its own. */
export interface Line {
  readonly url: string;
  /** Connections that it has carried so far. */
  readonly connections: () => number;
  close(): Promise<void>;
}

/** A line that a test can break. */
export interface CutLine extends Line {
  /** Nothing more goes through, in either direction, and nobody is told, as when a laptop sleeps or a NAT forgets. */
  freeze(): void;
  /** Every connection breaks; new ones are carried. */
  cut(): void;
  /** Both ends are told that nothing more comes (FIN), and nothing else: half-open connections. */
  finish(): void;
  /** As `cut`, and new connections are closed at once. */
  refuse(): void;
  /** New connections are carried again. */
  mend(): void;
}

/** A line to the server at that address, which it carries bytes to and fro. */
export async function startCutLine(target: string): Promise<CutLine> {
  const { hostname, port } = new URL(target);
  const pairs = new Set<[Socket, Socket]>();
  let [refused, connections] = [false, 0];
  const server = createServer({ allowHalfOpen: true }, (near) => {
    near.on("error", () => undefined);
    if (refused) return void near.destroy();
    connections++;
    const far = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    far.on("error", () => near.destroy());
    near.on("close", () => far.destroy());
    far.on("close", () => {
      near.destroy();
      pairs.delete(pair);
    });
    near.pipe(far);
    far.pipe(near);
  });
  const cut = (): void => {
    for (const [near, far] of pairs) {
      near.destroy();
      far.destroy();
    }
  };
  return {
    url: await listenOn(server),
    connections: () => connections,
    cut,
    freeze() {
      for (const [near, far] of pairs) {
        near.unpipe(far).pause();
        far.unpipe(near).pause();
      }
    },
    finish() {
      for (const [near, far] of pairs) {
        near.unpipe(far).resume().end();
        far.unpipe(near).resume().end();
      }
    },
    refuse() {
      refused = true;
      cut();
    },
    mend: () => (refused = false),
    async close() {
      refused = true;
      cut();
      await closeServer(server);
    },
  };
}

/** Most bytes on their way in one direction of a slow line: more than 50 ms of a gigabit line. */
const mostInFlight = 16 * 1024 * 1024;

/** A long line to the server at that address: whatever goes in comes out half a round trip later. In milliseconds. */
export async function startSlowLine(target: string, roundTrip = 50): Promise<Line> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    connections++;
    const far = connect({ port: Number(port), host: hostname, allowHalfOpen: true, noDelay: true });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
    }
    delay(near, far, roundTrip / 2);
    delay(far, near, roundTrip / 2);
  });
  return {
    url: await listenOn(server),
    connections: () => connections,
    async close() {
      for (const socket of sockets) socket.destroy();
      await closeServer(server);
    },
  };
}

/** One direction: in order, as timers of one length fire in the order they were set. */
function delay(from: Socket, to: Socket, milliseconds: number): void {
  let inFlight = 0;
  from.on("data", (chunk: Buffer) => {
    inFlight += chunk.length;
    if (inFlight > mostInFlight) from.pause();
    setTimeout(() => {
      inFlight -= chunk.length;
      const room = to.destroyed || to.write(chunk);
      if (room && inFlight <= mostInFlight) from.resume();
      else if (!room) {
        from.pause();
        to.once("drain", () => from.resume());
      }
    }, milliseconds);
  });
  from.on("end", () => setTimeout(() => to.end(), milliseconds));
  from.on("close", () => setTimeout(() => to.destroy(), milliseconds));
}

/**
 * A front as a CDN is one: it carries plain requests and WebSockets; of any other upgrade it drops the header, as
 * hop-by-hop headers may be, or answers with `refusal` itself.
 */
export async function startWebSocketFront(target: string, refusal?: number): Promise<Line & { upgrades: string[] }> {
  const { hostname, port } = new URL(target);
  const upgrades: string[] = [];
  const sockets = new Set<Duplex>();
  const server = createHttpServer((request, reply) => {
    const { upgrade: _upgrade, connection: _connection, ...headers } = request.headers;
    const inner = httpRequest({ hostname, port, method: request.method, path: request.url, headers }, (answer) => {
      reply.writeHead(answer.statusCode ?? 502, answer.headers).flushHeaders();
      answer.pipe(reply);
    });
    inner.on("error", () => reply.destroy());
    reply.on("close", () => inner.destroy());
    request.pipe(inner);
  });
  let connections = 0;
  server.on("connection", () => connections++);
  server.on("upgrade", (request: IncomingMessage, near: Socket, head: Buffer) => {
    const wanted = (request.headers.upgrade ?? "").toLowerCase();
    upgrades.push(wanted);
    near.on("error", () => undefined);
    if (wanted !== "websocket" && refusal !== undefined)
      return void near.end(`HTTP/1.1 ${refusal} no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
    const far = connect(Number(port), hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket)).on("error", () => undefined);
    }
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
    const dropped = wanted === "websocket" ? [] : ["upgrade", "connection"];
    far.write(`${request.method} ${request.url} HTTP/1.1\r\n${rawHeaders(request, dropped)}\r\n`);
    far.write(head);
    near.pipe(far).pipe(near);
  });
  const url = await listenOn(server);
  return {
    url,
    upgrades,
    connections: () => connections,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await closeServer(server);
    },
  };
}

function rawHeaders({ rawHeaders: raw }: IncomingMessage, dropped: readonly string[]): string {
  let text = "";
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] as string;
    if (!dropped.includes(name.toLowerCase())) text += `${name}: ${raw[index + 1]}\r\n`;
  }
  return dropped.length > 0 ? `${text}Connection: close\r\n` : text;
}

/**
 * A proxy of the kind that `HTTPS_PROXY` names, which knows nothing but CONNECT; `targets` are those it was asked for.
 * Every host name is this machine's to it.
 */
export async function startConnectProxy(): Promise<Line & { targets: string[] }> {
  const targets: string[] = [];
  const sockets = new Set<Duplex>();
  const server = createHttpServer((_request, reply) => void reply.writeHead(405).end());
  server.on("connect", (request: IncomingMessage, near: Socket, head: Buffer) => {
    targets.push(request.url ?? "");
    const [, port = ""] = (request.url ?? "").split(":");
    const far = connect(Number(port), "127.0.0.1", () => {
      near.write("HTTP/1.1 200 Connection established\r\n\r\n");
      far.write(head);
      near.pipe(far).pipe(near);
    });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket)).on("error", () => undefined);
    }
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
  });
  return {
    url: await listenOn(server),
    targets,
    connections: () => targets.length,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await closeServer(server);
    },
  };
}

/** A port that was free a moment ago, for programs that cannot be asked for any. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const url = await listenOn(server);
  await closeServer(server);
  return Number(new URL(url).port);
}

async function listenOn(server: Server | HttpServer): Promise<string> {
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function closeServer(server: Server | HttpServer): Promise<unknown> {
  return new Promise((resolve) => server.close(resolve));
}
