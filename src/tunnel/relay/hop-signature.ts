import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Call, Headers } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";

/** What a hop is signed for: one request, to one session at one relay. */
export interface HopTarget {
  readonly method: string;
  /** Path with query, as they stand in the request line. */
  readonly path: string;
  /** Id of the session; "" for a question to the relay itself. */
  readonly session: string;
  readonly relay: string;
}

/** Marks a call that has come from another relay, and so never goes on to a third. */
export const hopHeader = "x-lair-hop";
const names = {
  session: "x-lair-session",
  relay: "x-lair-relay",
  time: "x-lair-time",
  nonce: "x-lair-nonce",
  signature: "x-lair-signature",
} as const;

/** Milliseconds by which the clocks of two relays may differ. */
const mostSkew = 30_000;
/** Nonces kept of one generation, which lasts as long as a signature may be good: 8000 calls a second. */
const mostNonces = 500_000;
const generationTime = 2 * mostSkew;

/** The headers that make a request one of a relay that knows the secret. */
export function signHop(secret: Buffer, target: HopTarget): Headers {
  const time = String(Date.now());
  const nonce = randomBytes(16).toString("base64url");
  const signature = digest(secret, target, time, nonce).toString("base64url");
  return {
    [hopHeader]: "1",
    [names.session]: target.session,
    [names.relay]: target.relay,
    [names.time]: time,
    [names.nonce]: nonce,
    [names.signature]: signature,
  };
}

/** Checks signatures, each of which is good once. */
export class HopGuard {
  readonly #secret: Buffer;
  #recent = new Set<string>();
  #older = new Set<string>();
  #turned = Date.now();

  constructor(secret: Buffer) {
    this.#secret = secret;
  }

  /** What the call is signed for. Throws `invalid_api_key` for one that is not, not any more, or was here before. */
  check({ method, path, search, headers }: Call): HopTarget {
    const { [names.session]: session, [names.relay]: relay, [names.time]: time, [names.nonce]: nonce } = headers;
    const signature = headers[names.signature];
    if (headers[hopHeader] !== "1" || session === undefined || relay === undefined) throw unsigned();
    // Headers that come twice are joined by a comma, and have none of these shapes.
    if (!/^\d{13}$/.test(time ?? "") || !/^[\w-]{22}$/.test(nonce ?? "") || !/^[\w-]{43}$/.test(signature ?? ""))
      throw unsigned();
    const target = { method, path: path + search, session, relay };
    const right = digest(this.#secret, target, time as string, nonce as string);
    if (!timingSafeEqual(right, Buffer.from(signature as string, "base64url"))) throw unsigned();
    if (Math.abs(Date.now() - Number(time)) > mostSkew)
      throw new ApiError(
        "invalid_api_key",
        `the signature is of another time: the clocks of the relays must not differ by more than ${mostSkew / 1000} s`,
      );
    this.#use(nonce as string);
    return target;
  }

  #use(nonce: string): void {
    const now = Date.now();
    // A clock that was set back keeps what is here: nonces are dropped late, never early.
    if (now - this.#turned > generationTime) {
      this.#older = now - this.#turned > 2 * generationTime ? new Set() : this.#recent;
      this.#recent = new Set();
      this.#turned = now;
    }
    if (this.#recent.has(nonce) || this.#older.has(nonce))
      throw new ApiError("invalid_api_key", "this signature was used before, and is good once");
    if (this.#recent.size >= mostNonces)
      throw new ApiError("service_unavailable", "too many calls from other relays within a minute");
    this.#recent.add(nonce);
  }
}

function digest(secret: Buffer, { method, path, session, relay }: HopTarget, time: string, nonce: string): Buffer {
  // No part can hold a line break, or it would not have come in a request's head.
  return createHmac("sha256", secret).update([method, path, session, relay, time, nonce].join("\n")).digest();
}

function unsigned(): ApiError {
  return new ApiError(
    "invalid_api_key",
    "calls on this port come from other relays, with a signature by the secret that they share (relay.internal.secret)",
  );
}
