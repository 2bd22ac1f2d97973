import { existsSync } from "node:fs";
import { agentsFile, stateUrl } from "../config/folders.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import { parseDuration } from "../config/units.ts";
import { silent } from "../core/log.ts";
import { readAgentFile } from "../state/agent-file.ts";
import { AgentFileError, type AgentRecord, type KeyRecord } from "../state/agent-records.ts";
import { AgentKeys } from "../state/agent-keys.ts";
import { type IssuedKey, keyState } from "../state/issue-key.ts";
import { openAgentPlace } from "../state/open-agent-place.ts";
import type { State } from "../state/state.ts";
import { toColumns } from "./columns.ts";
import { exitCodes, type ReadFlags, type Terminal, UsageError } from "./command.ts";

interface Job {
  readonly keys: AgentKeys;
  /** What follows the action's own word. */
  readonly words: readonly string[];
  readonly json: boolean;
  /** Milliseconds. */
  readonly expires: number | undefined;
  readonly loaded: Loaded;
  readonly terminal: Terminal;
}

interface Action {
  /** What follows, e.g. `NAME [KEYID]`. */
  readonly takes: string;
  readonly least: number;
  readonly most: number;
  run(job: Job): Promise<void>;
}

const actions: Readonly<Record<string, Action>> = {
  list: { takes: "nothing", least: 0, most: 0, run: list },
  add: { takes: "NAME", least: 1, most: 1, run: add },
  rotate: { takes: "NAME", least: 1, most: 1, run: rotate },
  revoke: { takes: "NAME [KEYID]", least: 1, most: 2, run: revoke },
  remove: { takes: "NAME", least: 1, most: 1, run: remove },
  import: { takes: "FILE", least: 1, most: 1, run: takeOver },
};

/** `lair cloud agents …`: the agents that may connect. */
export async function changeAgents({ words, flags }: ReadFlags, terminal: Terminal): Promise<number> {
  const [word = "list", ...rest] = words;
  const action = Object.hasOwn(actions, word) ? actions[word] : undefined;
  if (action === undefined)
    throw new UsageError(`there is no ${JSON.stringify(word)}; it is ${Object.keys(actions).join(", ")}`);
  if (rest.length < action.least || rest.length > action.most)
    throw new UsageError(`agents ${word} takes ${action.takes}${rest.length > 0 ? `, not ${rest.join(" ")}` : ""}`);
  const { json, expires, ...settings } = flags;
  if (expires !== undefined && word !== "add" && word !== "rotate")
    throw new UsageError("--expires belongs to add and rotate");
  const lifetime = typeof expires === "string" ? readLifetime(expires) : undefined;
  const loaded = await loadConfig({ flags: settings, command: "cloud", env: terminal.env });
  let state: State | undefined;
  try {
    state = await openSharedState(loaded, terminal);
    const keys = new AgentKeys(await openAgentPlace(state, agentsFile(loaded.config, terminal)));
    await action.run({ keys, words: rest, json: json === true, expires: lifetime, loaded, terminal });
    return exitCodes.done;
  } catch (error) {
    terminal.complain(`lair cloud agents: ${error instanceof Error ? error.message : String(error)}`);
    return exitCodes.failed;
  } finally {
    await state?.close();
  }
}

/** The state in which the agents stand; undefined where they stand in a file, as in the relay itself. */
async function openSharedState({ config }: Loaded, terminal: Terminal): Promise<State | undefined> {
  if (!isShared(config)) return undefined;
  const url = stateUrl(config, terminal);
  if (url === undefined) return undefined;
  const { openState } = await import("../open-state.ts");
  return openState(url, { log: silent, replica: "cloud-agents" });
}

function isShared({ relay, state }: Loaded["config"]): boolean {
  return relay.agents === undefined && state.url !== undefined;
}

function readLifetime(text: string): number {
  const lifetime = parseDuration(text);
  if (!(lifetime > 0))
    throw new UsageError(`--expires wants a duration such as 90d or 12h, not ${JSON.stringify(text)}`);
  return lifetime;
}

function list({ keys, json, loaded, terminal }: Job): Promise<void> {
  const now = Date.now();
  const agents = keys.list();
  const file = agentsFile(loaded.config, terminal);
  if (json) terminal.print(JSON.stringify(agents.map(toJson), null, 2));
  else if (agents.length === 0) {
    terminal.print("No agent is registered yet. Register one: lair cloud agents add NAME");
    if (existsSync(file))
      terminal.print(`Those that stand in a file are taken over by: lair cloud agents import ${file}`);
  } else {
    const rows = agents.flatMap((agent) => agent.keys.map((key) => toRow(agent, key, now)));
    for (const line of toColumns([["AGENT", "KEY", "STATE", "CREATED", "EXPIRES", "LAST USED"], ...rows]))
      terminal.print(line);
  }
  return Promise.resolve();
}

async function add({ keys, words: [name = ""], expires, ...job }: Job): Promise<void> {
  tellKey(await keys.add(name, { expires }), job);
}

async function rotate({ keys, words: [name = ""], expires, ...job }: Job): Promise<void> {
  const older = keys.list().find((agent) => agent.name === name);
  tellKey(await keys.rotate(name, { expires }), job);
  if (job.json) return;
  const works = older?.keys.find((key) => keyState(key, Date.now()) === "works");
  if (works !== undefined)
    job.terminal.print(`\n${works.id} works until: lair cloud agents revoke ${name} ${works.id}`);
}

async function revoke({ keys, words: [name = "", keyId], json, terminal }: Job): Promise<void> {
  const revoked = await keys.revoke(name, keyId);
  if (json) terminal.print(JSON.stringify({ name, revoked }));
  else if (revoked.length === 0) terminal.print(`${name}: there was no key left that worked`);
  else terminal.print(`${name}: ${revoked.join(", ")} revoked; tunnels that use it are cut`);
}

async function remove({ keys, words: [name = ""], json, terminal }: Job): Promise<void> {
  await keys.remove(name);
  terminal.print(json ? JSON.stringify({ name, removed: true }) : `${name} is removed; its tunnels are cut`);
}

async function takeOver({ keys, words: [file = ""], json, terminal }: Job): Promise<void> {
  const agents = readAgentFile(file);
  if (agents.size === 0) throw new AgentFileError(`there is no agent in ${file}`);
  await keys.adopt(agents);
  const names = [...agents.keys()];
  terminal.print(json ? JSON.stringify({ names }) : `${names.join(", ")}: taken over, with the keys that they have`);
}

/** The key, which nobody can tell again, and how it is used. */
function tellKey(issued: IssuedKey, { json, loaded, terminal }: Pick<Job, "json" | "loaded" | "terminal">): void {
  const { name, keyId, key, expires } = issued;
  if (json) {
    terminal.print(JSON.stringify({ name, keyId, key, expires: isoTime(expires) }, null, 2));
    return;
  }
  const until = expires === undefined ? "" : `, good until ${isoTime(expires)}`;
  for (const line of [
    `The key ${keyId} of ${name}${until}. It is not shown again:`,
    "",
    `  ${key}`,
    "",
    "Beside the runtime, with the name of this host:",
    "",
    `  lair agent --cloud https://HOST:${loaded.config.relay.port} --key ${key}`,
    "",
    "(--key shows in the list of processes; LAIR_AGENT_KEY and --key-file do not.)",
  ])
    terminal.print(line);
}

function toRow({ name }: AgentRecord, key: KeyRecord, now: number): string[] {
  const day = (time: number | undefined): string =>
    time === undefined ? "-" : new Date(time).toISOString().slice(0, 10);
  const hour =
    key.lastUsed === undefined ? "-" : `${new Date(key.lastUsed).toISOString().slice(0, 13).replace("T", " ")} h UTC`;
  return [
    name,
    key.id,
    keyState(key, now),
    day(key.created),
    key.expires === undefined ? "never" : day(key.expires),
    hour,
  ];
}

function toJson({ name, created, keys }: AgentRecord): object {
  const now = Date.now();
  return {
    name,
    created: isoTime(created),
    keys: keys.map((key) => ({
      id: key.id,
      state: keyState(key, now),
      created: isoTime(key.created),
      expires: isoTime(key.expires),
      revoked: isoTime(key.revoked),
      lastUsed: isoTime(key.lastUsed),
    })),
  };
}

function isoTime(time: number | undefined): string | null {
  return time === undefined ? null : new Date(time).toISOString();
}
