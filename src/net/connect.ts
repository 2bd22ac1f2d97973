import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, createSecureContext, type SecureContext } from "node:tls";

/** Where an origin is. */
export interface Origin {
  readonly secure: boolean;
  readonly hostname: string;
  readonly port: number;
  /** For the `Host` header: the port is left out where it is the scheme's own. */
  readonly host: string;
}

/** An open connection. What it reads goes to `onBytes`. */
export interface Connected {
  readonly socket: Socket;
  onBytes: (bytes: Buffer) => void;
}

export interface Connecting {
  /** Rejects with node's error, whose `code` tells why. */
  readonly ready: Promise<Connected>;
  pause(): void;
  resume(): void;
  /** Gives it up: `ready` rejects. */
  destroy(): void;
}

/** PEM texts: whom to trust instead of the system's authorities, and a certificate of one's own with its key. */
export interface ClientTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface SocketOptions {
  /** URL of an HTTP proxy; user and password in it are sent to it. */
  readonly proxy?: string;
  readonly tls?: ClientTls;
}

/** Node's error of a connection that did not come about. `atProxy`: on the way to the proxy, before it was asked. */
export type ConnectError = NodeJS.ErrnoException & { readonly atProxy?: boolean };

export function toOrigin(text: string): Origin {
  const url = new URL(text);
  const secure = url.protocol === "https:";
  const hostname = url.hostname.replace(/^\[|\]$/g, "");
  return { secure, hostname, port: Number(url.port) || (secure ? 443 : 80), host: url.host };
}

/**
 * Opens a connection to read from as one likes: the socket is paused and has no listener but for its errors. Rejects
 * with `ConnectError`, or with the signal's reason.
 */
export function connectSocket(origin: Origin, options: SocketOptions, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const attempt = new Attempt(origin, {
      resolve: ({ socket }) => resolve(socket),
      reject,
      tls: options.tls,
      bare: true,
    });
    const give = (): void => attempt.fail(signal.reason as Error);
    signal.addEventListener("abort", give);
    attempt.onOver = () => signal.removeEventListener("abort", give);
    attempt.begin(options.proxy);
  });
}

/** Opens a connection, through the proxy if there is one. `connectTimeout` in milliseconds is for all of it. */
export function connect(
  origin: Origin,
  options: { readonly connectTimeout: number; readonly proxy?: string },
): Connecting {
  const { proxy, connectTimeout } = options;
  let cancel = (): void => undefined;
  const ready = new Promise<Connected>((resolve, reject) => {
    const attempt = new Attempt(origin, { resolve, reject });
    const timer = setTimeout(() => attempt.fail(withCode("connection timed out", "ETIMEDOUT")), connectTimeout);
    attempt.onOver = () => clearTimeout(timer);
    cancel = () => attempt.fail(withCode("given up", "ECANCELED"));
    attempt.begin(proxy);
  });
  return { ready, pause() {}, resume() {}, destroy: () => cancel() };
}

interface AttemptOptions {
  readonly resolve: (connected: Connected) => void;
  readonly reject: (error: Error) => void;
  readonly tls?: ClientTls | undefined;
  /** Nothing is to read from the socket yet. */
  readonly bare?: boolean;
}

class Attempt {
  onOver: () => void = () => undefined;
  readonly #origin: Origin;
  readonly #options: AttemptOptions;
  #secureContext: SecureContext | undefined;
  #socket: Socket | undefined;
  #over = false;

  constructor(origin: Origin, options: AttemptOptions) {
    this.#origin = origin;
    this.#options = options;
  }

  begin(proxy: string | undefined): void {
    const { tls } = this.#options;
    try {
      if (tls !== undefined && this.#origin.secure) this.#secureContext = createSecureContext(tls);
      if (proxy === undefined) this.#direct();
      else this.#through(proxy);
    } catch (error) {
      this.fail(error as Error);
    }
  }

  #direct(): void {
    const { hostname: host, port } = this.#origin;
    if (this.#origin.secure) this.#watch(connectTls({ ...this.#tls(), port }));
    else if (this.#options.bare !== true) this.#plain();
    else {
      const socket = connectTcp({ host, port });
      this.#socket = socket;
      socket.once("error", (error) => this.fail(error));
      socket.once("connect", () => this.#done(socket));
    }
  }

  /** Asks an HTTP proxy for a tunnel (CONNECT); TLS to the origin, if any, runs inside of it. */
  #through(proxy: string): void {
    const url = new URL(proxy);
    const { secure, hostname, port } = toOrigin(proxy);
    const socket = secure
      ? connectTls({ host: hostname, port, servername: serverName(hostname), ALPNProtocols: ["http/1.1"] })
      : connectTcp({ host: hostname, port });
    this.#socket = socket;
    let asked = false;
    socket.once("error", (error) => this.fail(asked ? error : Object.assign(error, { atProxy: true })));
    socket.once(secure ? "secureConnect" : "connect", () => {
      asked = true;
      socket.write(connectRequest(this.#origin, url));
      awaitTunnel(socket, (problem) => {
        if (problem !== undefined) this.fail(withCode(`the proxy ${problem}`, "EPROXY"));
        else if (this.#origin.secure) this.#watch(connectTls({ ...this.#tls(), socket }));
        else this.#done(socket);
      });
    });
  }

  fail(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.onOver();
    this.#socket?.destroy();
    this.#options.reject(error);
  }

  #tls(): { host: string; servername: string; ALPNProtocols: string[]; secureContext?: SecureContext } {
    const { hostname: host } = this.#origin;
    // Without `host`, a certificate met inside of a proxy's tunnel would be compared with "localhost".
    const settings = { host, servername: serverName(host), ALPNProtocols: ["http/1.1"] };
    return this.#secureContext === undefined ? settings : { ...settings, secureContext: this.#secureContext };
  }

  /** Reads into one buffer of its own instead of a new one for each read, which costs the proxy path a microsecond or two. */
  #plain(): void {
    const connected: { socket: Socket; onBytes: (bytes: Buffer) => void } = {
      socket: undefined as never,
      onBytes: () => undefined,
    };
    const buffer = Buffer.allocUnsafeSlow(65_536);
    const socket = connectTcp({
      host: this.#origin.hostname,
      port: this.#origin.port,
      noDelay: true,
      onread: {
        buffer,
        callback: (length) => {
          // Copied, for readers keep pieces, and the next read overwrites the buffer.
          connected.onBytes(Buffer.from(buffer.subarray(0, length)));
          return true;
        },
      },
    });
    connected.socket = socket;
    this.#socket = socket;
    socket.once("error", (error) => this.fail(error));
    socket.once("connect", () => this.#succeed(connected));
  }

  #watch(socket: Socket): void {
    this.#socket = socket;
    socket.once("error", (error) => this.fail(error));
    socket.once("secureConnect", () => this.#done(socket));
  }

  #done(socket: Socket): void {
    socket.setNoDelay(true);
    const connected: Connected = { socket, onBytes: () => undefined };
    if (this.#options.bare === true) socket.pause();
    else socket.on("data", (bytes: Buffer) => connected.onBytes(bytes));
    this.#succeed(connected);
  }

  #succeed(connected: Connected): void {
    if (this.#over) return connected.socket.destroy() as unknown as void;
    this.#over = true;
    this.onOver();
    this.#options.resolve(connected);
  }
}

/** A name is checked against the certificate; for an address there is none to send. */
function serverName(hostname: string): string {
  return /^[\d.]+$|:/.test(hostname) ? "" : hostname;
}

function connectRequest({ hostname, port }: Origin, proxy: URL): string {
  const target = `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
  const user = decodeURIComponent(proxy.username);
  const credentials = Buffer.from(`${user}:${decodeURIComponent(proxy.password)}`).toString("base64");
  return `CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n${user === "" ? "" : `proxy-authorization: Basic ${credentials}\r\n`}\r\n`;
}

/** Reads the proxy's answer: undefined when the tunnel stands, else what the proxy did. */
function awaitTunnel(socket: Socket, tell: (problem: string | undefined) => void): void {
  let text = "";
  const over = (problem: string | undefined): void => {
    socket.off("data", read);
    socket.off("end", ended);
    tell(problem);
  };
  const ended = (): void => over("closed the connection");
  const read = (bytes: Buffer): void => {
    text += bytes.toString("latin1");
    const end = text.indexOf("\r\n\r\n");
    if (end === -1) return text.length > 16_384 ? over("sent a head without end") : undefined;
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1];
    if (status === undefined) over("does not speak HTTP");
    else if (status === "407") over("wants a user and a password, or others (407)");
    else if (!status.startsWith("2")) over(`refused the connection (${status})`);
    else over(end + 4 === text.length ? undefined : "sent more than its answer");
  };
  socket.on("data", read);
  socket.on("end", ended);
}

function withCode(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}
