const keptLines = 60;
const longestLine = 500;

/** The last lines that a child process wrote to its standard error. */
export class ProcessLog {
  readonly #lines: string[] = [];
  #partial = "";

  add(text: string): void {
    const lines = (this.#partial + text).split(/\r?\n/);
    this.#partial = (lines.pop() ?? "").slice(-longestLine);
    this.#lines.push(...lines.filter((line) => line.trim() !== "").map((line) => line.slice(0, longestLine)));
    this.#lines.splice(0, Math.max(0, this.#lines.length - keptLines));
  }

  last(count: number): string[] {
    return [...this.#lines, ...(this.#partial === "" ? [] : [this.#partial])].slice(-count);
  }

  /** What tells best why the process ended: the first of the last lines that speak of an error. */
  cause(): string {
    const telling = this.last(keptLines).filter((line) =>
      /error|fail|assert|invalid|unknown|corrupt|terminate|exceed/i.test(line),
    );
    const lines = telling.filter((line) => !/failed to load model|error loading model from file/i.test(line));
    return (lines.length > 0 ? lines : telling).slice(-2).map(withoutPaths).join("; ");
  }
}

/** Folders of this machine are nothing for a client. */
function withoutPaths(line: string): string {
  return line.trim().replace(/(?:[A-Za-z]:)?(?:[\\/][^\\/\s'":]+){2,}[\\/]([^\\/\s'":]+)/g, "$1");
}
