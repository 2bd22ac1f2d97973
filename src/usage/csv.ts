/** The first characters by which a spreadsheet takes a cell for a formula (OWASP, "CSV injection"). */
const formula = /^[=+\-@\t\r]/;

/** Rows as CSV (RFC 4180), the first its heads. What callers chose as names cannot become formulas. */
export function encodeCsv(rows: readonly (readonly (string | number)[])[]): string {
  return rows.map((row) => `${row.map(encodeCell).join(",")}\r\n`).join("");
}

function encodeCell(cell: string | number): string {
  if (typeof cell === "number") return String(cell);
  const plain = formula.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}
