import { appendFileSync, mkdirSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";

/** Bytes of a log file and of the older half that is kept beside it. */
const largest = 10 * 1024 * 1024;

/** A log in a file, for where nobody else keeps what a program prints. The older half is `<path>.1`. */
export class LogFile {
  readonly #path: string;
  #size: number;

  /** Throws node's error where the file cannot be written. */
  constructor(path: string) {
    this.#path = path;
    mkdirSync(dirname(path), { recursive: true });
    appendFileSync(path, "", { mode: 0o600 });
    this.#size = statSync(path).size;
  }

  /** Lines with their ends. A full disk must not end the program: what cannot be written is left out. */
  write(lines: string): void {
    try {
      if (this.#size > largest) {
        renameSync(this.#path, `${this.#path}.1`);
        this.#size = 0;
      }
      appendFileSync(this.#path, lines, { mode: 0o600 });
      this.#size += Buffer.byteLength(lines);
    } catch {
      // Nobody could be told of it but this log.
    }
  }
}
