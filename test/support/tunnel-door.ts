import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { AgentIdentity } from "../../src/core/agent-identity.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { Log } from "../../src/core/log.ts";
import type { Upgrade } from "../../src/core/upgrade.ts";
import { listen, type RunningServer, type ServerOptions } from "../../src/http/server.ts";
import { dial, type Dialled, type DialOptions } from "../../src/tunnel/handshake/dial.ts";
import { type Arrival, type DoorSettings, tunnelDoor } from "../../src/tunnel/handshake/door.ts";
import { Heard, quiet } from "./open-links.ts";

export const goodKey = "lla_home_0123456789abcdef";

/** A server with a door that knows one key, and every arrival at it. */
export interface DoorServer extends RunningServer {
  readonly url: string;
  readonly arrivals: Arrival[];
  readonly logged: { readonly fields: object; readonly message: string }[];
  /** What is said through a link comes back. */
  echo(): void;
  /** Sockets that were given to the door and are open. */
  readonly sockets: ReadonlySet<Socket>;
  stop(): Promise<void>;
}

export async function startDoor(
  settings: Partial<DoorSettings> = {},
  options: Partial<ServerOptions> = {},
): Promise<DoorServer> {
  const arrivals: Arrival[] = [];
  const logged: DoorServer["logged"] = [];
  const sockets = new Set<Socket>();
  const note = (fields: object, message: string): void => void logged.push({ fields, message });
  const log: Log = { debug() {}, info: note, warn: note, error: note };
  let echoes = false;
  const door = tunnelDoor({
    authenticate,
    admit: (arrival) => {
      arrivals.push(arrival);
      if (echoes) new Heard(arrival.link, { onBytes: (bytes) => arrival.link.write(bytes) });
    },
    relayVersion: "1.2.3",
    log,
    requireClientCertificate: false,
    ...settings,
  });
  const take = (upgrade: Upgrade): void => {
    sockets.add(upgrade.socket);
    upgrade.socket.on("close", () => sockets.delete(upgrade.socket));
    door(upgrade);
  };
  const server = await listen({
    ...quiet,
    ...options,
    upgrades: new Map([["/tunnel", { takes: "everything", take }]]),
  });
  return {
    ...server,
    url: `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${server.port}`,
    arrivals,
    logged,
    sockets,
    echo: () => (echoes = true),
    async stop() {
      for (const { link } of arrivals) link.destroy();
      await server.close(0);
      for (const socket of sockets) socket.destroy();
    },
  };
}

function authenticate(
  key: string | undefined,
  from: { name: string | undefined; trusted: boolean },
): AgentIdentity | ApiError {
  if (key === goodKey) return { name: "home", keyId: "k1", refusal: () => undefined };
  if (key === undefined && from.trusted && from.name !== undefined)
    return { name: from.name, keyId: undefined, refusal: () => undefined };
  if (key === "lla_home_revoked") return new ApiError("invalid_api_key", "the key was revoked");
  if (key === "lla_taken_0123456789") return new ApiError("insufficient_scope", "the name is in use");
  return new ApiError("invalid_api_key", "there is no such key");
}

/** Dials as an agent named home would, unless told otherwise. */
export function dialAs(
  relay: string,
  options: Partial<DialOptions> = {},
  signal = new AbortController().signal,
): Promise<Dialled> {
  return dial(
    {
      relay,
      key: goodKey,
      instance: "instance-1",
      version: "0.9.0",
      transport: "auto",
      connectTimeout: 10_000,
      ...options,
    },
    signal,
  );
}

export interface ConnectProxy {
  readonly url: string;
  /** What it was asked for, as `host:port`. */
  readonly asked: string[];
  close(): void;
}

/** An HTTP proxy that lets CONNECT through to whoever shows the credentials, always to this machine. */
export async function startConnectProxy(
  credentials?: string,
  make: (take: (socket: Socket) => void) => Server = createServer,
): Promise<ConnectProxy> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const wanted = credentials === undefined ? undefined : Buffer.from(credentials).toString("base64");
  const server = make((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    let read = "";
    socket.on("data", function take(bytes: Buffer) {
      read += bytes.toString("latin1");
      if (!read.includes("\r\n\r\n")) return;
      socket.off("data", take);
      const target = /^CONNECT ([^ ]+):(\d+) HTTP/.exec(read);
      if (wanted !== undefined && !read.includes(`proxy-authorization: Basic ${wanted}\r\n`))
        return void socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n");
      if (target === null) return void socket.end("HTTP/1.1 405 No\r\n\r\n");
      asked.push(`${target[1]}:${target[2]}`);
      const upstream = connect(Number(target[2]), "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        socket.pipe(upstream).pipe(socket);
      });
      sockets.add(upstream);
      upstream.on("error", () => socket.destroy());
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    asked,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
