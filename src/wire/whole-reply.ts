import type { Reply } from "../core/call.ts";

/**
 * A short reply as the bytes (latin1) of an HTTP/1.1 response after which the connection ends: for sockets that no HTTP
 * server answers on any more. `reason`: the word behind the status.
 */
export function encodeWholeReply({ status, headers, body }: Reply, reason: string): string {
  const text = typeof body === "string" ? Buffer.from(body).toString("latin1") : "";
  const all = {
    ...headers,
    "x-content-type-options": "nosniff",
    "content-length": String(text.length),
    connection: "close",
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${reason}\r\n${lines.join("")}\r\n${text}`;
}
