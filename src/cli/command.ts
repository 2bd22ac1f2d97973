import { parseArgs, type ParseArgsConfig } from "node:util";
import { suggestion } from "../core/nearest.ts";
import type { Environment } from "../config/environment.ts";

/** Where a command reads from and writes to. */
export interface Terminal {
  readonly env: Environment;
  /** A line of the answer. */
  print(line: string): void;
  /** A piece of the answer, without a line end. */
  write(text: string): void;
  /** A line about trouble; goes to the error stream. */
  complain(line: string): void;
  /** What is typed or piped in, and where it is typed. */
  readonly input: NodeJS.ReadStream;
  readonly output: NodeJS.WriteStream;
  /** Whether a person is looking. */
  readonly interactive: boolean;
}

/** Whether the terminal shows colours, and its user wants them (NO_COLOR). */
export function showsColours({ interactive, output, env }: Terminal): boolean {
  return interactive && output.hasColors?.(16, env) === true;
}

/** Whether a line can be written over. */
export function rewritesLines({ interactive, env }: Terminal): boolean {
  return interactive && env["TERM"] !== "dumb";
}

/** What the program returns to the shell. */
export const exitCodes = {
  done: 0,
  /** It could not do what was asked: the port is taken, a start failed. */
  failed: 1,
  /** It was asked wrongly: an unknown command or flag, a refused configuration. */
  usage: 2,
} as const;

/** One word after `lair`. */
export interface Command {
  readonly help: string;
  /** Runs to the end and returns the exit code. Throws `UsageError` or `ConfigError` for what was asked wrongly. */
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

/** The command line makes no sense; the message is one line. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What `readFlags` found: words without dashes, and flags by name. */
export interface ReadFlags {
  readonly words: readonly string[];
  readonly flags: Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;
}

/** What `readFlags` is told of the flags there are. */
export type Options = NonNullable<ParseArgsConfig["options"]>;

/** The command line by the flags that exist. Throws `UsageError` for any other, with the nearest that exists. */
export function readFlags(args: readonly string[], options: Options): ReadFlags {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { ...options, help: { type: "boolean", short: "h" } },
      allowPositionals: true,
    });
    return { words: positionals, flags: values };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const unknown = /Unknown option '(--?[^']*)'/.exec(message)?.[1];
    if (unknown === undefined) throw new UsageError(message.split("\n")[0]?.replace(/\. .*$/s, "") ?? message);
    throw new UsageError(
      `there is no flag ${unknown}${suggestion(
        unknown,
        Object.keys(options).map((name) => `--${name}`),
      )}`,
    );
  }
}

/** Without control characters: what a caller or another server sends must not steer the terminal. */
export function plainText(text: string): string {
  return text.replace(/\p{Cc}/gu, " ");
}
