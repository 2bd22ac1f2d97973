import { readFileSync } from "node:fs";
import { type Command, exitCodes, readFlags } from "./command.ts";

/** The version of this package, e.g. `0.1.0`. */
export function packageVersion(): string {
  const { version: number } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return number;
}

export const version: Command = {
  help: `usage: lair version

Prints the version of this program, of Node.js, and the platform.

example:
  lair version`,
  run(args, terminal) {
    readFlags(args, {});
    terminal.print(
      `local-ai-runtime ${packageVersion()} (Node.js ${process.versions.node}, ${process.platform}-${process.arch})`,
    );
    return Promise.resolve(exitCodes.done);
  },
};
