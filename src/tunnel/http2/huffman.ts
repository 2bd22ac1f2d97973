/**
 * Bits of each symbol's code, 256 being the end of a string (RFC 7541, appendix B). The code is canonical: the codes
 * follow from the lengths.
 */
const lengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
];

/**
 * Eight bits of input → what they mean. A symbol: `symbol << 8 | bits`, `bits` (1 to 8) being how many of the eight are
 * its own. More bits are needed: the negative number of the table that reads the next eight.
 */
const tables: Int32Array[] = build();
const endOfString = 256;

/** Huffman-coded bytes of a header → text, each character one byte; undefined when they are no valid code. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string | undefined {
  let text = "";
  let table = tables[0]!;
  let held = 0;
  let bits = 0;
  // Bits read since the last symbol: what is left at the end must be less than a byte.
  let unread = 0;
  for (let at = start; at < end; at++) {
    held = ((held << 8) | bytes[at]!) & 0xffff;
    bits += 8;
    unread += 8;
    while (bits >= 8) {
      const entry = table[(held >> (bits - 8)) & 0xff]!;
      if (entry <= 0) {
        bits -= 8;
        table = tables[-entry]!;
        continue;
      }
      if (entry >> 8 === endOfString) return undefined;
      text += String.fromCharCode(entry >> 8);
      bits -= entry & 0xff;
      table = tables[0]!;
      unread = bits;
    }
  }
  while (bits > 0) {
    const entry = table[(held << (8 - bits)) & 0xff]!;
    if (entry <= 0 || (entry & 0xff) > bits) break;
    text += String.fromCharCode(entry >> 8);
    bits -= entry & 0xff;
    table = tables[0]!;
    unread = bits;
  }
  const mask = (1 << bits) - 1;
  return unread < 8 && (held & mask) === mask ? text : undefined;
}

function build(): Int32Array[] {
  const built: Int32Array[] = [new Int32Array(256)];
  let code = 0;
  for (let length = 1; length <= 30; length++, code *= 2)
    for (let symbol = 0; symbol < lengths.length; symbol++)
      if (lengths[symbol] === length) enter(built, symbol, { code: code++, length });
  return built;
}

function enter(built: Int32Array[], symbol: number, { code, length }: { code: number; length: number }): void {
  let table = built[0]!;
  let left = length;
  for (; left > 8; left -= 8) {
    const index = (code >>> (left - 8)) & 0xff;
    if (table[index] === 0) table[index] = -(built.push(new Int32Array(256)) - 1);
    table = built[-table[index]!]!;
  }
  const first = (code << (8 - left)) & 0xff;
  table.fill((symbol << 8) | left, first, first + (1 << (8 - left)));
}
