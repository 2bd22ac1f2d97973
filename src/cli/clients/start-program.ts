import { spawn } from "node:child_process";
import { constants } from "node:os";
import type { Environment } from "../../config/environment.ts";
import { ClientError } from "./client.ts";
import { commandOf, type Program } from "./find-program.ts";

/** Hands the terminal to a program until it ends. Returns its exit code, 128 + n where signal n ended it. Throws `ClientError`. */
export async function startProgram(program: Program, args: readonly string[], env: Environment): Promise<number> {
  const { file, args: all, verbatim } = commandOf(program, args, env);
  const child = spawn(file, all, { env, stdio: "inherit", windowsVerbatimArguments: verbatim });
  // Ctrl-C reaches both of us by the terminal; what it means is the program's to say.
  const ignore = (): void => undefined;
  const passOn = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on("SIGINT", ignore).on("SIGQUIT", ignore);
  process.on("SIGTERM", passOn).on("SIGHUP", passOn);
  try {
    return await new Promise((resolve, reject) => {
      child.on("error", (error) => reject(new ClientError(`${program.file} does not start: ${error.message}`)));
      child.on("exit", (code, signal) => resolve(code ?? 128 + (constants.signals[signal ?? "SIGTERM"] ?? 0)));
    });
  } finally {
    process.off("SIGINT", ignore).off("SIGQUIT", ignore).off("SIGTERM", passOn).off("SIGHUP", passOn);
  }
}

/** What a program answers to `--version`; undefined: nothing that looks like a version within 5 seconds. */
export function readVersion(program: Program, env: Environment): Promise<string | undefined> {
  const { file, args, verbatim } = commandOf(program, ["--version"], env);
  return new Promise((resolve) => {
    const options = { env, windowsVerbatimArguments: verbatim, windowsHide: true, timeout: 5000 };
    const child = spawn(file, args, { ...options, stdio: ["ignore", "pipe", "ignore"] });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(0, 1000)));
    child.on("error", () => resolve(undefined));
    child.on("close", () => resolve(/\d+\.\d+\.\d+/.exec(said)?.[0]));
  });
}
