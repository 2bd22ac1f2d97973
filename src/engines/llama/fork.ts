import { type ChildProcess, fork } from "node:child_process";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

/** Starts an entry, by its path from here, as a child process with a channel for messages; its standard error is a pipe. */
export function forkEntry(
  name: "child" | "probe" | "../llama-server/guard",
  args: readonly string[] = [],
): ChildProcess {
  // Without the query that tsx adds to the address of a module in a worker thread.
  const extension = extname(new URL(import.meta.url).pathname);
  const entry = fileURLToPath(new URL(`./${name}${extension}`, import.meta.url));
  return fork(entry, args, {
    execArgv: loaderArguments(process.execArgv),
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
}

/** What loads TypeScript sources is wanted in the child too; a debugger's port or the code of `node -e` is not. */
function loaderArguments(execArgv: readonly string[]): string[] {
  const loader = /^(?:--import|--require|-r|--loader|--experimental-loader)(?==|$)/;
  const takesNext = (argument = ""): boolean => loader.test(argument) && !argument.includes("=");
  return execArgv.filter((argument, index) => loader.test(argument) || takesNext(execArgv[index - 1]));
}
