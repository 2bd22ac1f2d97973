import { existsSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, relative } from "node:path";
import type { Assignment, Environment } from "./environment.ts";
import { cleaned } from "./environment.ts";
import { ConfigError } from "./problems.ts";
import { type Flags, type ParsedFile, type Resolved, resolveConfig } from "./resolve.ts";
import type { FlagCommand } from "./setting.ts";

export interface LoadOptions {
  readonly flags?: Flags;
  /** Whose flags they are; default: those of `serve`. */
  readonly command?: FlagCommand;
  /** Default: the environment of this process. */
  readonly env?: Environment;
  /** Default: the current folder. */
  readonly cwd?: string;
  /** Default: the user's own. */
  readonly home?: string;
  readonly platform?: NodeJS.Platform;
}

export interface Loaded extends Resolved {
  /** The file that was read, as shown to the user. */
  readonly file?: string;
}

/** No configuration file is anywhere near this; a larger one is a mistake. */
const largestFile = 1024 * 1024;

/**
 * The configuration: flags over environment over file over defaults. The file is that of `--config`, else of
 * `LAIR_CONFIG`, else `lair.yaml` here, else the user's own. Throws `ConfigError` with every problem there is.
 */
export async function loadConfig(options: LoadOptions = {}): Promise<Loaded> {
  const { flags = {}, command = "serve", env = process.env, cwd = process.cwd() } = options;
  const path = findFile(options);
  const file = path === undefined ? undefined : await parseFile(path, cwd);
  const layers = { flags, command, env, found: modelsFolder(cwd) };
  const resolved = resolveConfig({ ...layers, ...(file === undefined ? {} : { file }) });
  return file === undefined ? resolved : { ...resolved, file: file.name };
}

/** Where the user's own file is looked for, when there is none here. */
export function userFile({
  env = process.env,
  home = homedir(),
  platform = process.platform,
}: LoadOptions = {}): string {
  if (platform === "win32")
    return join(cleaned(env["APPDATA"]) || join(home, "AppData", "Roaming"), "lair", "lair.yaml");
  const xdg = cleaned(env["XDG_CONFIG_HOME"]);
  if (xdg !== "" && isAbsolute(xdg)) return join(xdg, "lair", "lair.yaml");
  return platform === "darwin"
    ? join(home, "Library", "Application Support", "lair", "lair.yaml")
    : join(home, ".config", "lair", "lair.yaml");
}

function findFile(options: LoadOptions): string | undefined {
  const { flags = {}, env = process.env, cwd = process.cwd() } = options;
  const flag = flags["config"];
  const named =
    typeof flag === "string"
      ? { path: flag, source: "--config" }
      : { path: cleaned(env["LAIR_CONFIG"]), source: "LAIR_CONFIG" };
  if (named.path !== "") {
    const path = isAbsolute(named.path) ? named.path : join(cwd, named.path);
    if (!existsSync(path))
      throw new ConfigError([{ path: "", source: named.source, message: `there is no file ${named.path}` }]);
    return path;
  }
  return [join(cwd, "lair.yaml"), join(cwd, "lair.yml"), userFile(options)].find((path) => existsSync(path));
}

async function parseFile(path: string, cwd: string): Promise<ParsedFile> {
  const near = relative(cwd, path);
  const name = near !== "" && !near.startsWith("..") && !isAbsolute(near) ? near : path;
  const text = readText(path, name);
  const { isMap, isScalar, LineCounter, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const problems = document.errors.map(({ code, message, pos }) => {
      const hint =
        code === "BAD_DQ_ESCAPE"
          ? "; in YAML write Windows paths without quotes or in single quotes: 'M:\\models'"
          : "";
      return {
        path: "",
        source: `${name}:${lines.linePos(pos[0]).line}`,
        message: `this is not valid YAML: ${withoutSource(message)}${hint}`,
      };
    });
    throw new ConfigError(problems);
  }
  if (document.contents !== null && !isMap(document.contents)) {
    throw new ConfigError([
      {
        path: "",
        source: name,
        message: "the file must hold settings such as `listen:`, not a list or a single value",
      },
    ]);
  }
  return {
    name,
    tree: toTree(() => document.toJS({ maxAliasCount: 100 }) ?? {}, name),
    line(keys) {
      const parent = keys.length === 1 ? document.contents : document.getIn(keys.slice(0, -1), true);
      const pair = isMap(parent)
        ? parent.items.find(({ key }) => isScalar(key) && String(key.value) === keys.at(-1))
        : undefined;
      const range = isScalar(pair?.key) ? pair.key.range : undefined;
      return range === undefined || range === null ? undefined : lines.linePos(range[0]).line;
    },
  };
}

function toTree(convert: () => unknown, name: string): unknown {
  try {
    return convert();
  } catch (error) {
    // Too many aliases, a file that unfolds without end; or an alias of nothing: a text that begins with `*`, without quotes.
    throw new ConfigError([
      {
        path: "",
        source: name,
        message: `this YAML cannot be read: ${withoutSource(error instanceof Error ? error.message : String(error))}`,
      },
    ]);
  }
}

/** What the parser says of a text without what stands there, which may be a secret: that follows a colon. */
function withoutSource(message: string): string {
  return message.replace(/[:\n].*$/s, "");
}

/** The text of a file in UTF-8 or, as PowerShell 5 writes it, in UTF-16 with its mark. */
function readText(path: string, name: string): string {
  try {
    const { size } = statSync(path);
    if (size > largestFile) throw new Error(`it is ${size} bytes large; allowed: ${largestFile}`);
    const bytes = readFileSync(path);
    const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-8";
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (error) {
    throw new ConfigError([
      {
        path: "",
        source: name,
        message: `the file cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      },
    ]);
  }
}

/** As the original does: a folder `models` beside the program's start is used when nothing else is said. */
function modelsFolder(cwd: string): Assignment[] {
  const exists = statSync(join(cwd, "models"), { throwIfNoEntry: false })?.isDirectory() === true;
  return exists ? [{ keys: ["llama", "model"], value: "models", source: "the folder models is here" }] : [];
}
