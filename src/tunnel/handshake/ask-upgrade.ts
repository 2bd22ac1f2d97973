import type { Socket } from "node:net";
import type { Headers } from "../../core/call.ts";
import { HttpResponse, readResponseHead } from "../../wire/http-response.ts";
import { type Answer, longestAnswer } from "./answer.ts";

/** The tunnel's own name as a protocol of `Upgrade`. */
export const upgradeProtocol = "lair-tunnel/1";

/**
 * Asks over an open, paused socket for the tunnel's protocol. Resolves with the bytes behind the head of a 101, or with
 * the answer when it is another; rejects when there is none, or a broken one. The socket is paused afterwards.
 */
export function askUpgrade(
  socket: Socket,
  request: { readonly path: string; readonly headers: Headers },
  signal: AbortSignal,
): Promise<Buffer | Answer> {
  return new Promise((resolve, reject) => {
    const asking = new Asking(socket, (outcome) => {
      signal.removeEventListener("abort", give);
      if (outcome instanceof Error) {
        socket.destroy();
        reject(outcome);
      } else resolve(outcome);
    });
    const give = (): void => asking.over(signal.reason as Error);
    if (signal.aborted) return give();
    signal.addEventListener("abort", give);
    const headers = { ...request.headers, connection: "Upgrade", upgrade: upgradeProtocol };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    asking.begin(`GET ${request.path} HTTP/1.1\r\n${lines.join("")}\r\n`);
  });
}

type Outcome = Buffer | Answer | Error;

class Asking {
  readonly #socket: Socket;
  readonly #tell: (outcome: Outcome) => void;
  #read = Buffer.alloc(0);
  #response: HttpResponse | undefined;
  #told = false;
  readonly #onData = (bytes: Buffer): void => this.#take(bytes);
  readonly #onGone = (): void => this.#gone();
  readonly #onError = (error: Error): void => this.over(error);

  constructor(socket: Socket, tell: (outcome: Outcome) => void) {
    this.#socket = socket;
    this.#tell = tell;
  }

  begin(request: string): void {
    const socket = this.#socket;
    socket.on("data", this.#onData);
    socket.on("end", this.#onGone);
    socket.on("close", this.#onGone);
    socket.on("error", this.#onError);
    socket.write(request, "latin1");
    socket.resume();
  }

  over(outcome: Outcome): void {
    if (this.#told) return;
    this.#told = true;
    const socket = this.#socket;
    socket.pause();
    socket.off("data", this.#onData);
    socket.off("end", this.#onGone);
    socket.off("close", this.#onGone);
    // Its own listener goes last: an error that nobody hears ends the process.
    if (outcome instanceof Error) socket.on("error", () => undefined);
    socket.off("error", this.#onError);
    this.#tell(outcome);
  }

  #take(bytes: Buffer): void {
    if (this.#response !== undefined) return this.#response.push(bytes);
    const read = Buffer.concat([this.#read, bytes]);
    this.#read = read;
    if (!looksLikeHttp(read)) return this.over(new NotHttp(read));
    const end = read.indexOf("\r\n\r\n");
    if (end > longestAnswer || (end === -1 && read.length > longestAnswer))
      return this.over(new Error("the head of the answer is longer than 16 KB"));
    if (end === -1) return;
    const head = readResponseHead(read.toString("latin1", 0, end));
    if (typeof head === "string") return this.over(new Error(`the answer is broken: ${head}`));
    if (head.status === 101) return this.#switched(head.headers, read.subarray(end + 4));
    this.#response = this.#gather();
    this.#response.push(read);
  }

  /** Reads an answer that is no 101, its body as far as is needed. */
  #gather(): HttpResponse {
    let answer: Answer | undefined;
    return new HttpResponse({
      onHead: (status, headers) => (answer = { status, headers, body: "" }),
      onBody: (piece) => {
        if (answer === undefined) return;
        answer = { ...answer, body: answer.body + piece.toString("latin1") };
        if (answer.body.length > longestAnswer) this.over(answer);
      },
      onEnd: () => this.over(answer as Answer),
      onBroken: (problem) => this.over(answer ?? new Error(`the answer is broken: ${problem}`)),
    });
  }

  #switched(headers: Headers, rest: Buffer): void {
    const { upgrade = "", connection = "" } = headers;
    if (upgrade.toLowerCase() === upgradeProtocol && /(^|,)\s*upgrade\s*(,|$)/i.test(connection)) this.over(rest);
    else this.over(new Error(`the answer switches to another protocol than asked for: ${upgrade.slice(0, 40)}`));
  }

  #gone(): void {
    if (this.#response !== undefined) this.#response.close();
    else this.over(Object.assign(new Error("the connection was closed without an answer"), { code: "ECONNRESET" }));
  }
}

/** What answers is no HTTP server. */
export class NotHttp extends Error {
  /** Whether it speaks TLS: its first bytes are an alert (RFC 8446, 5.1). */
  readonly tls: boolean;

  constructor(read: Buffer) {
    super("what answers there does not speak HTTP");
    this.tls = read[0] === 0x15 && read[1] === 3;
  }
}

function looksLikeHttp(read: Buffer): boolean {
  const expected = "HTTP/1.";
  const length = Math.min(read.length, expected.length);
  return read.toString("latin1", 0, length) === expected.slice(0, length);
}
