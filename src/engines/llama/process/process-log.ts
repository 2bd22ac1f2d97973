const keptLines = 60;
const longestLine = 500;

/** The last lines that a child process wrote to its standard error. */
export class ProcessLog {
  readonly #lines: string[] = [];
  #partial = "";

  add(text: string): void {
    // What cannot be kept need not be cut into lines either.
    const lines = (this.#partial + text.slice(-keptLines * longestLine * 2)).split(/\r?\n/);
    this.#partial = (lines.pop() ?? "").slice(-longestLine);
    this.#lines.push(...lines.filter((line) => line.trim() !== "").map((line) => printable(line)));
    this.#lines.splice(0, Math.max(0, this.#lines.length - keptLines));
  }

  last(count: number): string[] {
    return [...this.#lines, ...(this.#partial === "" ? [] : [printable(this.#partial)])].slice(-count);
  }

  /** What tells best why the process ended: the last of the lines that speak of an error. */
  cause(): string {
    const telling = this.last(keptLines).filter((line) =>
      /error|fail|assert|invalid|unknown|corrupt|terminate|exceed|expected|what\(\)|bad_alloc|out of memory|abort/i.test(
        line,
      ),
    );
    const lines = telling.filter((line) => !untelling.test(line));
    return [...new Set(lines.length > 0 ? lines : telling)].slice(-2).map(withoutPaths).join("; ");
  }
}

/** Lines that say of every file what they are, or no more than that there was an error, and those of a debugger that llama.cpp calls for a trace of its stack. */
const untelling =
  /^print_info: |failed to load model|error loading model from file|failed to read tensor data|ptrace|debuginfod|No such file or directory\.$|^\s*at |^#\d+ /i;

/** Names in a hostile file may hold what moves a terminal's cursor. */
function printable(line: string): string {
  // oxlint-disable-next-line no-control-regex
  return line.slice(0, longestLine).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd");
}

/** Folders of this machine are nothing for a client. */
function withoutPaths(line: string): string {
  return line.trim().replace(/(?:[A-Za-z]:)?(?:[\\/][^\\/\s'":]+){2,}[\\/]([^\\/\s'":]+)/g, "$1");
}
