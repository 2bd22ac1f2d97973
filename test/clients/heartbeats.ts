import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Dialect } from "./rows.ts";

/** A line before a server on which heartbeats are counted. */
export interface HeartbeatLine {
  readonly url: string;
  /** Resolves when so many heartbeats have gone to the client. */
  seen(count: number): Promise<void>;
  close(): Promise<void>;
}

/** How each dialect says that it is still there. */
const heartbeats: Readonly<Record<Exclude<Dialect, "ollama">, RegExp>> = {
  chat: /^: ping$/gm,
  responses: /^event: response\.in_progress$/gm,
  messages: /^event: ping$/gm,
};

/** Opens a line before the server. */
export async function openHeartbeatLine(url: string, dialect: keyof typeof heartbeats): Promise<HeartbeatLine> {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  const waiting: { count: number; resolve: () => void }[] = [];
  let beats = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    let text = "";
    upstream.setEncoding("latin1").on("data", (chunk: string) => {
      client.write(chunk, "latin1");
      text += chunk;
      const whole = text.slice(0, text.lastIndexOf("\n") + 1);
      text = text.slice(whole.length);
      beats += whole.match(heartbeats[dialect])?.length ?? 0;
      for (const { count, resolve } of waiting) if (beats >= count) resolve();
    });
    client.pipe(upstream);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: (count) => new Promise((resolve) => waiting.push({ count, resolve })),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
