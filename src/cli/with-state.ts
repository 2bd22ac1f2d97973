import { stateUrl } from "../config/folders.ts";
import type { Config } from "../config/schema.ts";
import type { Log } from "../core/log.ts";
import type { State } from "../state/state.ts";
import { exitCodes, type Terminal, UsageError } from "./command.ts";

interface Work {
  /** The command's word, e.g. `usage`. */
  readonly command: string;
  readonly config: Config;
  readonly terminal: Terminal;
}

/** Opens the state for as long as the work takes, and returns the exit code. Throws `UsageError` where there is to be none. */
export async function withState(
  { command, config, terminal }: Work,
  run: (state: State) => Promise<void>,
): Promise<number> {
  const url = stateUrl(config, { env: terminal.env });
  if (url === undefined) throw new UsageError("state.url is none, so nothing is kept; --state names a state");
  // Whoever only asks for help loads none.
  const { openState } = await import("../open-state.ts");
  let state: State | undefined;
  try {
    state = await openState(url, { log: complaints(command, terminal), replica: `lair ${command} ${process.pid}` });
    await run(state);
    return exitCodes.done;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    terminal.complain(`lair ${command}: ${error instanceof Error ? error.message : String(error)}`);
    return exitCodes.failed;
  } finally {
    await state?.close();
  }
}

function complaints(command: string, terminal: Terminal): Log {
  const complain = (_fields: object, message: string): void => terminal.complain(`lair ${command}: ${message}`);
  return { debug() {}, info() {}, warn: complain, error: complain };
}
