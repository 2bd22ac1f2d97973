import type { Log } from "../../src/core/log.ts";

/** Everything that was logged. */
export interface KeptLog extends Log {
  readonly lines: string[];
  /** Resolves with the first line that matches, also one that was written before. */
  until(pattern: RegExp): Promise<string>;
}

/** Waits until something that nobody announces is so; gives up with `what` after 20 s. */
export async function waitUntil(holds: () => boolean | Promise<boolean>, what = "what was waited for"): Promise<void> {
  const end = performance.now() + 20_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not so after 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export function keptLog(): KeptLog {
  const lines: string[] = [];
  const lookers = new Set<(line: string) => void>();
  const keep =
    (level: string) =>
    (fields: object, message: string): void => {
      const line = `${level} ${message} ${JSON.stringify(fields, (_name, value: unknown) => (value instanceof Error ? (value.stack ?? value.message) : value))}`;
      lines.push(line);
      for (const look of lookers) look(line);
    };
  return {
    lines,
    debug: keep("debug"),
    info: keep("info"),
    warn: keep("warn"),
    error: keep("error"),
    until: (pattern) =>
      new Promise((resolve) => {
        const known = lines.find((line) => pattern.test(line));
        if (known !== undefined) return resolve(known);
        const look = (line: string): void => {
          if (!pattern.test(line)) return;
          lookers.delete(look);
          resolve(line);
        };
        lookers.add(look);
      }),
  };
}
