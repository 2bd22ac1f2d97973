#!/usr/bin/env node
// Two gateways, two relays, three runtimes and one Redis on this machine, until Ctrl-C. See README.md beside it.
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs, promisify } from "node:util";
import { ensureBuilt, ensureInstalled, program, requireNode } from "../../scripts/bootstrap.mjs";

requireNode();
const { values } = parseArgs({
  options: { port: { type: "string", default: "8201" }, redis: { type: "string" }, help: { type: "boolean" } },
});
if (values.help === true) {
  console.log(`usage: node examples/cluster/start.mjs [--port 8201] [--redis redis://host:6379]

--port   the first of ten ports in a row; 0 takes free ones
--redis  a Redis that runs already, of which only keys with the prefixes cluster-gateways and cluster-relays are used;
         without it, redis-server is started`);
  process.exit(0);
}
await ensureInstalled();
await ensureBuilt();

const folder = mkdtempSync(path.join(tmpdir(), "lair-cluster-"));
/** What runs, in the order of its start. */
const running = [];
let stopping = false;

process.on("SIGINT", () => void stop(0));
process.on("SIGTERM", () => void stop(0));
try {
  await startAll();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  await stop(1);
}

async function startAll() {
  const ports = await choosePorts(Number(values.port));
  const redis = values.redis ?? (await startRedis(ports.redis));
  // What relays count stands apart from what gateways do, or each call would be there twice.
  const [gatewayState, relayState] = ["gateways", "relays"].map((name) => withPrefix(redis, `cluster-${name}`));
  const relayToken = randomBytes(24).toString("base64url");
  const asRelay = { LAIR_STATE: relayState, LLM_V1_PROXY_TOKEN: relayToken, LAIR_RELAY_GRACE: "5s" };
  const relays = await Promise.all(
    ports.relays.map((port, at) =>
      start(`relay${at + 1}`, ["cloud", "--port", String(port)], {
        ...asRelay,
        LAIR_RELAY_INTERNAL_PORT: String(ports.internal[at]),
      }),
    ),
  );
  const homes = { home: relays[0], office: relays[1], laptop: relays[1] };
  for (const [name, relay] of Object.entries(homes)) {
    // Of an earlier run, in a Redis that has been there before.
    await lair(["cloud", "agents", "remove", name], asRelay).catch(() => undefined);
    const { key } = JSON.parse(await lair(["cloud", "agents", "add", name, "--json"], asRelay));
    // Where an Ollama runs, the demo is offered only when it is asked for.
    const args = ["serve", "--port", "0", "--demo", "--publish", relay.url];
    homes[name] = await start(name, args, { LAIR_AGENT_KEY: key });
    await untilSaid(homes[name], /connected to the relay/);
  }
  const upstreams = relays.flatMap(({ name, url }) => ["--upstream", `${name}=${url}`]);
  const asGateway = { LAIR_STATE: gatewayState };
  const { key } = JSON.parse(await lair(["keys", "create", `cluster-${Date.now()}`, "--json"], asGateway));
  for (const { name } of relays) asGateway[`LAIR_GATEWAY_UPSTREAMS_${name.toUpperCase()}_KEY`] = relayToken;
  const gateways = await Promise.all(
    ports.gateways.map((port, at) =>
      start(`gateway${at + 1}`, ["gateway", "--port", String(port), ...upstreams], asGateway),
    ),
  );
  tell({ gateways, relays, homes, key, gatewayState });
}

/** Ten ports in a row, or free ones. */
async function choosePorts(first) {
  const all = first === 0 ? await freePorts(7) : Array.from({ length: 10 }, (_, at) => first + at);
  const [gateway1, gateway2, relay1, relay2, internal1, internal2, redis] = all;
  return { gateways: [gateway1, gateway2], relays: [relay1, relay2], internal: [internal1, internal2], redis };
}

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function startRedis(port) {
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder];
  const child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
  const missing = once(child, "error").then(() => {
    throw new Error(
      "redis-server is not installed here. Install Redis or Valkey, or name one that runs: --redis redis://127.0.0.1:6379",
    );
  });
  await Promise.race([missing, untilSaid(enter("redis", child), /Ready to accept connections/)]);
  return `redis://127.0.0.1:${port}`;
}

function withPrefix(url, prefix) {
  return `${url}${url.includes("?") ? "&" : "?"}prefix=${prefix}`;
}

/** Starts one of the programs, and waits until it says that it is ready, and where. */
async function start(name, args, env) {
  const child = spawn(process.execPath, [program, ...args, "--log-format", "json"], {
    env: environment(env),
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const entry = enter(name, child);
  const [, url] = await untilSaid(entry, /"url":"(http[^"]+)"/);
  return Object.assign(entry, { url });
}

/** Runs a command to its end; gives what it printed. */
async function lair(args, env) {
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args], {
    env: environment(env),
    cwd: folder,
  });
  return stdout;
}

/** No configuration and no folder of this user's is touched. */
function environment(env) {
  const { PATH, SystemRoot } = process.env;
  const own = { HOME: folder, USERPROFILE: folder, APPDATA: folder, LOCALAPPDATA: folder, XDG_DATA_HOME: folder };
  return { PATH, ...(SystemRoot === undefined ? {} : { SystemRoot }), ...own, ...env };
}

function enter(name, child) {
  const entry = { name, child, said: "", onSaid: () => undefined };
  running.push(entry);
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text) => {
      entry.said = (entry.said + text).slice(-20_000);
      entry.onSaid();
    });
  entry.ended = new Promise((resolve) => child.once("close", resolve));
  child.once("exit", (code, signal) => {
    if (!stopping) console.log(`${name} has ended (${signal ?? code})`);
  });
  return entry;
}

function untilSaid(entry, pattern) {
  return new Promise((resolve, reject) => {
    const look = () => {
      const match = pattern.exec(entry.said);
      if (match !== null) resolve(match);
    };
    entry.onSaid = look;
    void entry.ended.then(() => reject(new Error(`${entry.name} could not be started:\n${entry.said.slice(-2000)}`)));
    look();
  });
}

function tell({ gateways, relays, homes, key, gatewayState }) {
  const [one, other] = gateways.map(({ url }) => url);
  const body = JSON.stringify({ model: "demo", messages: [{ role: "user", content: "Hello!" }] });
  const windows = process.platform === "win32";
  const call = (url) =>
    windows
      ? `Invoke-WebRequest ${url}/v1/chat/completions -Method Post -Headers @{ Authorization = "Bearer ${key}" } -ContentType application/json -Body '${body}'`
      : `curl -i ${url}/v1/chat/completions -H "Authorization: Bearer ${key}" -H "Content-Type: application/json" -d '${body}'`;
  const usage = windows
    ? `$env:LAIR_STATE = '${gatewayState}'; npm run lair -- usage`
    : `LAIR_STATE='${gatewayState}' npm run lair -- usage`;
  const row = ({ name, child, url }) => `  ${name.padEnd(10)} ${String(child.pid).padEnd(8)} ${url ?? ""}`;
  console.log(`
  NAME       PROCESS  ADDRESS
${[...running.filter(({ name }) => name === "redis"), ...gateways, ...relays, ...Object.values(homes)].map(row).join("\n")}

Ask either gateway; x-lair-target says by which relay, x-lair-agent which runtime has answered:

  ${call(one)}
  ${call(other)}

What was used, from both:

  ${usage}

Then end what you like, and ask again: ${windows ? "Stop-Process <process> -Force" : "kill -9 <process>"}, of a relay, a gateway, a runtime, or Redis.
Ctrl-C ends all of it.
`);
}

async function stop(code) {
  if (stopping) return;
  stopping = true;
  // In turn, and Redis last: what was used is still written down.
  for (const kind of [/^gateway/, /^relay|^home$|^office$|^laptop$/, /^redis/]) {
    const own = running.filter(({ name }) => kind.test(name));
    for (const { child } of own) child.kill("SIGTERM");
    await Promise.all(own.map(({ ended }) => ended));
  }
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
  process.exit(code);
}
