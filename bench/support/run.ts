import { CannotRun } from "./options.ts";
import { cleanUp } from "./processes.ts";

/**
 * Runs a bench: usage where only that was asked for, 2 as exit status for a reason not to run, and everything that it
 * started is ended, however it ends.
 */
export async function runBench<Options>(
  readOptions: () => Options | null,
  usage: string,
  main: (options: Options) => Promise<number>,
): Promise<void> {
  process.on("exit", cleanUp);
  process.once("SIGINT", () => process.exit(130));
  process.once("SIGTERM", () => process.exit(143));
  try {
    const options = readOptions();
    if (options === null) console.log(usage);
    else process.exitCode = await main(options);
  } catch (error) {
    console.error(error instanceof CannotRun ? error.message : error);
    process.exitCode = 2;
  }
}

/** Ends a bench that hangs, with 2 as exit status. */
export function giveUpAfter(seconds: number): void {
  setTimeout(() => {
    console.error(`the bench is not done after ${seconds} s: it gives up`);
    process.exit(2);
  }, seconds * 1000).unref();
}
