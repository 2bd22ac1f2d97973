/** A sentence's end for a name that nobody has: the nearest of the names that there are, or where to find them. */
export function nearNames(name: string, known: readonly string[]): string {
  // Callers may ask for texts of any length.
  const asked = name.slice(0, longest).toLowerCase();
  const near = known
    .map((other) => ({ other, distance: distance(asked, other.toLowerCase()) }))
    .filter(({ other, distance: far }) => far <= Math.max(3, other.length / 3) || other.includes(name))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ other }) => `'${other}'`);
  return near.length > 0 ? `did you mean ${near.join(" or ")}?` : "GET /v1/models lists all there are";
}

/** Characters of a name that are compared. */
const longest = 200;

/** Edits that turn one text into the other (Levenshtein). */
function distance(from: string, to: string): number {
  const a = from.slice(0, longest);
  const b = to.slice(0, longest);
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
