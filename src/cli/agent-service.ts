import { execFileSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import { extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { dataFolder } from "../config/folders.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import { proxyFor } from "../config/proxy.ts";
import { checkAgent, type Configured, cloudText } from "./agent-checks.ts";
import { givenArguments } from "./agent-arguments.ts";
import { exitCodes, readFlags, type ReadFlags, type Terminal, UsageError } from "./command.ts";
import type { Program, Site } from "./service/definition.ts";
import { ask, install, type Installation, type KeyFile, preview, ServiceError, uninstall } from "./service/install.ts";
import { define, register } from "./service/registration.ts";
import { logPath } from "./service/scheduled-task.ts";
import { settingFlags } from "./setting-flags.ts";

const siteFlags = {
  system: { type: "boolean" },
  user: { type: "string" },
  "service-name": { type: "string" },
} as const;

/** `lair agent install-service`, `uninstall-service` and `service-status`; returns the exit code. */
export async function agentService(action: string, args: readonly string[], terminal: Terminal): Promise<number> {
  const installs = action === "install-service";
  const read = readFlags(args, {
    ...(installs ? { ...settingFlags("agent"), print: { type: "boolean" } } : {}),
    ...siteFlags,
  });
  if (read.words.length > 0) throw new UsageError(`${action} takes flags only, not ${JSON.stringify(read.words[0])}`);
  try {
    const site = toSite(read, terminal, installs);
    if (installs) return await installService(read, site, terminal);
    return await (action === "uninstall-service" ? uninstallService : tellStatus)(site, terminal);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    terminal.complain(`lair agent ${action}: ${error.message}`);
    return exitCodes.failed;
  }
}

async function installService({ flags }: ReadFlags, site: Site, terminal: Terminal): Promise<number> {
  const loaded = await loadConfig({ flags, command: "agent", env: terminal.env });
  const keyFile = toKeyFile(loaded, site, terminal.env);
  const relay = loaded.config.agent.cloud;
  if (relay === undefined) throw new UsageError(cloudText);
  const { agent } = loaded.config;
  const { refusal, warnings } = checkAgent(relay, withKeyFile(loaded, keyFile));
  if (refusal !== undefined) {
    terminal.complain(`lair agent install-service: ${refusal}`);
    return exitCodes.usage;
  }
  const program: Program = {
    about: `Local AI Runtime: agent of ${new URL(relay).host}`,
    command: toCommand(loaded, flags, { keyFile, site, env: terminal.env }),
    env: site.platform === "win32" ? {} : neededVariables([relay, agent.openai], terminal),
    // Its own grace, and a moment to say goodbye.
    stopTimeout: agent.grace + 10_000,
  };
  const registration = register(site);
  const installation: Installation = { site, registration, definition: define(site, program), keyFile };
  for (const note of [...loaded.warnings, ...warnings, ...notes(program, site, terminal)])
    terminal.complain(`note: ${note}`);
  if (flags["print"] === true) {
    preview(installation, terminal);
    return exitCodes.done;
  }
  const started = await install(installation, terminal);
  if (started) terminal.print(`\nit runs. Its log:  ${registration.logs}`);
  for (const hint of registration.hints) terminal.print(hint);
  return started ? exitCodes.done : exitCodes.failed;
}

async function uninstallService(site: Site, terminal: Terminal): Promise<number> {
  const removed = await uninstall(register(site), ownKeyFile(site), terminal);
  for (const path of removed) terminal.print(`removed: ${path}`);
  if (removed.length === 0) terminal.print(`there is no service ${site.name}; nothing was removed`);
  return exitCodes.done;
}

async function tellStatus(site: Site, terminal: Terminal): Promise<number> {
  const registration = register(site);
  if (!existsSync(registration.file)) {
    terminal.print(`there is no service ${site.name}: ${registration.file} is not there`);
    return exitCodes.failed;
  }
  terminal.print(registration.file);
  const { code, output } = await ask(registration);
  if (output !== "") terminal.print(output);
  terminal.print(`its log:  ${registration.logs}`);
  return code === 0 ? exitCodes.done : exitCodes.failed;
}

/** Whose service it is to be. Throws `UsageError` where that is not clear. */
function toSite({ flags }: ReadFlags, { env }: Terminal, installs: boolean): Site {
  const system = flags["system"] === true;
  const name = typeof flags["service-name"] === "string" ? flags["service-name"] : "lair-agent";
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/i.test(name))
    throw new UsageError(`--service-name takes letters, digits and -, not ${JSON.stringify(name)}`);
  if (typeof flags["user"] === "string" && !system) throw new UsageError("--user goes with --system");
  const { platform } = process;
  if (platform === "win32") {
    const { username, homedir: home } = userInfo();
    const user = `${env["USERDOMAIN"] ?? "."}\\${username}`;
    const folder = system ? join(env["ProgramData"] ?? "C:\\ProgramData", "lair") : dataFolder({ env });
    return { platform, name, system, user, uid: undefined, home, folder };
  }
  const folder = platform === "darwin" ? "/Library/Application Support/lair" : "/etc/lair";
  if (!system) {
    const { username: user, uid } = userInfo();
    return { platform, name, system, user, uid, home: homedir(), folder: dataFolder({ env }) };
  }
  const user = typeof flags["user"] === "string" ? flags["user"] : (env["SUDO_USER"] ?? "");
  const site = { platform, name, system, user, home: homedir(), folder };
  if (!installs) return { ...site, uid: undefined };
  if (user === "" || user === "root")
    throw new UsageError("say who is to run it, for it needs no rights of root's: --user NAME");
  return { ...site, uid: uidOf(user) };
}

/** The user's number. Throws `UsageError` where there is no such user. */
function uidOf(user: string): number {
  try {
    // After `--` a name is none of id's own flags.
    return Number(execFileSync("id", ["-u", "--", user], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  } catch {
    throw new UsageError(`there is no user ${JSON.stringify(user)} on this machine`);
  }
}

/**
 * Where the service finds the agent's key: in the file that is named, in the configuration file (undefined), or in a
 * file of its own, which `install` writes.
 */
function toKeyFile({ config: { agent }, sources }: Loaded, site: Site, env: Terminal["env"]): KeyFile | undefined {
  const own = ownKeyFile(site);
  if (agent.keyFile !== undefined) return { path: resolve(agent.keyFile), key: undefined };
  if (agent.key === undefined) return existsSync(own) ? { path: own, key: undefined } : undefined;
  const source = sources.get("agent.key") ?? "";
  return source.startsWith("--") || env[source] !== undefined ? { path: own, key: agent.key } : undefined;
}

/** How the service will be configured. */
function withKeyFile(loaded: Loaded, keyFile: KeyFile | undefined): Configured {
  if (keyFile === undefined) return loaded;
  const { key: _key, ...agent } = loaded.config.agent;
  return { config: { ...loaded.config, agent: { ...agent, keyFile: keyFile.path } }, sources: loaded.sources };
}

function ownKeyFile({ folder, name }: Site): string {
  return join(folder, `${name}.key`);
}

interface Surroundings {
  readonly keyFile: KeyFile | undefined;
  readonly site: Site;
  readonly env: Terminal["env"];
}

/** The whole command line. Throws `UsageError` for a secret that it would have to hold. */
function toCommand(
  loaded: Loaded,
  flags: ReadFlags["flags"],
  { keyFile, site, env }: Surroundings,
): readonly [string, ...string[]] {
  return [
    process.execPath,
    ...process.execArgv,
    // Not `process.argv[1]`, which is another program where this one was started by another of its names.
    realpathSync(fileURLToPath(new URL(`./main${extname(import.meta.url)}`, import.meta.url))),
    "agent",
    ...givenArguments(loaded, flags, env),
    ...(keyFile === undefined ? [] : ["--key-file", keyFile.path]),
    ...(site.platform === "win32" ? ["--log-file", logPath(site)] : []),
  ];
}

/** What may surprise later. */
function notes({ command }: Program, { platform }: Site, { env }: Terminal): string[] {
  const found: string[] = [];
  if (command.some((word) => /[\\/]_npx[\\/]/.test(word)))
    found.push(
      "npx keeps this program in a cache that may be emptied; npm install -g local-ai-runtime puts it where it stays",
    );
  const variables = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "NODE_EXTRA_CA_CERTS"];
  const set = variables.filter((name) => (env[name] ?? "") !== "");
  if (platform === "win32" && set.length > 0)
    found.push(`a task does not see this prompt's variables; set them for the user with setx: ${set.join(", ")}`);
  return found;
}

/** Variables of this shell without which the addresses could not be reached: a service does not have them by itself. */
function neededVariables(urls: readonly string[], { env }: Terminal): Record<string, string> {
  const needed: Record<string, string> = {};
  for (const url of urls) {
    const proxy = proxyFor(url, env);
    if (proxy === undefined) continue;
    if (new URL(proxy).password !== "")
      throw new ServiceError(
        "the proxy's address holds a password, which a service definition must not; use one without, or give it to the service by its manager's own means",
      );
    needed[url.startsWith("https:") ? "https_proxy" : "http_proxy"] = proxy;
  }
  const direct = env["no_proxy"] ?? env["NO_PROXY"] ?? "";
  if (Object.keys(needed).length > 0 && direct !== "") needed["no_proxy"] = direct;
  const authorities = env["NODE_EXTRA_CA_CERTS"] ?? "";
  if (authorities !== "") needed["NODE_EXTRA_CA_CERTS"] = resolve(authorities);
  return needed;
}
