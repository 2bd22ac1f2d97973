import { isLoopback } from "../core/host-url.ts";
import type { Config } from "./schema.ts";

/** An address listened on. */
interface Address {
  readonly host: string;
  readonly port: number;
}

/** The second port would not do. */
export class SecondPortError extends Error {
  override readonly name = "SecondPortError";
}

/**
 * The ports beside its own on which a server answers (`ollama.listen`). Throws `SecondPortError` where it is its own, and
 * where one of the servers that it asks (`asked`, by name) is there: it would ask itself.
 */
export function secondPorts(
  { ollama: { listen: port } }: Pick<Config, "ollama">,
  { host, port: first }: Address,
  asked: Readonly<Record<string, { readonly urls: readonly string[] }>>,
): number[] {
  if (port === undefined) return [];
  if (port !== 0 && port === first)
    throw new SecondPortError(`ollama.listen is ${port}, which is the server's own port`);
  for (const [name, { urls }] of Object.entries(asked)) {
    const url = urls.find((one) => isHere(new URL(one), host, port));
    if (url !== undefined)
      throw new SecondPortError(
        `ollama.listen is ${port}, where ${name} is asked (${url}): this server would ask itself. Move one of the two (--ollama-port, or the urls of ${name}), or leave ${name} out (enabled: false in its entry)`,
      );
  }
  return [port];
}

function isHere(url: URL, host: string, port: number): boolean {
  const asked = Number(url.port || (url.protocol === "https:" ? 443 : 80));
  if (asked !== port || port === 0) return false;
  const name = url.hostname.replace(/^\[|\]$/g, "");
  const everywhere = host === "0.0.0.0" || host === "::";
  return name === host || (isLoopback(url.hostname) && (everywhere || isLoopback(host)));
}
