import { agentNamePattern } from "../core/agent-identity.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";

/** One key of an agent, without the key. Times are milliseconds since 1970. */
export interface KeyRecord {
  /** `k1`, `k2`, …: unique among the agent's keys, those that are gone too. */
  readonly id: string;
  /** SHA-256 of the secret's 32 bytes. */
  readonly digest: Buffer;
  readonly created: number;
  readonly expires?: number;
  readonly revoked?: number;
  /** When an agent last connected with it, to the hour. */
  readonly lastUsed?: number;
}

/** An agent that may connect while one of its keys works. */
export interface AgentRecord {
  readonly name: string;
  readonly created: number;
  /** Number of the next key. */
  readonly nextKey: number;
  /** Oldest first. */
  readonly keys: readonly KeyRecord[];
}

/** Agents by name. */
export type AgentRecords = ReadonlyMap<string, AgentRecord>;

/** The list of agents cannot be used as it is, or not for what was asked; the message is for people. */
export class AgentFileError extends Error {
  override readonly name = "AgentFileError";
}

const formatVersion = 1;
export const mostAgents = 1000;
/** Keys kept of one agent, those that do not work any more too. */
export const mostKeys = 8;

/** The list of agents as text, the same in a file and in a shared state. */
export function encodeAgents(agents: AgentRecords): string {
  const entries = [...agents.values()].map(({ name, created, nextKey, keys }) => [
    name,
    {
      created: toIso(created),
      nextKey,
      keys: keys.map((key) => ({
        id: key.id,
        sha256: key.digest.toString("hex"),
        created: toIso(key.created),
        expires: toIso(key.expires),
        revoked: toIso(key.revoked),
        lastUsed: toIso(key.lastUsed),
      })),
    },
  ]);
  return `${JSON.stringify({ version: formatVersion, agents: Object.fromEntries(entries) }, null, 2)}\n`;
}

/** Throws `Error` for a text that is no list of agents, with why. */
export function decodeAgents(text: string): AgentRecords {
  const json = JSON.parse(text) as Json;
  if (!isObject(json)) throw new Error("it holds no JSON object");
  if (json.version !== formatVersion)
    throw new Error(
      `its version is ${JSON.stringify(json.version)?.slice(0, 20) ?? "missing"}, and this program knows ${formatVersion}; a newer lair may have written it`,
    );
  const entries = Object.entries(asObject(json, "agents"));
  if (entries.length > mostAgents) throw new Error(`it names more than ${mostAgents} agents`);
  return new Map(
    entries.map(([name, agent]) => {
      if (!agentNamePattern.test(name)) throw new Error(`${JSON.stringify(name).slice(0, 60)} is no name of an agent`);
      try {
        return [name, decodeAgent(name, agent)];
      } catch (error) {
        throw new Error(`agent ${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }),
  );
}

function decodeAgent(name: string, json: Json | undefined): AgentRecord {
  if (!isObject(json)) throw new Error("is no JSON object");
  const { keys, nextKey } = json;
  if (!Array.isArray(keys) || keys.length > mostKeys) throw new Error(`keys is no list of at most ${mostKeys}`);
  if (typeof nextKey !== "number" || !Number.isInteger(nextKey) || nextKey < 1)
    throw new Error("nextKey is no number from 1");
  const decoded = keys.map(decodeKey);
  if (new Set(decoded.map(({ id }) => id)).size < decoded.length) throw new Error("two keys have the same id");
  return { name, created: readTime(json, "created") ?? missing("created"), nextKey, keys: decoded };
}

function decodeKey(json: Json): KeyRecord {
  if (!isObject(json)) throw new Error("a key is no JSON object");
  const { id, sha256 } = json;
  if (typeof id !== "string" || !/^k[1-9]\d{0,8}$/.test(id)) throw new Error("a key's id is not k1, k2, …");
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256))
    throw new Error(`sha256 of key ${id} is not 64 hexadecimal digits`);
  const times = { expires: readTime(json, "expires"), revoked: readTime(json, "revoked") };
  const lastUsed = readTime(json, "lastUsed");
  return {
    id,
    digest: Buffer.from(sha256, "hex"),
    created: readTime(json, "created") ?? missing("created"),
    ...(times.expires === undefined ? {} : { expires: times.expires }),
    ...(times.revoked === undefined ? {} : { revoked: times.revoked }),
    ...(lastUsed === undefined ? {} : { lastUsed }),
  };
}

function missing(name: string): never {
  throw new Error(`${name} is missing`);
}

function asObject(json: JsonObject, name: string): JsonObject {
  const value = json[name];
  return isObject(value) ? value : missing(name);
}

/** A time that is there and cannot be read must not count as none: a key with `expires` would live for ever. */
function readTime(json: JsonObject, name: string): number | undefined {
  const value = json[name];
  if (value === undefined) return undefined;
  const time = typeof value === "string" ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(time)) throw new Error(`${name} is no time such as 2026-11-22T20:00:00.000Z`);
  return time;
}

function toIso(time: number): string;
function toIso(time: number | undefined): string | undefined;
function toIso(time: number | undefined): string | undefined {
  return time === undefined ? undefined : new Date(time).toISOString();
}
