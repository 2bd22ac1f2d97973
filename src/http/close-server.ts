import type { Server, Socket } from "node:net";

/** A server of HTTP, and what it has open. */
interface OpenServer {
  readonly server: Server & { closeIdleConnections(): void; closeAllConnections(): void };
  readonly exchanges: { readonly roster: Calls; closing: boolean };
  readonly connected: ReadonlySet<Socket>;
  readonly upgraded: ReadonlySet<Socket>;
}

/** What is under way. */
interface Calls {
  readonly size: number;
  list(): readonly { abort(): void }[];
}

/** Stops accepting, lets calls under way finish for at most `grace` milliseconds, then cuts them. */
export async function closeServer(
  { server, exchanges, connected, upgraded }: OpenServer,
  grace: number,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let sweep: NodeJS.Timeout | undefined;
  exchanges.closing = true;
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    timer = setTimeout(() => {
      for (const exchange of exchanges.roster.list()) exchange.abort();
      server.closeAllConnections();
    }, grace);
    const look = (): void => {
      // Clients open connections ahead (fetch, browsers); to node they are not idle before their first request.
      for (const socket of connected) if (socket.bytesRead === 0) socket.destroy();
      // A client that keeps its connection open after its last answer must not hold us.
      server.closeIdleConnections();
      server.getConnections((_error, open) => {
        if (open <= upgraded.size && exchanges.roster.size === 0) resolve();
      });
    };
    sweep = setInterval(look, 100);
    look();
  });
  clearTimeout(timer);
  clearInterval(sweep);
}
