import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

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

export function toOrigin(text: string): Origin {
  const url = new URL(text);
  const secure = url.protocol === "https:";
  const hostname = url.hostname.replace(/^\[|\]$/g, "");
  return { secure, hostname, port: Number(url.port) || (secure ? 443 : 80), host: url.host };
}

/** Opens a connection, through the proxy if there is one. `connectTimeout` in milliseconds is for all of it. */
export function connect(
  origin: Origin,
  options: { readonly connectTimeout: number; readonly proxy?: string },
): Connecting {
  const { proxy, connectTimeout } = options;
  let cancel = (): void => undefined;
  const ready = new Promise<Connected>((resolve, reject) => {
    const attempt = new Attempt(origin, resolve, reject);
    const timer = setTimeout(() => attempt.fail(withCode("connection timed out", "ETIMEDOUT")), connectTimeout);
    attempt.onOver = () => clearTimeout(timer);
    cancel = () => attempt.fail(withCode("given up", "ECANCELED"));
    if (proxy === undefined) attempt.direct();
    else attempt.through(proxy);
  });
  return { ready, pause() {}, resume() {}, destroy: () => cancel() };
}

class Attempt {
  onOver: () => void = () => undefined;
  readonly #origin: Origin;
  readonly #resolve: (connected: Connected) => void;
  readonly #reject: (error: Error) => void;
  #socket: Socket | undefined;
  #over = false;

  constructor(origin: Origin, resolve: (connected: Connected) => void, reject: (error: Error) => void) {
    this.#origin = origin;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  direct(): void {
    if (this.#origin.secure)
      this.#watch(
        connectTls({ ...this.#tls(), host: this.#origin.hostname, port: this.#origin.port }),
        "secureConnect",
      );
    else this.#plain();
  }

  /** Asks an HTTP proxy for a tunnel (CONNECT); TLS to the origin, if any, runs inside of it. */
  through(proxy: string): void {
    const url = new URL(proxy);
    const { secure, hostname, port } = toOrigin(proxy);
    const socket = secure
      ? connectTls({ host: hostname, port, servername: hostname, ALPNProtocols: ["http/1.1"] })
      : connectTcp({ host: hostname, port });
    this.#socket = socket;
    socket.once("error", (error) => this.fail(error));
    socket.once(secure ? "secureConnect" : "connect", () => {
      socket.write(connectRequest(this.#origin, url));
      awaitTunnel(socket, (problem) => {
        if (problem !== undefined) this.fail(withCode(`the proxy ${problem}`, "EPROXY"));
        else if (this.#origin.secure) this.#watch(connectTls({ ...this.#tls(), socket }), "secureConnect");
        else this.#done(socket);
      });
    });
  }

  fail(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.onOver();
    this.#socket?.destroy();
    this.#reject(error);
  }

  #tls(): { servername: string; ALPNProtocols: string[] } {
    // A name is checked against the certificate; for an address there is none to send.
    return {
      servername: /^[\d.]+$|:/.test(this.#origin.hostname) ? "" : this.#origin.hostname,
      ALPNProtocols: ["http/1.1"],
    };
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

  #watch(socket: Socket, ready: "secureConnect"): void {
    this.#socket = socket;
    socket.once("error", (error) => this.fail(error));
    socket.once(ready, () => this.#done(socket));
  }

  #done(socket: Socket): void {
    socket.setNoDelay(true);
    const connected: Connected = { socket, onBytes: () => undefined };
    socket.on("data", (bytes: Buffer) => connected.onBytes(bytes));
    this.#succeed(connected);
  }

  #succeed(connected: Connected): void {
    if (this.#over) return connected.socket.destroy() as unknown as void;
    this.#over = true;
    this.onOver();
    this.#resolve(connected);
  }
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
    if (status !== "200") over(status === undefined ? "does not speak HTTP" : `refused the connection (${status})`);
    else over(end + 4 === text.length ? undefined : "sent more than its answer");
  };
  socket.on("data", read);
  socket.on("end", ended);
}

function withCode(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}
