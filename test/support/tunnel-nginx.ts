import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, type Line } from "./tunnel-lines.ts";

/** Why no nginx can be tested with here, or undefined. */
export function nginxMissing(): string | undefined {
  const { error } = spawnSync("nginx", ["-v"]);
  return error === undefined ? undefined : "nginx is not installed";
}

export interface NginxOptions {
  /** The servers behind it, as `http://host:port`. */
  readonly targets: readonly string[];
  /** Certificate and key files: it speaks TLS, as the front of a plain relay does. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Another `location` than the documented one, for the upstream `relay`. `$only_websocket` is the Upgrade of WebSockets, else empty. */
  readonly location?: string;
}

/**
 * A real nginx before one or more relays, with the very words that docs/relay.md tells people to write.
 */
export async function startNginx(options: NginxOptions): Promise<Line> {
  const { tls } = options;
  const folder = mkdtempSync(path.join(tmpdir(), "lair-nginx-"));
  const port = await freePort();
  for (const name of ["body", "proxy", "fastcgi", "uwsgi", "scgi"]) mkdirSync(path.join(folder, name));
  const file = path.join(folder, "nginx.conf");
  writeFileSync(file, configuration(folder, port, options));
  const child = spawn("nginx", ["-p", folder, "-c", file, "-e", path.join(folder, "error.log")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const closed = once(child, "close");
  await Promise.race([listening(port), closed.then(() => Promise.reject(new Error(`nginx ended: ${said}`)))]);
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    connections: () => 0,
    async close() {
      child.kill("SIGTERM");
      await closed;
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function listening(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const open = await new Promise<boolean>((resolve) => {
      socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    });
    socket.destroy();
    if (open) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function configuration(folder: string, port: number, options: NginxOptions): string {
  return `daemon off;
master_process off;
worker_processes 1;
pid "${folder}/pid";
error_log "${folder}/error.log";
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path "${folder}/body";
  proxy_temp_path "${folder}/proxy";
  fastcgi_temp_path "${folder}/fastcgi";
  uwsgi_temp_path "${folder}/uwsgi";
  scgi_temp_path "${folder}/scgi";
  map $http_upgrade $only_websocket { default ""; ~*^websocket$ $http_upgrade; }
  ${documented(port, options)}
}
`;
}

/** What docs/relay.md tells people to write, for these servers. */
function documented(port: number, { targets, tls, location }: NginxOptions): string {
  const page = readFileSync(fileURLToPath(new URL("../../docs/relay.md", import.meta.url)), "utf8");
  const block = part(page, /^```nginx\n([\s\S]*?)^```/m);
  const servers = targets.map((target) => `server ${new URL(target).host} max_fails=0;`).join(" ");
  const files = tls === undefined ? "" : `ssl_certificate "${tls.cert}"; ssl_certificate_key "${tls.key}";`;
  const listen = `listen 127.0.0.1:${port}${tls === undefined ? "" : " ssl"}; ${files}`;
  const front = replace(replace(block, /server 127\.0\.0\.1:8081 max_fails=0;/, servers), /# listen.*/, listen);
  return location === undefined ? front : replace(front, /location \/ \{[\s\S]*?\n {4}\}/, location);
}

function part(page: string, pattern: RegExp): string {
  const found = pattern.exec(page)?.[1];
  if (found === undefined) throw new Error(`docs/relay.md has nothing like ${String(pattern)} any more`);
  return found;
}

function replace(text: string, pattern: RegExp, by: string): string {
  if (!pattern.test(text)) throw new Error(`the nginx block of docs/relay.md has nothing like ${String(pattern)}`);
  return text.replace(pattern, () => by);
}
