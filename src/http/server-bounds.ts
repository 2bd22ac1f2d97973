import type { ServerOptions } from "./server.ts";

/** The part of a configuration that bounds what clients may do: milliseconds and bytes. */
interface Bounds {
  readonly timeouts: { readonly headers: number; readonly request: number; readonly keepAlive: number };
  readonly limits: { readonly body: number; readonly headers: number };
}

/** What a server is told of them. */
export function serverBounds({
  timeouts,
  limits,
}: Bounds): Pick<
  ServerOptions,
  "bodyLimit" | "headerLimit" | "headersTimeout" | "requestTimeout" | "keepAliveTimeout" | "stallTimeout"
> {
  return {
    bodyLimit: limits.body,
    headerLimit: limits.headers,
    headersTimeout: timeouts.headers,
    requestTimeout: timeouts.request,
    keepAliveTimeout: timeouts.keepAlive,
    stallTimeout: timeouts.request,
  };
}

/** Where a server that listens on the address is called: `http://[::1]:8081`. */
export function serverUrl({ host, port }: { readonly host: string; readonly port: number }, scheme = "http"): string {
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
