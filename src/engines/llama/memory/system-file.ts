import { readFileSync } from "node:fs";

/** Text of a file in which the system tells about itself (`/proc/…`, `/sys/…`); null where it does not. */
export function readSystemFile(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
