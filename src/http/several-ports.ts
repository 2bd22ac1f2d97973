import { listen, type RunningServer, type ServerOptions } from "./server.ts";

/**
 * Listens on the port of the options, and answers the same on further ones. What comes back tells of the first, and closes
 * all. Throws as `listen` does, with none left open.
 */
export async function listenOnSeveral(options: ServerOptions, further: readonly number[]): Promise<RunningServer> {
  const first = await listen(options);
  const servers = [first];
  const close = async (grace: number): Promise<void> => {
    await Promise.all(servers.map((server) => server.close(grace)));
  };
  try {
    for (const port of further) servers.push(await listen({ ...options, port }));
  } catch (error) {
    await close(0);
    throw error;
  }
  return {
    host: first.host,
    port: first.port,
    renewTls: (cert, key) => {
      for (const server of servers) server.renewTls(cert, key);
    },
    close,
  };
}
