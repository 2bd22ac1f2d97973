import { hash, timingSafeEqual } from "node:crypto";
import type { Handler, Middleware } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";

/** Paths that tell nothing worth a key: load balancers ask them. */
const open = new Set(["/health", "/ready"]);

/**
 * Lets in who shows one of the keys: `Authorization: Bearer`, `api-key` (Azure's form) or `x-api-key` (Anthropic's).
 * No keys: everybody. The header never travels on, whoever answers the call.
 */
export function auth(keys: readonly string[]): Middleware {
  const hashes = keys.map(digest);
  return (call, next: Handler) => {
    if (hashes.length === 0 || open.has(call.path)) return next(call);
    const shown = credential(call.headers);
    if (shown === undefined)
      throw new ApiError("invalid_api_key", "no key was sent: send it as `Authorization: Bearer <key>`");
    const given = digest(shown);
    // Every key is compared, so that time does not tell which one was near.
    const matches = hashes.map((known) => timingSafeEqual(known, given));
    const index = matches.indexOf(true);
    if (index === -1) throw new ApiError("invalid_api_key", "the key that was sent is not valid here");
    call.principal = {
      id: `token-${index + 1}`,
      name: `token-${index + 1}`,
      roles: new Set(["inference"]),
      limits: {},
    };
    return next(call);
  };
}

function credential(headers: Readonly<Record<string, string>>): string | undefined {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? "")?.[1];
  const shown = [bearer, headers["api-key"], headers["x-api-key"]].filter((one) => one !== undefined && one !== "");
  if (new Set(shown).size > 1) throw new ApiError("invalid_request", "two different keys were sent; send one");
  return shown[0];
}

function digest(key: string): Buffer {
  return hash("sha256", key, "buffer");
}
