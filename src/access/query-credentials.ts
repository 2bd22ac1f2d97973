/** A query without the credentials in it, and those. */
export interface CleanQuery {
  readonly search: string;
  readonly found: readonly string[];
}

/**
 * Takes `api-key` and `api_key` out of a query (`?a=b&…`, or ""), in capital letters too, however often and in whatever
 * spelling they come; all other parameters stay byte for byte. `;` counts as a separator, as it does for
 * some servers, and a second `?` too.
 */
export function cleanQuery(search: string): CleanQuery {
  if (search.length <= 1) return { search, found: [] };
  const found: string[] = [];
  let rest = "";
  for (const [, separator, name = "", value] of search.matchAll(/([?&;])([^=?&;]*)(?:=([^?&;]*))?/g)) {
    if (isCredential(name)) found.push(decoded(value ?? ""));
    else rest += `${rest === "" ? "?" : separator}${name}${value === undefined ? "" : `=${value}`}`;
  }
  return found.length === 0 ? { search, found } : { search: rest, found };
}

function isCredential(name: string): boolean {
  return /^api[-_]key$/i.test(decoded(name));
}

/** A `+` stays one: no credential has a space, but some have a plus. */
function decoded(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
