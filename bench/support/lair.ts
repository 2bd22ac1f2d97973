import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CannotRun } from "./options.ts";
import { freePort, startPinned } from "./processes.ts";
import { type Proxy, proxyFolder, proxyOf } from "./proxy.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The key of callers, as a user would set one. */
export const callersKey = "bench-key-0123456789abcdef";
/** What callers send. */
export const keyHeaders = { authorization: `Bearer ${callersKey}` };

/** Builds this checkout's runtime, or takes the one named. Returns its main file. Throws `CannotRun`. */
export function buildRuntime(named: string | undefined): string {
  if (named !== undefined) {
    if (!existsSync(named)) throw new CannotRun(`--runtime: there is no file ${named}`);
    return named;
  }
  try {
    execFileSync(process.execPath, [join(root, "scripts/build.mjs")], { cwd: root, stdio: "inherit" });
  } catch {
    throw new CannotRun(
      "the runtime could not be built (npm run build), see above; --runtime FILE measures another build",
    );
  }
  return join(root, "dist/cli/main.js");
}

/**
 * Starts `lair serve` as a user would: authentication on, one provider besides, models under the provider's prefix
 * (so that the model's name is rewritten in every request and reply), the access log at its default, into a file.
 */
export async function startLair(core: string, upstreamPort: number, main: string): Promise<Proxy> {
  const folder = proxyFolder();
  const port = await freePort();
  const config = join(folder, "lair.yaml");
  const log = join(folder, "logs", "lair.log");
  writeFileSync(config, lairConfig(port, upstreamPort));
  const child = startPinned({ command: process.execPath, args: [main, "serve", "--config", config], core, log });
  return proxyOf([{ child, log }], { name: "lair", port, headers: keyHeaders, model: "mock:bench-model" });
}

export function lairVersion(): string {
  return (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }).version;
}

function lairConfig(port: number, upstreamPort: number): string {
  return `listen: { host: 127.0.0.1, port: ${port} }
auth: { keys: [${callersKey}] }
providers:
  ollama: { enabled: false }
  mock: { kind: openai, urls: ["http://127.0.0.1:${upstreamPort}"] }
`;
}
