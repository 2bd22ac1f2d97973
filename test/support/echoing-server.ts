import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A server that says back whatever it was sent, where it can: in errors, in their heads, in redirections. */
export interface EchoingServer {
  readonly url: string;
  close(): Promise<void>;
}

/** By the model's name: what it does with a call. `fine` and all others are answered. */
export const echoingModels = [
  "fine",
  "echo-400",
  "echo-401",
  "echo-403",
  "echo-404",
  "echo-429",
  "echo-500",
  "echo-503",
  "echo-text",
  "redirect",
  "die",
  "die-late",
  "no-json",
] as const;

const head = { "content-type": "text/event-stream" };
const piece = (text: string): string =>
  `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model: "m", choices: [{ index: 0, delta: { content: text } }] })}\n\n`;
const whole = {
  id: "c",
  object: "chat.completion",
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: "hello" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
};

export async function startEchoingServer(): Promise<EchoingServer> {
  const server = createServer((request, reply) => {
    const pieces: Buffer[] = [];
    request.on("data", (chunk: Buffer) => pieces.push(chunk));
    request.on("end", () => answer(request, reply, Buffer.concat(pieces).toString()));
    reply.on("error", () => undefined);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function answer(request: IncomingMessage, reply: ServerResponse, body: string): void {
  const { url = "", headers, rawHeaders } = request;
  for (const [name, value] of Object.entries(headers)) reply.setHeader(`x-echo-${name}`, String(value));
  reply.setHeader("set-cookie", `echo=${encodeURIComponent(String(headers.authorization))}`);
  reply.setHeader("www-authenticate", `Bearer realm="${headers.authorization}"`);
  reply.setHeader("x-ratelimit-limit-requests", "7");
  reply.setHeader("access-control-allow-origin", "*");
  reply.setHeader("server", "echo/1");
  reply.setHeader("x-powered-by", "echo");
  if (url.startsWith("/v1/models")) {
    const data = echoingModels.map((id) => ({ id, object: "model", created: 1, owned_by: "echo" }));
    return void reply.setHeader("content-type", "application/json").end(JSON.stringify({ object: "list", data }));
  }
  const { model = "", stream = false } = parsed(body);
  const key = String(headers.authorization).replace(/^Bearer /, "");
  const said = `refused: ${request.method} ${url} ${rawHeaders.join(" ")} ${body}; incorrect API key provided: ${key} (${Buffer.from(key).toString("base64")}, ${encodeURIComponent(key)})`;
  const status = /^echo-(\d+)$/.exec(model)?.[1];
  if (status !== undefined)
    reply
      .writeHead(Number(status), { "content-type": "application/json" })
      .end(JSON.stringify({ error: { message: said, type: "x", code: key, param: key } }));
  else if (model === "echo-text") reply.writeHead(502, { "content-type": "text/html" }).end(said);
  else if (model === "redirect")
    reply
      .writeHead(307, {
        location: `http://${encodeURIComponent(key)}@elsewhere.example/?key=${encodeURIComponent(key)}`,
      })
      .end(said);
  else if (model === "die") reply.socket?.destroy();
  else if (model === "die-late") reply.writeHead(200, head).write(piece("half"), () => reply.socket?.destroy());
  else if (model === "no-json") reply.writeHead(200, { "content-type": "text/html" }).end("<html>");
  else if (stream) reply.writeHead(200, head).end(`${piece("hello")}data: [DONE]\n\n`);
  else reply.setHeader("content-type", "application/json").end(JSON.stringify(whole));
}

function parsed(body: string): { model?: string; stream?: boolean } {
  try {
    return JSON.parse(body) as { model?: string; stream?: boolean };
  } catch {
    return {};
  }
}
