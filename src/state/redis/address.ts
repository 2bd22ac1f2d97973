import { readFileSync } from "node:fs";
import { StateError } from "../state.ts";

/** Where a Redis is and how this program uses it, read from a URL. */
export interface RedisAddress {
  /** The address without credentials, for messages. */
  readonly place: string;
  /** Every key and channel begins with this and a colon. In braces: a cluster keeps such keys together. */
  readonly prefix: string;
  /** Most usage records that are kept, whatever the retention allows: they live in memory, about 300 bytes each. */
  readonly records: number;
  readonly server: RedisServerAddress;
}

interface RedisServerAddress {
  readonly host?: string;
  readonly port?: number;
  /** Of a Unix socket. */
  readonly path?: string;
  readonly username?: string;
  readonly password?: string;
  readonly db: number;
  /** Present: TLS; `ca`: the authorities that are trusted instead of the system's, PEM. */
  readonly tls?: { readonly ca?: string };
}

const defaultRecords = 1_000_000;
const known = ["prefix", "records", "ca", "db", "username", "password"];

/**
 * Reads `redis://user:password@host:6379/0`, the same with `rediss://` (TLS), or `unix:/run/redis.sock`. After `?`:
 * `prefix` (default lair), `records` (most usage records, default 1000000), `ca` (file of authorities for rediss), and for
 * what a socket's URL cannot say otherwise `db`, `username`, `password`. Throws `StateError`, without the URL, which may hold a password.
 */
export function readRedisAddress(text: string): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : refuse("the address of Redis is no URL such as redis://host:6379");
  for (const name of url.searchParams.keys()) {
    if (!known.includes(name)) refuse(`the address of Redis has "?${name}="; there is only ${known.join(", ")}`);
  }
  const prefix = url.searchParams.get("prefix") ?? "lair";
  if (!/^[\w.-]{1,64}$/.test(prefix)) refuse("the prefix in the address of Redis may have letters, digits, - _ . only");
  const server = url.protocol === "unix:" ? readSocket(url) : readHost(url);
  return {
    place: toPlace(url, server.db),
    prefix: `{${prefix}}`,
    records: readNumber(url.searchParams.get("records") ?? String(defaultRecords), "records", 100_000_000),
    server,
  };
}

function readHost(url: URL): RedisServerAddress {
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") refuse(`Redis is not reached by ${url.protocol}//`);
  if (url.hostname === "") refuse("the address of Redis names no host");
  const ca = url.searchParams.get("ca");
  if (ca !== null && url.protocol !== "rediss:") refuse('the address of Redis has "?ca=", which only rediss:// uses');
  const tls = url.protocol === "rediss:" ? { tls: ca === null ? {} : { ca: readAuthorities(ca) } } : {};
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? 6379 : Number(url.port),
    db: readNumber(url.searchParams.get("db") ?? (url.pathname.slice(1) || "0"), "database", 10_000),
    ...readCredentials(url),
    ...tls,
  };
}

function readSocket(url: URL): RedisServerAddress {
  const db = readNumber(url.searchParams.get("db") ?? "0", "database", 10_000);
  return { path: decode(url.pathname), db, ...readCredentials(url) };
}

function readCredentials(url: URL): { username?: string; password?: string } {
  const username = decode(url.username) || url.searchParams.get("username");
  const password = decode(url.password) || url.searchParams.get("password");
  return { ...(username ? { username } : {}), ...(password ? { password } : {}) };
}

function toPlace(url: URL, db: number): string {
  if (url.protocol === "unix:") return `unix:${url.pathname}`;
  return `${url.protocol}//${url.hostname}:${url.port || "6379"}${db === 0 ? "" : `/${db}`}`;
}

function readAuthorities(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    return refuse(`the file of authorities "${file}" cannot be read: ${(error as Error).message}`);
  }
}

function readNumber(text: string, what: string, most: number): number {
  const value = Number(text);
  if (/^\d{1,9}$/.test(text) && value <= most) return value;
  return refuse(`the address of Redis names as ${what} what is no whole number up to ${most}`);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return refuse("the address of Redis has a % that stands for nothing; in a password write it as %25");
  }
}

function refuse(message: string): never {
  throw new StateError(message);
}
