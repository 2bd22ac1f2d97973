import { hash, randomBytes } from "node:crypto";
import { type AgentRecord, type AgentRecords, type KeyRecord, mostKeys } from "./agent-records.ts";

/** A new key, which is nowhere else and is never shown again. */
export interface IssuedKey {
  readonly name: string;
  readonly keyId: string;
  /** `lla_<name>_<43 characters of base64url>` */
  readonly key: string;
  /** Milliseconds since 1970; absent: it does not expire. */
  readonly expires?: number;
}

/** Whether a key may be used, or why not. */
export type KeyState = "works" | "expired" | "revoked";

const secretBytes = 32;
const keyPattern = /^lla_([a-z][a-z0-9-]{0,31})_([A-Za-z0-9_-]{43})$/;

/** Whether the key may be used at the time, in milliseconds since 1970. */
export function keyState({ revoked, expires }: KeyRecord, now: number): KeyState {
  if (revoked !== undefined) return "revoked";
  return expires !== undefined && expires <= now ? "expired" : "works";
}

/** The agents with a new key for this one, which may be new itself. `lifetime` is in milliseconds. */
export function issueKey(
  agents: AgentRecords,
  agent: AgentRecord,
  lifetime: number | undefined,
): { agents: AgentRecords; result: IssuedKey } {
  const { name, nextKey } = agent;
  const secret = randomBytes(secretBytes);
  const created = Date.now();
  const until = lifetime === undefined ? {} : { expires: created + lifetime };
  const key: KeyRecord = { id: `k${nextKey}`, digest: hash("sha256", secret, "buffer"), created, ...until };
  const keys = [...kept(agent.keys, created), key];
  return {
    agents: new Map(agents).set(name, { ...agent, nextKey: nextKey + 1, keys }),
    result: { name, keyId: key.id, key: `lla_${name}_${secret.toString("base64url")}`, ...until },
  };
}

/** What a key says: whose it is, and the digest of its secret; of a text that is none, a digest that nobody has. */
export function readKey(text: string): { name: string | undefined; digest: Buffer } {
  const [, name, secret = ""] = keyPattern.exec(text) ?? [];
  return { name, digest: hash("sha256", Buffer.from(secret, "base64url"), "buffer") };
}

/** The keys that are kept beside a new one: those that work, and the latest of the others. */
function kept(keys: readonly KeyRecord[], now: number): KeyRecord[] {
  const gone = keys.filter((key) => keyState(key, now) !== "works");
  const forgotten = gone.slice(0, Math.max(0, keys.length + 1 - mostKeys));
  return keys.filter((key) => !forgotten.includes(key));
}
