/** GBNF of the integers from `from` to `to`, both ≥ 0. */
export function rangeText(from: bigint, to: bigint): string {
  const ways: string[] = [];
  let start = from;
  // Rows of lengths that are wholly inside become one.
  for (let length = String(from).length; length <= String(to).length; length++) {
    const [least, most] = [length === 1 ? 0n : 10n ** BigInt(length - 1), 10n ** BigInt(length) - 1n];
    const low = start > least ? start : least;
    const high = to < most ? to : most;
    start = high + 1n;
    const before = /^\[1-9\] \[0-9\]\{(\d+),(\d+)\}$/.exec(ways.at(-1) ?? "");
    if (length > 1 && low === least && high === most) {
      if (before !== null) ways[ways.length - 1] = `[1-9] [0-9]{${before[1]},${length - 1}}`;
      else ways.push(`[1-9] [0-9]{${length - 1},${length - 1}}`);
    } else ways.push(digitsText(String(low), String(high)));
  }
  return ways.join(" | ");
}

/** GBNF of the rows of digits from `low` to `high`, which have one length. */
function digitsText(low: string, high: string): string {
  if (low === high) return low === "" ? "" : `"${low}"`;
  if (/^0+$/.test(low) && /^9+$/.test(high)) return `[0-9]{${low.length}}`;
  let shared = 0;
  while (low[shared] === high[shared]) shared++;
  const head = shared === 0 ? "" : `"${low.slice(0, shared)}" `;
  const [from, to] = [low.slice(shared), high.slice(shared)];
  const rest = from.length - 1;
  const [first, last] = [Number(from[0]), Number(to[0])];
  const ways: string[] = [];
  const lowTight = /[1-9]/.test(from.slice(1));
  const highTight = /[0-8]/.test(to.slice(1));
  if (lowTight) ways.push(`"${first}" ${digitsText(from.slice(1), "9".repeat(rest))}`);
  const [start, end] = [lowTight ? first + 1 : first, highTight ? last - 1 : last];
  if (start <= end) ways.push(`${digitClass(start, end)}${rest === 0 ? "" : ` [0-9]{${rest}}`}`);
  if (highTight) ways.push(`"${last}" ${digitsText("0".repeat(rest), to.slice(1))}`);
  const body = ways.join(" | ");
  return ways.length === 1 ? head + body : `${head}(${body})`;
}

export function digitClass(from: number, to: number): string {
  return from === to ? `"${from}"` : `[${from}-${to}]`;
}
