import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { JsonObject } from "../../src/core/json.ts";

/** A server that lists models, each also under the names of its `aliases`, to callers with the key. */
export interface CardsServer {
  readonly url: string;
  close(): Promise<void>;
}

export async function startCardsServer(cards: readonly JsonObject[], key?: string): Promise<CardsServer> {
  const server = createServer((request, reply) => {
    const send = (status: number, body: JsonObject): void => {
      reply.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    if (key !== undefined && request.headers.authorization !== `Bearer ${key}`)
      return send(401, { error: { message: "this server wants a key", type: "invalid_request_error" } });
    if (request.url === "/v1/models") return send(200, { object: "list", data: [...cards] });
    const name = decodeURIComponent((request.url ?? "").replace("/v1/models/", ""));
    const card = cards.find(({ aliases }) => Array.isArray(aliases) && aliases.includes(name));
    return card === undefined ? send(404, { error: { message: "no such model" } }) : send(200, { ...card, id: name });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}
