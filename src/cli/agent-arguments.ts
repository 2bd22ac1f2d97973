import { resolve } from "node:path";
import { settings } from "../config/describe.ts";
import type { Environment } from "../config/environment.ts";
import type { Loaded } from "../config/load.ts";
import { hasFlag } from "../config/setting.ts";
import { parseBoolean } from "../config/units.ts";
import { isLoopback } from "../core/host-url.ts";
import { UsageError, type ReadFlags } from "./command.ts";

/** Sections of the configuration that an agent reads. */
const read = ["agent", "log", "limits", "timeouts", "insecure"];
/** Settings that are paths, which mean something else in another folder. */
const paths = ["agent.tls.ca", "agent.tls.cert", "agent.tls.key"];

/**
 * The arguments with which a service comes to the same configuration as this command line in this shell: what flags and
 * variables say becomes flags, what a file says stays there. Without the agent's key and its file. Throws `UsageError`
 * for any other secret that a flag or variable gives.
 */
export function givenArguments(loaded: Loaded, flags: ReadFlags["flags"], env: Environment): string[] {
  const words: string[] = loaded.file === undefined ? [] : ["--config", resolve(loaded.file)];
  for (const { keys, facts, accepts } of settings()) {
    const path = keys.join(".");
    const source = loaded.sources.get(path);
    const value = source === undefined ? undefined : given(path, source, { flags, env, flag: facts.flag });
    if (value === undefined || keys[0] === undefined) continue;
    if (facts.secret === true) {
      // The agent's key has a file of its own; keys of the runtime's callers count where the runtime is asked with them.
      if (path === "agent.key" || (path !== "agent.openaiKey" && !usesCallersKey(path, loaded))) continue;
      throw new UsageError(
        `${source} gives a key (${path}) that a service definition must not hold: write it into a configuration file that only its user can read, and name that by --config`,
      );
    }
    if (!read.includes(keys[0]) || path === "agent.keyFile") continue;
    const text = paths.includes(path) ? resolve(value) : value;
    if (!hasFlag(facts, "agent")) words.push("--set", `${path}=${text}`);
    else if (!accepts.has("boolean")) words.push(`--${facts.flag}=${text}`);
    else if (parseBoolean(text) === true) words.push(`--${facts.flag}`);
  }
  return words;
}

interface Given {
  readonly flags: ReadFlags["flags"];
  readonly env: Environment;
  readonly flag: string | undefined;
}

/** What a flag or a variable says; undefined where the value comes from a file. */
function given(path: string, source: string, { flags, env, flag }: Given): string | undefined {
  if (source === "--set") {
    const entries = [flags["set"] ?? []].flat().map(String);
    return entries.findLast((entry) => entry.startsWith(`${path}=`))?.slice(path.length + 1);
  }
  if (source.startsWith("--")) {
    const value = flag === undefined ? undefined : flags[flag];
    return value === undefined ? undefined : String(value);
  }
  return env[source];
}

/** The runtime of this machine is asked with the first key of its callers, where it has no key of its own. */
function usesCallersKey(path: string, { config: { agent } }: Loaded): boolean {
  return path === "auth.keys" && agent.openaiKey === undefined && isLoopback(new URL(agent.openai).hostname);
}
