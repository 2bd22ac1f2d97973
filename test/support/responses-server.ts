import type { Call, Handler } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import type { Outcome } from "../../src/core/outcome.ts";
import { listen } from "../../src/http/server.ts";
import { admitted, ResponsesSockets, type ResponsesSocketSettings } from "../../src/responses/websocket.ts";
import { quiet } from "./open-links.ts";
import { openResponses, type ResponsesClient } from "./responses-socket.ts";

const closing: (() => Promise<unknown>)[] = [];

/** Ends what the test has started. */
export async function closeAll(): Promise<void> {
  for (const close of closing.splice(0).reverse()) await close();
}

export interface Asked {
  readonly body: JsonObject;
  readonly call: Call;
}

export interface Server {
  readonly url: string;
  readonly asked: Asked[];
  readonly sockets: ResponsesSockets;
  readonly outcomes: Outcome[];
  open(headers?: Record<string, string>): Promise<ResponsesClient>;
}

/** A server whose handler answers with these events, or as it likes. */
export async function serve(
  answer: (body: JsonObject, call: Call, turn: number) => ReturnType<Handler>,
  settings: Partial<ResponsesSocketSettings> = {},
): Promise<Server> {
  const asked: Asked[] = [];
  const outcomes: Outcome[] = [];
  const handler: Handler = async (call) => {
    const body = (call.body === null ? {} : await call.json()) as JsonObject;
    asked.push({ body, call });
    return answer(body, call, asked.length);
  };
  const sockets = new ResponsesSockets({
    handler,
    entrance: () => Promise.resolve(admitted),
    onOutcome: (_call, outcome) => outcomes.push(outcome),
    bodyLimit: 1 << 20,
    memory: 1 << 20,
    stallTimeout: 60_000,
    log: silent,
    ...settings,
  });
  const take = sockets.take.bind(sockets);
  const upgrades = new Map([["/v1/responses", { takes: "web-sockets" as const, take }]]);
  const server = await listen({ ...quiet, handler, upgrades });
  const url = `http://127.0.0.1:${server.port}`;
  closing.push(
    () => server.close(0),
    () => sockets.close(0),
  );
  const open = (headers: Record<string, string> = {}): Promise<ResponsesClient> => openResponses(url, headers);
  return { url, asked, sockets, outcomes, open };
}

export const output = (text: string): JsonObject => ({
  type: "message",
  id: "msg_1",
  role: "assistant",
  status: "completed",
  content: [{ type: "output_text", text, annotations: [] }],
});

/** The events of a response that says the text. */
export function eventsOf(id: string, text: string): JsonObject[] {
  const response = { id, object: "response", status: "in_progress", output: [], previous_response_id: null };
  return [
    { type: "response.created", response },
    { type: "response.output_text.delta", item_id: "msg_1", delta: text },
    { type: "response.completed", response: { ...response, status: "completed", output: [output(text)] } },
  ].map((event, index) => ({ ...event, sequence_number: index }));
}

export const encode = (events: readonly JsonObject[]): string =>
  events.map((event) => `event: ${String(event.type)}\ndata: ${JSON.stringify(event)}\n\n`).join("");

export const says = (id: string, text: string): Awaited<ReturnType<Handler>> => ({
  status: 200,
  headers: { "content-type": "text/event-stream" },
  body: encode(eventsOf(id, text)),
});
