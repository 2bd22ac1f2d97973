import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** A wire between two programs that keeps what goes over it. */
export interface RecordedLine {
  readonly url: string;
  /** All bytes so far, in both directions. */
  bytes(): Buffer;
  close(): Promise<void>;
}

/** Listens in front of the server at this address, and passes everything on as it is. */
export async function recordedLine(target: string): Promise<RecordedLine> {
  const { hostname, port } = new URL(target);
  const pieces: Buffer[] = [];
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => undefined);
    socket.on("data", (piece: Buffer) => void pieces.push(piece));
  };
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
    keep(near);
    keep(far);
    near.pipe(far);
    far.pipe(near);
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytes: () => Buffer.concat(pieces),
    close: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}
