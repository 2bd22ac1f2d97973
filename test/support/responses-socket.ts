import { once } from "node:events";
import { WebSocket } from "ws";
import type { JsonObject } from "../../src/core/json.ts";

/** A client of the WebSocket transport of the Responses API. */
export class ResponsesClient {
  readonly webSocket: WebSocket;
  /** All messages in order, none taken away. */
  readonly messages: JsonObject[] = [];
  readonly #lookers = new Set<() => void>();
  /** Code and reason of the end; undefined while it is open. */
  end: { readonly code: number; readonly reason: string } | undefined;
  #read = 0;

  constructor(webSocket: WebSocket) {
    this.webSocket = webSocket;
    webSocket.on("message", (data) => {
      this.messages.push(JSON.parse((data as Buffer).toString()) as JsonObject);
      this.#look();
    });
    webSocket.on("error", () => undefined);
    webSocket.on("close", (code, reason) => {
      this.end = { code, reason: reason.toString() };
      this.#look();
    });
  }

  create(body: JsonObject): void {
    this.webSocket.send(JSON.stringify({ type: "response.create", ...body }));
  }

  /** The messages from the last ones that were read on to the next that ends an answer. */
  async answer(): Promise<JsonObject[]> {
    await this.until(() => this.messages.slice(this.#read).some(isLast) || this.end !== undefined);
    const rest = this.messages.slice(this.#read);
    const taken = rest.slice(0, rest.findIndex(isLast) + 1);
    this.#read += taken.length;
    return taken;
  }

  /** The same for a message that is sent now. */
  ask(body: JsonObject): Promise<JsonObject[]> {
    this.create(body);
    return this.answer();
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.#lookers.add(resolve));
  }

  async closed(): Promise<{ readonly code: number; readonly reason: string }> {
    await this.until(() => this.end !== undefined);
    return this.end as { code: number; reason: string };
  }

  #look(): void {
    const lookers = [...this.#lookers];
    this.#lookers.clear();
    for (const look of lookers) look();
  }
}

const ends = new Set(["response.completed", "response.incomplete", "response.failed", "error"]);

function isLast({ type }: JsonObject): boolean {
  return ends.has(type as string);
}

/** A connection to a server at `url`; rejects with `{status, body}` where it refuses. */
export async function openResponses(
  url: string,
  headers: Record<string, string> = {},
  search = "",
): Promise<ResponsesClient> {
  const webSocket = new WebSocket(`${url.replace(/^http/, "ws")}/v1/responses${search}`, {
    headers,
    rejectUnauthorized: false,
  });
  const client = new ResponsesClient(webSocket);
  const refused = new Promise<never>((_resolve, reject) => {
    webSocket.on("unexpected-response", (_request, response) => {
      const pieces: Buffer[] = [];
      response.on("data", (piece: Buffer) => pieces.push(piece));
      response.on("end", () => {
        const body = Buffer.concat(pieces).toString();
        reject(
          Object.assign(new Error(`refused with ${response.statusCode}`), {
            status: response.statusCode,
            body,
            headers: response.headers,
          }),
        );
      });
    });
    webSocket.on("error", reject);
  });
  await Promise.race([once(webSocket, "open"), refused]);
  return client;
}

/** The text that an answer's deltas say. */
export function textOf(events: readonly JsonObject[]): string {
  return events
    .filter(({ type }) => type === "response.output_text.delta")
    .map(({ delta }) => String(delta))
    .join("");
}

/** The response of an answer's last event. */
export function responseOf(events: readonly JsonObject[]): JsonObject {
  return events.at(-1)?.response as JsonObject;
}
