import { hash, randomBytes } from "node:crypto";
import { ApiError } from "../core/errors.ts";
import { keyState } from "../state/issue-key.ts";
import type { KeyRecord } from "../state/state.ts";
import { type KeyFields, withFields } from "./key-fields.ts";

/** A key with the text that is shown once, and is nowhere else: `lair_<id>_<43 characters of base64url>`. */
export interface IssuedKey {
  readonly record: KeyRecord;
  readonly text: string;
}

const secretBytes = 32;
const idLength = 12;
const base32 = "abcdefghijklmnopqrstuvwxyz234567";

/** A new key; without further fields it may use every model, without limits of its own, for ever. */
export function newKey(fields: KeyFields & { readonly name: string }, now: number): IssuedKey {
  const id = newId();
  const text = newText(id);
  return { record: toRecord(id, { digest: digestOf(text), ending: text.slice(-4) }, fields, now), text };
}

/** A key whose text somebody else has made: by its digest, and the text's last four characters where they are known. */
export function importedKey(
  secret: Pick<KeyRecord, "digest" | "ending">,
  fields: KeyFields & { readonly name: string },
  now: number,
): KeyRecord {
  return toRecord(newId(), secret, fields, now);
}

/** Milliseconds that the old text of a key works beside the new one, unless somebody says otherwise, and most that may be said. */
export const usualGrace = 24 * 3_600_000;
export const longestGrace = 90 * 24 * 3_600_000;

/** The key with another text; the one before works for `grace` milliseconds more. Throws `invalid_request` for a key that works no more. */
export function rotatedKey(key: KeyRecord, now: number, grace: number): IssuedKey {
  const state = keyState(key, now);
  if (state === "revoked")
    throw new ApiError("invalid_request", `the key ${key.name} is revoked, for good; create another one`);
  if (state === "expired")
    throw new ApiError("invalid_request", `the key ${key.name} has expired; change its expiry first`);
  const { previous: _, ...rest } = key;
  const text = newText(key.id);
  const before = grace > 0 ? { previous: { digest: key.digest, until: now + grace } } : {};
  return { record: { ...rest, digest: digestOf(text), ending: text.slice(-4), ...before }, text };
}

/** The key that works no more, nor does its text from before a rotation. */
export function revokedKey(key: KeyRecord, now: number): KeyRecord {
  const { previous: _, ...rest } = key;
  return { ...rest, revoked: key.revoked ?? now };
}

/** SHA-256 of a key's text: what is kept of it. */
export function digestOf(text: string): Buffer {
  // Of all forms of output, a Buffer is the one that costs 1 µs.
  return Buffer.from(hash("sha256", text, "hex"), "hex");
}

function toRecord(
  id: string,
  secret: Pick<KeyRecord, "digest" | "ending">,
  fields: KeyFields & { readonly name: string },
  now: number,
): KeyRecord {
  const bare: KeyRecord = {
    id,
    name: fields.name,
    ...secret,
    created: now,
    roles: ["inference"],
    models: [],
    limits: {},
  };
  return withFields(bare, fields);
}

function newText(id: string): string {
  return `lair_${id}_${randomBytes(secretBytes).toString("base64url")}`;
}

function newId(): string {
  return `k${Array.from(randomBytes(idLength), (byte) => base32[byte % base32.length]).join("")}`;
}
