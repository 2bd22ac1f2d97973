import { isLoopback } from "../../core/host-url.ts";
import type { Environment } from "../../config/environment.ts";
import { loadConfig } from "../../config/load.ts";
import { ChatError, findCard, listCards, type Server } from "../chat-client.ts";
import { type Options, plainText, type ReadFlags } from "../command.ts";
import { ownUrl, toServer } from "../server-address.ts";
import { ClientError, keyVariable } from "./client.ts";
import { type OfferedModel, toOfferedModels } from "./offered-models.ts";

/** A server that clients are to use. */
export interface ClientServer extends Server {
  /** Whether it is the one of this machine's configuration, rather than one that was named. */
  readonly own: boolean;
  /** What its user should know of how it was named. */
  readonly warnings: readonly string[];
}

/** The flags that name a server. */
export const serverFlags = {
  url: { type: "string" },
  key: { type: "string" },
  config: { type: "string", short: "c" },
  set: { type: "string", multiple: true },
} as const satisfies Options;

/** The lines of `--help` for them. */
export const serverFlagLines = `      --url <address>        another server: a runtime, relay or gateway, e.g. https://lair.example.com
      --key <key>            its key; better in the variable ${keyVariable}, which nobody else on this machine can read
  -c, --config <file>        the configuration that says where lair serve listens here
      --set <path=value>     one setting of it`;

/** The server that the flags name; else the runtime of this machine. Throws `UsageError` and `ConfigError`. */
export async function findServer({ flags }: Pick<ReadFlags, "flags">, env: Environment): Promise<ClientServer> {
  const { url, key: flagged, config: file, set } = flags;
  const given = env[keyVariable]?.trim() || undefined;
  const warnings: string[] = [];
  if (typeof flagged === "string") {
    warnings.push(
      `--key can be seen by every user of this machine, in the list of its processes; ${keyVariable} cannot`,
    );
    // Overwrites the arguments where the system shows those of the process.
    process.title = "lair";
  }
  const key = typeof flagged === "string" ? flagged : undefined;
  if (typeof url === "string") {
    const server = toServer(url, key ?? given);
    const { protocol, hostname } = new URL(server.url);
    if (protocol === "http:" && !isLoopback(hostname) && server.key !== undefined)
      warnings.push(`${server.url} has no TLS: the key and every prompt can be read on the way`);
    return { ...server, own: false, warnings };
  }
  const picked = { ...(file === undefined ? {} : { config: file }), ...(set === undefined ? {} : { set }) };
  const { config } = await loadConfig({ flags: picked, env });
  return { url: ownUrl(config), key: key ?? config.auth.keys[0] ?? given, own: true, warnings };
}

/** The models that can be chatted with; one that is named and not listed, such as an alias, among them. Throws `ClientError` with what to do. */
export async function askModels(server: ClientServer, wanted: string | undefined): Promise<OfferedModel[]> {
  const signal = AbortSignal.timeout(30_000);
  try {
    const models = toOfferedModels(await listCards(server, signal));
    if (wanted === undefined || models.some(({ id }) => id === wanted)) return models;
    const alias = await findCard(server, wanted, signal).catch(() => ({}));
    return [...models, ...toOfferedModels([alias]).filter(({ id }) => id === wanted)];
  } catch (error) {
    if (signal.aborted) throw new ClientError(`${server.url} does not list its models within 30 s`);
    if (!(error instanceof ChatError)) throw error;
    throw new ClientError(unansweredText(server, plainText(error.message)));
  }
}

function unansweredText({ url, key, own }: ClientServer, problem: string): string {
  if (/does not answer/.test(problem) && own)
    return [
      `no lair serve answers at ${url}. Start it in another terminal, and leave it running:`,
      "  lair serve",
      "or say where one listens: --url http://127.0.0.1:PORT, --url https://lair.example.com",
    ].join("\n");
  if (/\bkey\b/i.test(problem))
    return `${problem}\n${key === undefined ? `Set ${keyVariable} to a key of ${url}.` : `The key that was sent is not one of ${url}; ${keyVariable} or --key gives another.`}`;
  return problem;
}
