/**
 * Whether an id matches one of the patterns, in which `*` stands for any text. In time that grows with the id's length
 * alone, not with what the stars could mean: ids come from callers.
 */
export function patternTest(patterns: readonly string[]): (id: string) => boolean {
  const tests = patterns.map(toTest);
  return (id) => tests.some((test) => test(id));
}

function toTest(pattern: string): (id: string) => boolean {
  const [start = "", ...rest] = pattern.split("*");
  const end = rest.pop();
  if (end === undefined) return (id) => id === pattern;
  const least = pattern.length - rest.length - 1;
  return (id) => {
    if (id.length < least || !id.startsWith(start) || !id.endsWith(end)) return false;
    let from = start.length;
    for (const piece of rest) {
      const at = id.indexOf(piece, from);
      if (at === -1) return false;
      from = at + piece.length;
    }
    return from <= id.length - end.length;
  };
}
