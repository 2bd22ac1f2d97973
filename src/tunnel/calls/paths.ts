import { ApiError } from "../../core/errors.ts";
import { endpoints } from "../../core/provider.ts";

const get = ["GET"];
const post = ["POST"];

/**
 * Path → methods that may pass the tunnel: asking models, never ruling over them. What administers a runtime
 * (`/api/pull`, `/api/delete`, `/slots`, `/metrics`, `/admin`, …) is not here and so cannot be reached.
 */
const table: ReadonlyMap<string, readonly string[]> = new Map<string, readonly string[]>([
  ["/v1/models", get],
  ...endpoints.map((path) => [path, post] as const),
  ["/rerank", post],
  // Ollama's
  ["/api/show", post],
  ["/api/tags", get],
  ["/api/version", get],
  ["/api/ps", get],
]);

/** The paths that hold an id, which is a name of a model or of a stored response. */
const patterns: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^\/v1\/models\/./, get],
  [/^\/v1\/responses\/[^/]+$/, ["GET", "DELETE"]],
  [/^\/v1\/responses\/[^/]+\/input_items$/, get],
  [/^\/v1\/responses\/[^/]+\/cancel$/, post],
];

/**
 * What RFC 3986 lets stand in a path as it is, and percent signs before two hexadecimal digits. Not `;`: servers in Java
 * take `..;` for `..`.
 */
const plainPath = /^\/(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]|%[0-9a-fA-F]{2})*$/;
/** Visible ASCII, but for `\` (a slash to some) and `#`. */
const plainSearch = /^(?:\?[!"$-[\]-~]*)?$/;
/** What means something else to whoever decodes it first: `.`, `/`, `\`, `%`, control characters. */
const hidden = /%(?:2[ef5]|5c|[01].|7f)/i;
const encodedBeyondAscii = /%[89a-f]/i;
const dotSegment = /\/\.{1,2}(?:\/|$)/;

const longestPath = 1024;
const longestSearch = 4096;

/**
 * Whether a call may pass the tunnel: undefined, or why not. Judges the path as it was sent, which both ends do and
 * which is sent on as it is: nothing is decoded, resolved or put right. HEAD is allowed where GET is.
 */
export function allowedCall(method: string, path: string, search: string): ApiError | undefined {
  // A path that stands in the table is well formed.
  const problem = table.has(path) ? undefined : pathProblem(path);
  if (problem !== undefined || search !== "") {
    const wrong = problem ?? searchProblem(search);
    if (wrong !== undefined) return new ApiError("invalid_request", `the request's path ${wrong}`);
  }
  const methods = find(path);
  if (methods === undefined)
    return new ApiError(
      "unknown_url",
      `there is nothing at ${path.slice(0, 200)} that may be asked through the tunnel; it carries calls to models, e.g. POST /v1/chat/completions`,
    );
  if (methods.includes(method === "HEAD" ? "GET" : method)) return undefined;
  const allow = methods.join(", ");
  return new ApiError("method_not_allowed", `${path.slice(0, 200)} takes ${allow}, not ${method.slice(0, 20)}`, {
    headers: { allow },
  });
}

function find(path: string): readonly string[] | undefined {
  // The runtime takes one slash at the end for none.
  const bare = path.endsWith("/") ? path.slice(0, -1) : path;
  return table.get(bare) ?? patterns.find(([pattern]) => pattern.test(bare))?.[1];
}

function pathProblem(path: string): string | undefined {
  if (path.length > longestPath) return `is longer than ${longestPath} characters`;
  if (!plainPath.test(path)) return "holds a character that may not stand in a path";
  if (path.includes("//")) return "holds an empty segment (//)";
  if (dotSegment.test(path)) return "holds a . or .. segment";
  if (hidden.test(path)) return "holds an encoded dot, slash, percent sign or control character; write it as it is";
  return encodedBeyondAscii.test(path) && !isUtf8(path) ? "is not validly percent-encoded" : undefined;
}

/** Names of models may hold any letter; an overlong form of a dot or slash is no UTF-8. */
function isUtf8(path: string): boolean {
  try {
    decodeURIComponent(path);
    return true;
  } catch {
    return false;
  }
}

function searchProblem(search: string): string | undefined {
  if (search.length > longestSearch) return `has a query longer than ${longestSearch} characters`;
  return plainSearch.test(search) ? undefined : "has a query with a character that may not stand there";
}
