import { toIterable } from "../core/bytes.ts";
import type { Get } from "../hub/transport.ts";
import { HttpClient } from "./http-client.ts";

export interface PlainGetOptions {
  /** The HTTP proxy for an address. */
  readonly proxyFor: (url: string) => string | undefined;
  /** Milliseconds to connect, until a reply begins, and between two pieces of it. */
  readonly timeout: number;
}

/** A `Get` over connections of our own, one client for each origin; `close` cuts them. */
export function plainGet({ proxyFor, timeout }: PlainGetOptions): { readonly get: Get; close(): Promise<void> } {
  const clients = new Map<string, HttpClient>();
  const clientFor = (origin: string): HttpClient => {
    const known = clients.get(origin);
    if (known !== undefined) return known;
    const proxy = proxyFor(origin);
    const client = new HttpClient({ origin, connectTimeout: timeout, ...(proxy === undefined ? {} : { proxy }) });
    clients.set(origin, client);
    return client;
  };
  return {
    async get(url, { headers, signal }) {
      const { origin, pathname, search } = new URL(url);
      const request = { method: "GET", path: pathname + search, headers, body: null, signal } as const;
      const reply = await clientFor(origin).send({ ...request, firstByteTimeout: timeout, idleTimeout: timeout });
      return { status: reply.status, headers: reply.headers, body: toIterable(reply.body) };
    },
    close: async () => void (await Promise.all([...clients.values()].map((client) => client.close()))),
  };
}
