import { silent } from "../../src/core/log.ts";
import { ServerProcess } from "../../src/engines/llama-server/server-process.ts";

// A program with a running server: prints the server's address, then waits to be killed.
const [script = ""] = process.argv.slice(2);
const server = new ServerProcess({
  id: "orphan",
  program: process.execPath,
  flags: [script],
  log: silent,
  onIdle: () => undefined,
});
console.log((await server.ensureReady()).origin);
setInterval(() => undefined, 1000);
