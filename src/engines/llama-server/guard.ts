import { spawn } from "node:child_process";

/**
 * Entry of a process between this program and a llama-server, which knows nothing of a parent: it ends the server when
 * the program is gone, however that went, and reports how the server ended.
 */

const [command = "", ...args] = process.argv.slice(2);
// In a group of its own: Ctrl-C is for the program, which lets running answers end.
const server = spawn(command, args, {
  stdio: ["ignore", 2, 2],
  detached: process.platform !== "win32",
  windowsHide: true,
});
server.once("error", (error) => report({ code: null, signal: null, problem: error.message }));
server.once("exit", (code, signal) => report({ code, signal, problem: null }));
process.on("message", (signal) => server.kill(signal === "SIGKILL" ? "SIGKILL" : "SIGTERM"));
process.on("disconnect", () => {
  server.kill("SIGKILL");
  process.exit();
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

/** How a llama-server ended; `problem`: it could not be started. */
export interface ServerEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly problem: string | null;
}

function report(end: ServerEnd): void {
  process.send?.(end, () => process.exit());
}
