/** One thing wrong with the configuration. */
export interface Problem {
  /** Path of the setting, e.g. `listen.port`; "" when the trouble is with the file itself. */
  readonly path: string;
  /** Where the value came from: `lair.yaml:3`, `RUNTIME_LISTEN_PORT`, `--port`. */
  readonly source: string;
  /** What was found and what is allowed; never a secret. */
  readonly message: string;
}

/** The configuration was refused; the message lists every problem, one per line. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(problemText).join("\n"));
    this.name = "ConfigError";
    this.problems = problems;
  }
}

/** `listen.port (RUNTIME_LISTEN_PORT): found 99999; allowed: …` */
function problemText({ path, source, message }: Problem): string {
  if (path === "") return `${source}: ${message}`;
  return source === "" ? `${path}: ${message}` : `${path} (${source}): ${message}`;
}
