import { readFileSync } from "node:fs";
import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import https, { type RequestOptions } from "node:https";
import { connect, type Socket } from "node:net";
import type { JsonObject } from "../../src/core/json.ts";

/** What came back. */
export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
  readonly text: string;
  /** Whether the answer ended as HTTP ends; false: the connection broke off. */
  readonly clean: boolean;
}

export interface Asking {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: JsonObject | Buffer | string;
  /** File of the certificate to trust, for https. */
  readonly ca?: string;
}

/** An answer under way. */
export interface Exchange {
  readonly status: number;
  readonly incoming: IncomingMessage;
  /** The first piece of the body whose text so far matches, or an error where it ends without. */
  until(pattern: RegExp): Promise<string>;
  /** The rest. */
  readonly answer: Promise<Answer>;
  leave(): void;
}

/** Sends a request on a connection of its own. */
function send(url: string, asking: Asking, onAnswer: (incoming: IncomingMessage) => void): ClientRequest {
  const { method = "POST", headers = {}, body, ca } = asking;
  const whole = body === undefined || Buffer.isBuffer(body) || typeof body === "string" ? body : JSON.stringify(body);
  const type = whole === undefined || Buffer.isBuffer(whole) ? {} : { "content-type": "application/json" };
  const length = method === "GET" ? {} : { "content-length": String(Buffer.byteLength(whole ?? "")) };
  const options: RequestOptions = { method, headers: { ...type, ...length, ...headers }, agent: false };
  const request =
    ca === undefined
      ? httpRequest(url, options, onAnswer)
      : https.request(url, { ...options, ca: readFileSync(ca) }, onAnswer);
  request.end(whole);
  return request;
}

/** Waits for the head of the answer. Rejects where none came. */
export function open(url: string, asking: Asking): Promise<Exchange> {
  return new Promise((resolve, reject) => {
    const request = send(url, asking, (incoming) => resolve(toExchange(incoming, () => request.destroy())));
    request.on("error", reject);
  });
}

/** A request and its whole answer. */
export async function ask(url: string, asking: Asking = {}): Promise<Answer> {
  const exchange = await open(url, asking);
  return exchange.answer;
}

export function get(url: string, headers: Record<string, string> = {}): Promise<Answer> {
  return ask(url, { method: "GET", headers });
}

/** A request that nobody answers for now; `over` settles with its answer, or with the error that ended it. */
export function openUnanswered(url: string, asking: Asking): { leave(): void; over: Promise<Answer | Error> } {
  let leave = (): void => undefined;
  const over = new Promise<Answer | Error>((resolve) => {
    const request = send(url, asking, (incoming) => resolve(toExchange(incoming, () => request.destroy()).answer));
    request.on("error", resolve);
    leave = () => void request.destroy();
  });
  return { leave: () => leave(), over };
}

function toExchange(incoming: IncomingMessage, leave: () => void): Exchange {
  const chunks: Buffer[] = [];
  const lookers = new Set<() => void>();
  const text = (): string => Buffer.concat(chunks).toString();
  const answer = new Promise<Answer>((resolve) => {
    incoming.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      for (const look of lookers) look();
    });
    // Told by "close" that follows.
    incoming.on("error", () => undefined);
    incoming.on("close", () => {
      resolve({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        body: Buffer.concat(chunks),
        text: text(),
        clean: incoming.complete,
      });
    });
  });
  const until = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const match = pattern.exec(text());
        if (match === null) return;
        lookers.delete(look);
        resolve(match[0]);
      };
      lookers.add(look);
      void answer.then(() => reject(new Error(`ended without ${String(pattern)}: ${text()}`)));
      look();
    });
  return { status: incoming.statusCode ?? 0, incoming, until, answer, leave };
}

/** Sends bytes as they are and gives everything that comes back until the other end closes. */
export function sendRaw(url: string, bytes: string | Buffer): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    let text = "";
    socket.on("data", (chunk) => (text += chunk.toString("latin1")));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(text));
    socket.write(bytes);
  });
}

/** A caller that sends a request and then reads nothing at all. */
export function openStalled(url: string, path: string, body: JsonObject, headers: Record<string, string> = {}): Socket {
  const { hostname, port, host } = new URL(url);
  const bytes = Buffer.from(JSON.stringify(body));
  const lines = Object.entries({
    host,
    "content-type": "application/json",
    "content-length": bytes.length,
    ...headers,
  });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined).pause();
  socket.write(`POST ${path} HTTP/1.1\r\n${head}\r\n`);
  socket.write(bytes);
  return socket;
}
