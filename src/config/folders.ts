import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { cleaned, type Environment } from "./environment.ts";

/** The machine and user whose folders are meant; default: this one. */
export interface Owner {
  readonly env: Environment;
  readonly home?: string;
  readonly platform?: NodeJS.Platform;
}

/**
 * Where this user's downloads of ours lie, that a program may not lose: `$XDG_DATA_HOME/lair` or `~/.local/share/lair`,
 * on macOS `~/Library/Application Support/lair`, on Windows `%LOCALAPPDATA%\lair` (which does not roam).
 */
export function dataFolder({ env, home = homedir(), platform = process.platform }: Owner): string {
  if (platform === "win32") return join(cleaned(env["LOCALAPPDATA"]) || join(home, "AppData", "Local"), "lair");
  const xdg = cleaned(env["XDG_DATA_HOME"]);
  if (xdg !== "" && isAbsolute(xdg)) return join(xdg, "lair");
  return platform === "darwin"
    ? join(home, "Library", "Application Support", "lair")
    : join(home, ".local", "share", "lair");
}

/**
 * Where this user's files of ours lie that can be made again: `$XDG_CACHE_HOME/lair` or `~/.cache/lair`, on macOS
 * `~/Library/Caches/lair`, on Windows `%LOCALAPPDATA%\lair\cache`.
 */
export function cacheFolder({ env, home = homedir(), platform = process.platform }: Owner): string {
  if (platform === "win32") return join(dataFolder({ env, home, platform }), "cache");
  const xdg = cleaned(env["XDG_CACHE_HOME"]);
  if (xdg !== "" && isAbsolute(xdg)) return join(xdg, "lair");
  return platform === "darwin" ? join(home, "Library", "Caches", "lair") : join(home, ".cache", "lair");
}

/** Where `lair pull` puts models: `LAIR_MODELS`, else `models` in the data folder. Always among the sources of models. */
export function modelsFolder(owner: Owner): string {
  const named = cleaned(owner.env["LAIR_MODELS"]);
  return named === "" ? join(dataFolder(owner), "models") : resolve(named);
}

/**
 * Where keys, limits and usage are kept: as configured (a file's path is made absolute), else `state.db` in the data
 * folder; undefined where the configuration says `none`. Who needs no state must ask `state.url` before.
 */
export function stateUrl({ state }: { readonly state: { readonly url?: string } }, owner: Owner): string | undefined {
  if (state.url === "none") return undefined;
  if (state.url === undefined) return join(dataFolder(owner), "state.db");
  const file = state.url.replace(/^sqlite:/i, "");
  return isFile(file) ? resolve(file) : file;
}

/** The folder with usage that is on its way into the state at that place: one for each state, that none is taken to another. */
export function journalFolder(url: string, owner: Owner): string {
  if (isFile(url)) return `${url}.journal`;
  const { host, pathname } = new URL(url);
  const name = `${host}${pathname}`.replace(/[^A-Za-z0-9.-]+/g, "-").replace(/-$/, "");
  return join(dataFolder(owner), "journal", name);
}

/** A scheme has two letters at least: `C:\\…` is a path. */
function isFile(url: string): boolean {
  return !/^[a-z][a-z\d+.-]+:/i.test(url);
}

/** The file with the agents that may connect to the relay: as configured, else `agents.json` in the data folder. */
export function agentsFile({ relay }: { readonly relay: { readonly agents?: string } }, owner: Owner): string {
  return relay.agents ?? join(dataFolder(owner), "agents.json");
}
