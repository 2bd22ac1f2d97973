import type { Config } from "../config/schema.ts";
import type { Server } from "./chat-client.ts";
import { UsageError } from "./command.ts";

/** The server of an address as clients write it, with or without `/v1`. Throws `UsageError`. */
export function toServer(text: string, key: string | undefined): Server {
  if (!/^https?:\/\/[^/]/i.test(text) || !URL.canParse(text))
    throw new UsageError(`--url wants an address such as http://127.0.0.1:18080, not ${JSON.stringify(text)}`);
  const { username, password } = new URL(text);
  if (username !== "" || password !== "")
    throw new UsageError("--url must not hold a user name or password; the server's key is LAIR_KEY");
  return { url: text.replace(/\/(v1\/?)?$/, ""), key };
}

/** Where the runtime of this machine answers by its configuration. */
export function ownUrl({ listen: { host, port } }: Config): string {
  const address = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
}
