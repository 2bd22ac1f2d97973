import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder } from "./native.ts";
import { CannotRun } from "./options.ts";
import { freePort, startPinned } from "./processes.ts";
import { type Proxy, proxyFolder, proxyOf } from "./proxy.ts";

const version = "1.15.2";
/** Newer ones make the headers of replies immutable, and every SSE request of Portkey fails (its issues 1389, 1550). */
const nodeServerVersion = "1.13.5";
const folder = join(cacheFolder, `portkey-${version}`);

/** Portkey listens on all interfaces and forwards wherever a header says; here it shall be reached from this machine only. */
const onlyLoopback = `data:text/javascript,${encodeURIComponent(`
import { Server } from "node:net";
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, port, "127.0.0.1", ...rest.filter((argument) => typeof argument === "function"));
};`)}`;

/** Installs Portkey's gateway into the cache, once. Throws `CannotRun`. */
export function installPortkey(): void {
  if (existsSync(join(folder, "node_modules", "@portkey-ai", "gateway", "build", "start-server.js"))) return;
  console.log(`installing @portkey-ai/gateway@${version} into .cache/bench (once)…`);
  mkdirSync(folder, { recursive: true });
  const manifest = {
    private: true,
    dependencies: { "@portkey-ai/gateway": version },
    overrides: { "@hono/node-server": nodeServerVersion },
  };
  writeFileSync(join(folder, "package.json"), JSON.stringify(manifest, null, 2));
  try {
    execFileSync("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: folder,
      stdio: "inherit",
    });
  } catch {
    throw new CannotRun(
      "npm could not install @portkey-ai/gateway (the first run needs the registry). Leave it out with --only nginx,lair",
    );
  }
}

export async function startPortkey(core: string, upstreamPort: number): Promise<Proxy> {
  const files = proxyFolder();
  const port = await freePort();
  const log = join(files, "logs", "portkey.log");
  const main = join(folder, "node_modules", "@portkey-ai", "gateway", "build", "start-server.js");
  const args = ["--import", onlyLoopback, main, `--port=${port}`, "--headless"];
  const child = startPinned({ command: process.execPath, args, core, env: { NODE_ENV: "production" }, log });
  const headers = {
    authorization: "Bearer sk-bench",
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": `http://127.0.0.1:${upstreamPort}/v1`,
  };
  return proxyOf([{ child, log }], { name: "portkey", port, headers, model: "bench-model" });
}

export function portkeyVersions(): Record<string, string> {
  const versionOf = (name: string) =>
    (JSON.parse(readFileSync(join(folder, "node_modules", name, "package.json"), "utf8")) as { version: string })
      .version;
  return {
    portkey: versionOf("@portkey-ai/gateway"),
    "@hono/node-server": versionOf("@hono/node-server"),
    hono: versionOf("hono"),
  };
}
