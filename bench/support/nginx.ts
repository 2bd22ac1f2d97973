import { spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CannotRun } from "./options.ts";
import { findProgram, freePort, startPinned } from "./processes.ts";
import { type Proxy, proxyFolder, proxyOf } from "./proxy.ts";

/**
 * Starts a plain nginx of its own (never the system's service): one worker, keep-alive upstreams, no buffering, no access
 * log, and `directives` besides.
 */
export async function startNginx(
  core: string,
  upstreamPorts: readonly number[],
  directives: readonly string[] = [],
): Promise<Proxy> {
  const program = requireNginx();
  const folder = proxyFolder();
  chmodSync(folder, 0o755);
  const port = await freePort();
  const config = join(folder, "nginx.conf");
  const log = join(folder, "logs", "error.log");
  writeFileSync(config, nginxConfig(port, upstreamPorts, directives));
  const child = startPinned({
    command: program,
    args: ["-p", folder, "-c", config, "-e", log, "-g", "daemon off;"],
    core,
    log,
  });
  return proxyOf([{ child, log }], { name: "nginx", port, headers: {}, model: "bench-model" });
}

export function requireNginx(): string {
  const program = findProgram("nginx");
  if (program !== undefined) return program;
  throw new CannotRun(
    "nginx is missing. Debian, Ubuntu: apt-get install nginx-light (its service need not run). Or leave it out: --only portkey,lair",
  );
}

export function nginxVersion(): string {
  return spawnSync(requireNginx(), ["-v"], { encoding: "utf8" }).stderr.trim().replace("nginx version: nginx/", "");
}

/** The body buffer holds the largest body of the bench: at its default of 16 KB nginx would write each to disk. */
function nginxConfig(port: number, upstreamPorts: readonly number[], directives: readonly string[]): string {
  const servers = upstreamPorts.map((upstreamPort) => `server 127.0.0.1:${upstreamPort} max_fails=0;`);
  return `worker_processes 1;
worker_rlimit_nofile 16384;
pid nginx.pid;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_buffer_size 128k;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream mock {
    ${servers.join(" ")}
    keepalive 1024;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
      ${directives.map((directive) => `${directive};`).join(" ")}
    }
  }
}
`;
}
