const durationUnits: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const sizeUnits: Record<string, number> = { b: 1, kb: 1024, mb: 1024 ** 2, gb: 1024 ** 3 };

/** What `parseDuration` takes: `30s`, `10m`, `1h30m`, `500ms`, or a bare number of seconds. */
export const durationPattern = /^(\d+(\.\d+)?(ms|s|m|h|d)?|(\d+(\.\d+)?(ms|s|m|h|d))+)$/;
/** What `parseSize` takes: `64MB`, `512KB`, `1GiB`, or a bare number of bytes. */
export const sizePattern = /^\d+(\.\d+)?\s?([kKmMgG][iI]?)?[bB]?$/;

/** A duration in milliseconds; a bare number is seconds. NaN when the text is none. */
export function parseDuration(value: string | number): number {
  if (typeof value === "number") return Math.round(value * 1000);
  if (!durationPattern.test(value)) return Number.NaN;
  if (/^[\d.]+$/.test(value)) return Math.round(Number(value) * 1000);
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/([\d.]+)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (durationUnits[unit ?? ""] ?? Number.NaN);
  }
  return Math.round(total);
}

/** A size in bytes, with 1 KB = 1024 bytes; a bare number is bytes. NaN when the text is none. */
export function parseSize(value: string | number): number {
  if (typeof value === "number") return Math.round(value);
  if (!sizePattern.test(value)) return Number.NaN;
  const unit = value
    .replace(/[\d.\s]/g, "")
    .toLowerCase()
    .replace("i", "")
    .replace(/b?$/, "b");
  return Math.round(Number.parseFloat(value) * (sizeUnits[unit] ?? Number.NaN));
}

/** The lenient yes and no of the original runtime; undefined when the text is neither. */
export function parseBoolean(text: string): boolean | undefined {
  const word = text.trim().toLowerCase();
  if (["1", "true", "yes", "y", "on"].includes(word)) return true;
  if (["0", "false", "no", "n", "off"].includes(word)) return false;
  return undefined;
}

/** Milliseconds as a person writes them: `1h30m`, `30s`, `0`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds === 0) return "0";
  let rest = milliseconds;
  let text = "";
  for (const unit of ["h", "m", "s", "ms"]) {
    const size = durationUnits[unit] ?? 1;
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text;
}

/** Bytes as a person writes them: `64MB`, `32KB`, `100B`. */
export function formatSize(bytes: number): string {
  for (const unit of ["gb", "mb", "kb"]) {
    const size = sizeUnits[unit] ?? 1;
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit.toUpperCase()}`;
  }
  return `${bytes}B`;
}

/** Bytes for a person, as hubs and disks count them: `4.7 GB` of 10⁹ bytes. */
export function formatBytes(bytes: number): string {
  for (const [unit, size] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ] as const) {
    if (bytes >= size) return `${(bytes / size).toFixed(bytes >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return `${Math.round(bytes)} bytes`;
}
