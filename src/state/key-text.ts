import type { KeyRecord } from "./state.ts";

/** A key as JSON, its digests in base64. */
export function encodeKey(key: KeyRecord): string {
  const { previous } = key;
  return JSON.stringify({
    ...key,
    digest: key.digest.toString("base64"),
    previous: previous && { digest: previous.digest.toString("base64"), until: previous.until },
  });
}

/** What `encodeKey` made. Throws on what it cannot have made. */
export function decodeKey(text: string): KeyRecord {
  const key = JSON.parse(text) as Encoded;
  const { previous, ...rest } = key;
  if (typeof key.id !== "string" || typeof key.name !== "string")
    throw new TypeError("no key: it has no id or no name");
  if (!Array.isArray(key.roles) || !Array.isArray(key.models)) throw new TypeError(`key ${key.id}: no roles or models`);
  const decoded = { ...rest, digest: decodeDigest(key.digest, key.id) };
  if (previous === undefined) return decoded;
  return { ...decoded, previous: { digest: decodeDigest(previous.digest, key.id), until: previous.until } };
}

type Encoded = Omit<KeyRecord, "digest" | "previous"> & {
  readonly digest: string;
  readonly previous?: { readonly digest: string; readonly until: number };
};

/** Bytes of SHA-256. */
const digestSize = 32;

function decodeDigest(text: unknown, id: string): Buffer {
  const digest = Buffer.from(String(text), "base64");
  if (digest.length !== digestSize) throw new TypeError(`key ${id}: its digest is no SHA-256`);
  return digest;
}
