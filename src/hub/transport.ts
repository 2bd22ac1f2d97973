/** The head of a reply, and its body as it comes. */
export interface Reply {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: AsyncIterable<Uint8Array>;
}

/** Sends one GET and does not follow redirects. Throws when there is no reply. */
export type Get = (
  url: string,
  options: { readonly headers: Readonly<Record<string, string>>; readonly signal: AbortSignal },
) => Promise<Reply>;

/** A hub or a mirror did not do as asked; the message says what and what to do. */
export class HubError extends Error {}

const mostRedirects = 8;

/**
 * GET with redirects followed. What authenticates goes to the first origin only: hubs redirect to the signed addresses
 * of another host. Throws `HubError` for redirects without end or away from HTTPS.
 */
export async function follow(get: Get, url: string, options: Parameters<Get>[1]): Promise<Reply & { url: string }> {
  let at = url;
  let { headers } = options;
  for (let hop = 0; hop <= mostRedirects; hop++) {
    const reply = await get(at, { ...options, headers });
    const { location } = reply.headers;
    if (![301, 302, 303, 307, 308].includes(reply.status) || location === undefined) return { ...reply, url: at };
    await discard(reply);
    const next = new URL(location, at);
    if (next.protocol !== "https:" && new URL(at).protocol === "https:")
      throw new HubError(`${new URL(at).host} redirects to an address without TLS (${next.host}); nothing was fetched`);
    if (next.origin !== new URL(at).origin) {
      const { authorization: _, ...rest } = headers;
      headers = rest;
    }
    at = next.href;
  }
  throw new HubError(`${new URL(url).host} redirects without end`);
}

/** The body as text. Throws `HubError` beyond `limit` bytes. */
export async function readText(reply: Reply, limit: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of reply.body) {
    size += chunk.length;
    if (size > limit) throw new HubError(`an answer of more than ${limit} bytes was broken off`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function discard(reply: Reply): Promise<void> {
  // Leaving the loop closes the body.
  for await (const _ of reply.body) break;
}
