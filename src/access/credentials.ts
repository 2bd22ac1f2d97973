import type { Call, Headers } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { cleanQuery } from "./query-credentials.ts";

/** What a call's headers and query showed. */
export interface Shown {
  /** Credentials, equal ones too; none of them empty. */
  readonly texts: readonly string[];
  /** There was an `Authorization` that is no `Bearer` with a key. */
  readonly otherScheme: boolean;
}

/** Further headers in which a credential may stand: Azure's, and Anthropic's. */
const keyHeaders = ["api-key", "x-api-key"] as const;
const nothing: Shown = { texts: [], otherScheme: false };

/**
 * Takes every credential out of a call's headers and query, whether it is one of ours or not: `Authorization`,
 * `Proxy-Authorization`, `api-key`, `x-api-key`, `?api-key=` and `?api_key=`. Nothing of them stays in the call.
 */
export function takeCredentials(call: Call): Shown {
  const { headers, search } = call;
  const { authorization } = headers;
  const plain =
    authorization === undefined &&
    headers["api-key"] === undefined &&
    headers["x-api-key"] === undefined &&
    headers["proxy-authorization"] === undefined;
  if (plain && search === "") return nothing;
  const query = cleanQuery(search);
  const texts = query.found.filter((text) => text !== "");
  const bearer = authorization === undefined ? undefined : /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
  if (bearer !== undefined) texts.push(bearer);
  for (const name of keyHeaders) {
    const value = headers[name];
    // Node joins repeated headers so.
    if (value !== undefined) texts.push(...value.split(", ").filter((text) => text.trim() !== ""));
  }
  call.strip(plain ? { search: query.search } : { search: query.search, headers: withoutCredentials(headers) });
  const empty = authorization !== undefined && /^(?:Bearer)? *$/i.test(authorization);
  return { texts, otherScheme: authorization !== undefined && bearer === undefined && !empty };
}

/** The one credential that was shown; undefined: none was. Throws `invalid_api_key` or `invalid_request`, neither with a word of it. */
export function onlyCredential({ texts, otherScheme }: Shown): string | undefined {
  if (otherScheme)
    throw new ApiError(
      "invalid_api_key",
      "the Authorization header must be `Bearer <key>`; other schemes are not taken",
    );
  const [first] = texts;
  if (texts.some((text) => text !== first)) throw differing();
  return first;
}

/** Which of them to use, the server must not guess. */
export function differing(): ApiError {
  return new ApiError("invalid_request", "two different keys were sent in one request; send one");
}

function withoutCredentials(headers: Headers): Headers {
  const rest: Headers = {};
  for (const name in headers)
    if (name !== "authorization" && name !== "api-key" && name !== "x-api-key" && name !== "proxy-authorization")
      rest[name] = headers[name] as string;
  return rest;
}
