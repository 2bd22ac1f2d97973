import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A line before a server on which lines of text are counted that go to the client. */
export interface CountingLine {
  readonly url: string;
  /** So many were there. */
  readonly count: number;
  /** Resolves when there were so many. */
  seen(count: number): Promise<void>;
  close(): Promise<void>;
}

/** Opens a line before the server; `pattern` is global, and of one line. */
export async function openCountingLine(url: string, pattern: RegExp): Promise<CountingLine> {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  const waiting: { count: number; resolve: () => void }[] = [];
  let seen = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    let text = "";
    upstream.setEncoding("latin1").on("data", (chunk: string) => {
      client.write(chunk, "latin1");
      text += chunk;
      const whole = text.slice(0, text.lastIndexOf("\n") + 1);
      text = text.slice(whole.length);
      seen += whole.match(pattern)?.length ?? 0;
      for (const { count, resolve } of waiting) if (seen >= count) resolve();
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
    get count() {
      return seen;
    },
    seen: (count) => new Promise((resolve) => waiting.push({ count, resolve })),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
