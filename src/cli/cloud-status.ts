import { readFileSync } from "node:fs";
import { X509Certificate } from "node:crypto";
import type { AgentConnectionState, AgentState } from "../core/agent-state.ts";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { formatDuration } from "../config/units.ts";
import { isObject, type Json } from "../core/json.ts";
import { toColumns } from "./columns.ts";
import { exitCodes, plainText, type ReadFlags, type Terminal, UsageError } from "./command.ts";

/** The relay did not tell; the message is for the user. */
class StatusError extends Error {}

/** Milliseconds that a relay has to answer. */
const patience = 5000;

/** `lair cloud status`: the agents of a relay that runs. */
export async function showStatus({ words, flags }: ReadFlags, terminal: Terminal): Promise<number> {
  if (words.length > 0) throw new UsageError(`status takes flags only, not ${JSON.stringify(words[0])}`);
  const { json, url, ...settings } = flags;
  const { config } = await loadConfig({ flags: settings, command: "cloud", env: terminal.env });
  const relay = typeof url === "string" ? readUrl(url) : ownUrl(config);
  let agents: AgentState[];
  try {
    agents = await ask(relay, config.auth.admin[0] ?? config.auth.keys[0]);
  } catch (error) {
    terminal.complain(`lair cloud status: ${error instanceof Error ? error.message : String(error)}`);
    return exitCodes.failed;
  }
  if (json === true) terminal.print(JSON.stringify({ url: relay, agents }, null, 2));
  else for (const line of statusLines(relay, agents, Date.now())) terminal.print(plainText(line));
  return exitCodes.done;
}

function readUrl(text: string): string {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text))
    throw new UsageError(`--url wants an address such as https://relay.example:8081, not ${JSON.stringify(text)}`);
  return text.replace(/\/(v1\/?)?$/, "");
}

/** Where the relay of this configuration is. Its certificate says by which name it wants to be called. */
function ownUrl({ relay }: Config): string {
  const listened = { "0.0.0.0": "127.0.0.1", "::": "::1" }[relay.host] ?? relay.host;
  const host = (relay.tls.cert === undefined ? undefined : certificateName(relay.tls.cert)) ?? listened;
  const scheme = relay.tls.cert === undefined ? "http" : "https";
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${relay.port}`;
}

function certificateName(path: string): string | undefined {
  try {
    const { subjectAltName = "" } = new X509Certificate(readFileSync(path));
    return /(?:^|, )DNS:([^,*]+)(?:,|$)/.exec(subjectAltName)?.[1];
  } catch {
    return undefined;
  }
}

async function ask(url: string, key: string | undefined): Promise<AgentState[]> {
  const headers = key === undefined ? undefined : { authorization: `Bearer ${key}` };
  let reply: Response;
  try {
    reply = await fetch(`${url}/admin/agents`, {
      ...(headers === undefined ? {} : { headers }),
      redirect: "error",
      signal: AbortSignal.timeout(patience),
    });
  } catch (error) {
    throw new StatusError(unreachableText(url, error), { cause: error });
  }
  const answer = await readAnswer(reply);
  if (reply.status === 401)
    throw new StatusError(`${url} asks for a key with the role admin: set LAIR_AUTH_ADMIN to one`);
  if (reply.status === 403) throw new StatusError(refusedText(url, answer));
  const agents = isObject(answer) ? answer["agents"] : undefined;
  if (!reply.ok || !Array.isArray(agents))
    throw new StatusError(`${url} answered ${reply.status}, and not as a relay does; lair cloud status --url <relay>`);
  return agents as unknown as AgentState[];
}

/** The relay's own reason may be another, e.g. the name by which it was called. */
function refusedText(url: string, answer: Json | undefined): string {
  const error = isObject(answer) && isObject(answer["error"]) ? answer["error"] : {};
  if (error["code"] === "insufficient_scope")
    return `the key that was sent to ${url} may use models only: set LAIR_AUTH_ADMIN to one of the relay's auth.admin, or to a managed key with the role admin`;
  return `${url} refused: ${typeof error["message"] === "string" ? error["message"] : "403"}`;
}

async function readAnswer(reply: Response): Promise<Json | undefined> {
  try {
    return (await reply.json()) as Json;
  } catch {
    return undefined;
  }
}

function unreachableText(url: string, error: unknown): string {
  const cause =
    error instanceof Error && error.cause instanceof Error ? (error.cause as NodeJS.ErrnoException) : undefined;
  const code = cause?.code ?? "";
  if (error instanceof Error && error.name === "TimeoutError")
    return `${url} did not answer within ${formatDuration(patience)}`;
  if (/CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(code))
    return `the certificate of ${url} is not trusted here (${code}); for one of your own set NODE_EXTRA_CA_CERTS to its file, and give its name with --url`;
  return `no relay answers at ${url}${code === "" ? "" : ` (${code})`}; is lair cloud running there? For another: --url <relay>`;
}

/** A table, or the one thing to know when there is nothing to show. */
function statusLines(url: string, agents: readonly AgentState[], now: number): string[] {
  if (agents.length === 0) {
    return [`${url}: no agent has connected since this relay runs.`, `Connect one: lair agent --cloud ${url}`];
  }
  const heads = ["AGENT", "STATE", "FOR", "ROUND TRIP", "IN FLIGHT", "CALLS", "FAILED", "MODELS", "VERSION", "ADDRESS"];
  return [url, "", ...toColumns([heads, ...agents.map((agent) => toRow(agent, now))])];
}

function toRow(agent: AgentState, now: number): string[] {
  const { name, since, left, roundTrip, inFlight, calls, failures, models, connections } = agent;
  const span = since ?? left;
  const different = (texts: readonly string[]): string => [...new Set(texts)].join(", ") || "-";
  return [
    name,
    stateText(agent),
    span === null ? "-" : formatAge(now - span),
    roundTrip === null ? "-" : `${roundTrip.toFixed(1)} ms`,
    String(inFlight),
    String(calls),
    String(failures),
    String(models.length),
    different(connections.map(({ version }) => version)),
    different(connections.map(addressText)),
  ];
}

/** Where it connects from, and by which way other than the plain one. */
function addressText({ address, transport, relay }: AgentConnectionState): string {
  if (transport === "hop") return `${address} (at the relay ${relay})`;
  return transport === "ws" ? `${address} (ws)` : address;
}

function stateText({ since, ready, connections }: AgentState): string {
  if (since === null) return "away";
  if (connections.every(({ draining }) => draining)) return "leaving";
  return ready ? `ready (${connections.length})` : "runtime does not answer";
}

/** `12s`, `5m`, `3h20m`, `2d4h`: two units at most. */
function formatAge(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const days = Math.floor(seconds / 86_400);
  if (days > 0) return `${days}d${Math.floor((seconds % 86_400) / 3600)}h`;
  const coarse = seconds >= 60 ? seconds - (seconds % 60) : seconds;
  return coarse === 0 ? "0s" : formatDuration(coarse * 1000);
}
