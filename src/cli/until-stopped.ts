import { ExposureError } from "../config/exposure.ts";
import type { Loaded } from "../config/load.ts";
import { SecondPortError } from "../config/second-port.ts";
import { formatDuration } from "../config/units.ts";
import { exitCodes, showsColours, type Terminal } from "./command.ts";
import type { Logger } from "./logger.ts";

/** Where the lines of a server go. */
export interface Output {
  readonly log: Logger;
  readonly terminal: Terminal;
  /** Whether a person reads them. */
  readonly pretty: boolean;
}

/** What runs until somebody stops it. */
export interface Program<Running extends { close(): Promise<void> }> {
  /** As a complaint begins, e.g. `lair serve`. */
  readonly command: string;
  /** Milliseconds that answers under way have when it is asked to stop. */
  readonly grace: number;
  start(output: Output): Promise<Running>;
  /** Says that it runs; what takes longer to say follows by itself. */
  announce(running: Running, output: Output): void;
  /** Why it could not start, with what to do. */
  startText(error: unknown): string;
  /** What is still to be done when it is asked to stop, e.g. `2 calls under way`; default: `answers under way`. */
  underWay?(running: Running): string;
  /** SIGHUP, which otherwise stops it like the others. */
  readonly onHangup?: (running: Running, log: Logger) => void;
  /** Where readable lines go instead, e.g. above a status line; without line ends taken off. */
  readonly write?: (line: string) => void;
}

/**
 * Starts the program, and ends it at the first signal to stop: then `close` may take its grace. A second signal ends
 * the process at once. Returns the exit code.
 */
export async function runUntilStopped<Running extends { close(): Promise<void> }>(
  { config, warnings }: Loaded,
  terminal: Terminal,
  program: Program<Running>,
): Promise<number> {
  const { level, format } = config.log;
  const pretty = format === "pretty" || (format === "auto" && terminal.interactive);
  const { createLogger } = await import("./logger.ts");
  const log = createLogger({
    level,
    format: pretty ? "pretty" : "json",
    coloured: showsColours(terminal),
    ...(pretty && program.write !== undefined ? { write: program.write } : {}),
  });
  for (const warning of warnings) log.warn({}, warning);
  try {
    return await runProgram(program, { log, terminal, pretty });
  } finally {
    log.flush();
  }
}

/** Why an address could not be listened on, with what to do; undefined when the error tells of something else. */
export function listenText(error: unknown, address: { host: string; port: number; usual: number }): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, port: refused } = error as NodeJS.ErrnoException & { readonly port?: number };
  const { host, port, usual } = address;
  if (code === "EADDRINUSE" && refused !== undefined && refused !== port)
    return `port ${refused} on ${host} (ollama.listen) is taken by another program, perhaps by Ollama itself. Choose another with --ollama-port, or stop that program`;
  if (code === "EADDRINUSE") {
    return `port ${port} on ${host} is taken by another program, perhaps another lair. Choose another: --port ${port === 65535 ? usual : port + 1}, or --port 0 for any free one`;
  }
  if (code === "EACCES")
    return `port ${port} on ${host} may not be used by this user. Choose one above 1023, e.g. --port ${usual}`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return `${host} is no address of this machine. For this machine only: --host 127.0.0.1; for every network: --host 0.0.0.0`;
  return undefined;
}

async function runProgram<Running extends { close(): Promise<void> }>(
  program: Program<Running>,
  output: Output,
): Promise<number> {
  const { log, terminal } = output;
  let running: Running | undefined;
  const { onHangup } = program;
  const stop = stopSignal(
    log,
    onHangup === undefined ? undefined : () => (running === undefined ? undefined : onHangup(running, log)),
  );
  try {
    running = await program.start(output);
  } catch (error) {
    terminal.complain(`${program.command}: ${program.startText(error)}`);
    const isSetting = error instanceof ExposureError || error instanceof SecondPortError;
    return isSetting ? exitCodes.usage : exitCodes.failed;
  }
  program.announce(running, output);
  log.flush();
  const signal = await stop;
  const grace = formatDuration(program.grace);
  const left = program.underWay?.(running) ?? "answers under way";
  log.info({ signal }, `stopping: ${left} have ${grace} to finish; press again to end at once`);
  log.flush();
  await running.close();
  log.info({}, "stopped");
  return exitCodes.done;
}

/** Resolves at the first signal to stop; the second ends the process. */
function stopSignal(log: Logger, onHangup: (() => void) | undefined): Promise<NodeJS.Signals> {
  const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15, SIGBREAK: 21 };
  return new Promise((resolve) => {
    let asked = false;
    for (const [signal, number] of Object.entries(numbers)) {
      // SIGBREAK is Ctrl-Break, and exists on Windows only.
      if (signal === "SIGBREAK" && process.platform !== "win32") continue;
      process.on(signal, () => {
        if (signal === "SIGHUP" && onHangup !== undefined) onHangup();
        else if (asked) {
          log.warn({ signal }, "ended at once: answers under way are cut off");
          log.flush();
          process.exit(128 + number);
        } else {
          asked = true;
          resolve(signal as NodeJS.Signals);
        }
      });
    }
  });
}
