/** Characters of a text that others have written, in a log. */
const longest = 500;

/** A key of ours, and what stands behind a word for one, as in a query that lacks its `?`. */
const keys = /\blair_[a-z0-9]+_[\w-]+|(api[-_]?key|token|secret|password)(=|%3d)[^&;/?\s]+/gi;

/**
 * A path, or a sentence with one, as it may stand in a log: callers who mistake the place of their key put it there
 * (`/v1/models;api_key=…`, `/admin/keys/lair_…`).
 */
export function logText(text: string): string {
  const shown = text.length > longest ? `${text.slice(0, longest)}…` : text;
  return shown.replace(keys, (_, name: string | undefined, sign: string | undefined) =>
    name === undefined ? "***" : `${name}${sign}***`,
  );
}
