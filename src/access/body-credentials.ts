import { type ByteStream, isStream, toBuffer } from "../core/bytes.ts";
import type { Call } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json } from "../core/json.ts";
import { ModelScanner } from "../wire/model-scanner.ts";
import { blankFields, fieldValues } from "../wire/splice.ts";

/** Keys of the JSON body that hold a credential. */
const bodyKeys = ["api-key", "api_key"] as const;

/** Bodies up to this many bytes are held whole, as whoever answers them does; larger ones may flow. */
const mostHeld = 1024 * 1024;
/** Bytes of bodies of strangers that may be held at a time, to find out whether they are any. */
const mostUnproven = 256 * 1024 * 1024;

/** Bytes that are looked through at a time, and fields of a body in which a stranger's key is looked for. */
const pieceSize = 1024 * 1024;
const mostFields = 10_000;

/** Characters of what is too long for a credential. */
const longestShown = 5000;

/** Whether a credential can be in the call's body: on the one path where the original program takes it from there. */
export function mayHoldCredential({ method, path, body }: Call): boolean {
  return method === "POST" && body !== null && (path === "/v1/chat/completions" || path === "/v1/chat/completions/");
}

/**
 * Takes the credentials out of the body of a call that is let in without them. Each is given to `judge`, which may
 * throw. A large body is not held for it: it flows on, and breaks off before a credential would.
 */
export async function cleanBody(call: Call, judge: (found: Json) => void): Promise<void> {
  const { body } = call;
  if (isStream(body) && !(lengthOf(call) <= mostHeld)) call.strip({ body: watched(body) });
  else await takeFromBody(call, judge);
}

/** Reads the bodies of callers who have shown no credential elsewhere: a bounded number of bytes at a time. */
export class UnprovenBodies {
  #held = 0;

  /**
   * The credential in a body, which stays there; undefined: there is none. Nothing is made of the body: what a stranger sends
   * may be built to be costly. Throws `service_unavailable`, `invalid_type`, `request_too_large`.
   */
  async find(call: Call): Promise<string | undefined> {
    const size = Math.min(lengthOf(call), call.bodyLimit);
    if (this.#held + size > mostUnproven)
      throw new ApiError(
        "service_unavailable",
        "too many requests that may have their key in the body wait to be read; send the key as `Authorization: Bearer <key>`",
      );
    this.#held += size;
    try {
      return await findInBody(call);
    } finally {
      this.#held -= size;
    }
  }
}

async function findInBody(call: Call): Promise<string | undefined> {
  if (!maybe.test(await call.latin1())) return undefined;
  const bytes = await call.bytes();
  for (const key of bodyKeys) {
    const scanner = new ModelScanner([], key);
    await scan(scanner, bytes);
    const { state, name, start, end, occurrences } = scanner;
    if (state === "named" && name !== "") return name;
    // Longer than a name can be, and so no key of anybody's.
    if (state === "other" && end > start)
      return bytes.toString("latin1", start + 1, Math.min(end, start + longestShown));
    if (occurrences > 0 && state !== "named") throw noText();
  }
  return undefined;
}

/** Lets others have their turn between pieces of a large body. */
async function scan(scanner: ModelScanner, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceSize) {
    if (at > 0) await new Promise<void>((resolve) => setImmediate(resolve));
    scanner.push(bytes.subarray(at, at + pieceSize));
    if (scanner.fields > mostFields)
      throw new ApiError("invalid_request", `the request body has more than ${mostFields} fields`);
  }
}

/** A credential in a body is something else than a string. */
export function noText(): ApiError {
  return new ApiError("invalid_type", "the key in the request's body must be a string", { param: "api_key" });
}

/** Takes the credentials out of a body that is held, and gives each to `judge`. Throws `invalid_json`, `request_too_large`. */
export async function takeFromBody(call: Call, judge: (found: Json) => void): Promise<void> {
  const text = await call.latin1();
  if (!maybe.test(text) || !isObject(await call.json())) return;
  const found = fieldValues(text, bodyKeys);
  if (found.length === 0) return;
  call.strip({ body: Buffer.from(blankFields(text, bodyKeys), "latin1") });
  for (const value of found) judge(value);
}

/**
 * Whether one of the keys can be in a JSON text: as it is, or with a letter of it escaped. A twentieth of what parsing
 * costs, where several searches for plain texts cost up to five times this one.
 */
const maybe = /api[-_]key|\\u00(?:2[dD]|5[fF]|6[159bB]|7[09])/;

/** The body, broken off before a credential in it would go on. */
function watched(body: ByteStream): ByteStream {
  const scanner = new ModelScanner(bodyKeys);
  return {
    start: (sink) =>
      body.start({
        write: (chunk) => {
          if (scanner.met) return true;
          scanner.push(toBuffer(chunk));
          if (!scanner.met) return sink.write(chunk);
          body.cancel();
          sink.fail(tooLargeForIt());
          return true;
        },
        end: (problem) => sink.end(problem),
        fail: (error) => sink.fail(error),
      }),
    resume: () => body.resume(),
    cancel: () => body.cancel(),
  };
}

function tooLargeForIt(): ApiError {
  return new ApiError(
    "invalid_request",
    "there is a key in this request's body, which is too large for it to be taken out; send it as `Authorization: Bearer <key>` only",
  );
}

/** Bytes by the caller's word; `Infinity`: it gave none. */
function lengthOf({ body, headers }: Call): number {
  if (Buffer.isBuffer(body)) return body.length;
  const length = headers["content-length"];
  return length === undefined ? Number.POSITIVE_INFINITY : Number(length);
}
