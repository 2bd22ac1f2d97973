/** A set of Unicode characters: ranges of code points, in order, without overlap. Never a surrogate. */
export type CharacterSet = readonly (readonly [low: number, high: number])[];

const last = 0x10ffff;

/** The set of these ranges, which may overlap and come in any order. */
export function characterSet(ranges: CharacterSet): CharacterSet {
  const sorted = ranges.filter(([low, high]) => low <= high).sort(([a], [b]) => a - b);
  const merged: [number, number][] = [];
  for (const [low, high] of sorted) {
    const before = merged.at(-1);
    if (before !== undefined && low <= before[1] + 1) before[1] = Math.max(before[1], high);
    else merged.push([low, high]);
  }
  return intersection(merged, allCharacters);
}

export const allCharacters: CharacterSet = [
  [0, 0xd7ff],
  [0xe000, last],
];

export function intersection(a: CharacterSet, b: CharacterSet): CharacterSet {
  const shared: [number, number][] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const [x, y] = [a[i], b[j]] as [readonly [number, number], readonly [number, number]];
    const low = Math.max(x[0], y[0]);
    const high = Math.min(x[1], y[1]);
    if (low <= high) shared.push([low, high]);
    if (x[1] < y[1]) i++;
    else j++;
  }
  return shared;
}

export function complement(set: CharacterSet): CharacterSet {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [low, high] of set) {
    if (next < low) rest.push([next, low - 1]);
    next = high + 1;
  }
  if (next <= last) rest.push([next, last]);
  return intersection(rest, allCharacters);
}

/** What stands for itself in a JSON string. U+007F may, but no grammar here writes it. */
const plain = complement([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
]);

/** GBNF of one character of the set as a JSON string writes it, characters that need it escaped; null for none. */
export function jsonCharacter(set: CharacterSet): string | null {
  const ways: string[] = [];
  const itself = intersection(set, plain);
  if (itself.length > 0) ways.push(rangesText(itself));
  for (const [low, high] of intersection(set, complement(plain))) {
    for (let code = low; code <= high; code++) ways.push(escaped(code));
  }
  if (ways.length === 0) return null;
  return ways.length === 1 ? (ways[0] as string) : `(${ways.join(" | ")})`;
}

/** `\n` and its like as literals of GBNF: what JSON.stringify writes, in quotation marks. */
function escaped(code: number): string {
  const text = code === 0x7f ? "\\u007f" : JSON.stringify(String.fromCharCode(code)).slice(1, -1);
  return `"${text.replace(/[\\"]/g, "\\$&")}"`;
}

/** A class of GBNF, e.g. `[a-z\x5F]`. */
export function rangesText(set: CharacterSet): string {
  return `[${set.map(([low, high]) => (low === high ? codeText(low) : `${codeText(low)}-${codeText(high)}`)).join("")}]`;
}

/** Letters and digits stay readable; all else is written by number, which no reader of GBNF can mistake. */
function codeText(code: number): string {
  const character = String.fromCodePoint(code);
  if (/[A-Za-z0-9]/.test(character)) return character;
  const hex = code.toString(16).toUpperCase();
  if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}
