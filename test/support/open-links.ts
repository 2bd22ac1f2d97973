import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import type { Link } from "../../src/tunnel/links/link.ts";
import { socketLink } from "../../src/tunnel/links/socket-link.ts";
import { openWebSocket, linkAcceptor } from "../../src/tunnel/links/websocket-link.ts";
import { listen } from "../../src/http/server.ts";
import { silent } from "../../src/core/log.ts";
import { linkPair } from "./links.ts";
import type { Certificate } from "./tunnel-certificate.ts";

export interface OpenLinks {
  readonly one: Link;
  readonly other: Link;
  /** The socket below `one`, where there is any. */
  readonly socket?: Socket;
  /** Whether that can be reset, which node does not do under TLS. */
  readonly resets?: boolean;
  close(): Promise<void> | void;
}

export function openMemory(): Promise<OpenLinks> {
  const [one, other] = linkPair();
  return Promise.resolve({ one, other, close: () => one.destroy() });
}

export async function openTcp(): Promise<OpenLinks> {
  const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [accepted] = (await once(server, "connection")) as [Socket];
  return { ...pairOf(socket, accepted), resets: true, close: () => void server.close() };
}

export async function openTls({ cert, key }: Certificate): Promise<OpenLinks> {
  const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key), allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connectTls({
    port: (server.address() as AddressInfo).port,
    host: "127.0.0.1",
    ca: readFileSync(cert),
  });
  const [accepted] = (await once(server, "secureConnection")) as [Socket];
  return { ...pairOf(socket, accepted), close: () => void server.close() };
}

function pairOf(socket: Socket, accepted: Socket): { one: Link; other: Link; socket: Socket } {
  return { one: socketLink(socket), other: socketLink(accepted), socket };
}

export async function openWebSockets(): Promise<OpenLinks> {
  const accept = linkAcceptor({});
  let arrive!: (link: Link) => void;
  const arrived = new Promise<Link>((resolve) => (arrive = resolve));
  const server = await listen({
    ...quiet,
    upgrades: new Map([["/tunnel", { takes: "everything", take: (upgrade) => accept(upgrade, arrive) }]]),
  });
  const socket = connect(server.port, "127.0.0.1");
  await once(socket, "connect");
  const url = `ws://127.0.0.1:${server.port}/tunnel`;
  const one = (await openWebSocket(socket, { url, headers: {} }, new AbortController().signal)) as Link;
  return { one, other: await arrived, socket, close: () => server.close(0) };
}

/** Options of a server whose handler nobody should reach. */
export const quiet = {
  host: "127.0.0.1",
  port: 0,
  handler: () => Promise.resolve({ status: 404, headers: {}, body: "nobody asked" }),
  log: silent,
  bodyLimit: 1 << 20,
  headerLimit: 8192,
  headersTimeout: 10_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5000,
  stallTimeout: 60_000,
};

/** What a link has told, as a test waits for it. */
export class Heard {
  bytes = Buffer.alloc(0);
  drains = 0;
  closes = 0;
  error: Error | undefined;
  readonly closed: Promise<void>;
  #wake: () => void = () => undefined;
  #close!: () => void;
  readonly #link: Link;

  constructor(link: Link, options: { readonly onBytes?: (bytes: Buffer) => void } = {}) {
    this.#link = link;
    this.closed = new Promise((resolve) => (this.#close = resolve));
    link.start({
      onBytes: (bytes) => {
        this.bytes = Buffer.concat([this.bytes, bytes]);
        options.onBytes?.(bytes);
        this.#wake();
      },
      onDrain: () => {
        this.drains++;
        this.#wake();
      },
      onClose: (error) => {
        this.closes++;
        this.error = error;
        this.#close();
        this.#wake();
      },
    });
  }

  /** Resolves when the link has told enough. */
  async until(enough: () => boolean): Promise<void> {
    while (!enough()) {
      if (this.closes > 0) throw new Error(`the link of ${this.#link.remoteAddress} closed too early: ${this.error}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
