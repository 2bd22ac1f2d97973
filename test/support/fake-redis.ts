import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

/** A server that speaks Redis's protocol and says what a test tells it to. */
export interface FakeRedis {
  readonly url: string;
  close(): Promise<void>;
}

/** `answer` gets each command, its name in capitals, and answers as on the wire, e.g. `+OK\r\n`. */
export async function startFakeRedis(answer: (command: readonly string[]) => string): Promise<FakeRedis> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => socket.destroy());
    let waiting = "";
    socket.setEncoding("latin1").on("data", (text: string) => {
      waiting += text;
      for (let read = readCommand(waiting); read !== undefined; read = readCommand(waiting)) {
        waiting = read.rest;
        socket.write(answer(read.command));
      }
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `redis://:planted-secret@127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** A text as a reply. */
export function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}

function readCommand(text: string): { command: string[]; rest: string } | undefined {
  const [, count] = /^\*(\d+)\r\n/.exec(text) ?? [];
  if (count === undefined) return undefined;
  let position = text.indexOf("\n") + 1;
  const command: string[] = [];
  while (command.length < Number(count)) {
    const end = text.indexOf("\r\n", position);
    if (end === -1) return undefined;
    const start = end + 2;
    const length = Number(text.slice(position + 1, end));
    if (text.length < start + length + 2) return undefined;
    command.push(text.slice(start, start + length));
    position = start + length + 2;
  }
  command[0] = command[0]!.toUpperCase();
  return { command, rest: text.slice(position) };
}
