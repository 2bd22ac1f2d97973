import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { JsonObject } from "../../src/core/json.ts";

/** The release that the tests drive. */
const release = "opencode-ai@1.18.33";
const installer = fileURLToPath(new URL("../../scripts/install-client.mjs", import.meta.url));
/** Exit code of the installer where the package registry cannot be reached. */
const unreachable = 3;

export interface OpencodeOptions {
  readonly program: string;
  /** Works here. */
  readonly repository: string;
  /** Its home, empty at first. */
  readonly home: string;
  /** Laid over the project's `opencode.json`. */
  readonly config: JsonObject;
  /** `provider/model` */
  readonly model: string;
  readonly prompt: string;
  readonly env?: Record<string, string>;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/** What `opencode run` has done. */
export interface OpencodeRun {
  /** Its exit code; null when it had to be ended. */
  readonly code: number | null;
  /** What it printed as the model's words. */
  readonly texts: readonly string[];
  readonly tools: readonly { name: string; status: string; input: JsonObject }[];
  /** How it understood the end of each answer. */
  readonly steps: readonly { reason: string; promptTokens: number; cachedTokens: number; completionTokens: number }[];
  /** Errors that it showed, and what is no information in its own log. */
  readonly complaints: readonly string[];
}

interface OpencodeEvent {
  readonly type: string;
  readonly error?: unknown;
  readonly part?: {
    readonly text?: string;
    readonly tool?: string;
    readonly state?: { readonly status: string; readonly input: JsonObject };
    readonly reason?: string;
    readonly tokens?: { readonly input: number; readonly output: number; readonly cache: { readonly read: number } };
  };
}

/** The real opencode, installed if need be; or why there is none to test with. Throws when it cannot be installed. */
export async function findOpencode(): Promise<{ program: string } | { missing: string }> {
  if ((process.env["LAIR_SKIP_CLIENTS"] ?? "") !== "") return { missing: "LAIR_SKIP_CLIENTS is set" };
  const child = spawn(process.execPath, [installer, release], { stdio: ["ignore", "pipe", "pipe"] });
  let program = "";
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (program += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
    process.stderr.write(chunk);
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code === 0) return { program: program.trim() };
  if (code === unreachable)
    return { missing: `${release} is not installed and the package registry cannot be reached` };
  throw new Error(`${release} could not be installed:\n${said}`);
}

/** Runs `opencode run` to its end, cut off from the internet. */
export async function runOpencode(options: OpencodeOptions): Promise<OpencodeRun> {
  const { program, repository, home, model, prompt, signal } = options;
  const child = spawn(program, ["run", "--format", "json", "--model", model, prompt], {
    cwd: repository,
    env: environment(home, { ...options.env, OPENCODE_CONFIG_CONTENT: JSON.stringify(options.config) }),
    stdio: ["ignore", "pipe", "pipe"],
    windowsHide: true,
    killSignal: "SIGKILL",
    signal,
  });
  let printed = "";
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("close", resolve);
    child.on("error", (error) => signal.aborted || reject(error));
  });
  const events = printed
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as OpencodeEvent);
  return {
    code,
    ...summary(events),
    complaints: [...errorsOf(events), ...said.split("\n"), ...logged(home)].filter((line) => line.trim() !== ""),
  };
}

/** A folder with an empty home and a git repository. */
export interface Workplace {
  readonly home: string;
  readonly repository: string;
  remove(): void;
}

export function makeWorkplace(): Workplace {
  // macOS's own temporary folder is behind a link, and opencode compares real paths.
  const folder = realpathSync.native(mkdtempSync(path.join(tmpdir(), "lair-opencode-")));
  const [home, repository] = [path.join(folder, "home"), path.join(folder, "repository")];
  mkdirSync(home);
  execFileSync("git", ["init", "--quiet", repository], { env: environment(home) });
  // Windows holds on to files for a moment after their process has ended.
  return { home, repository, remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }) };
}

/** Nothing of the user's own but what a program needs to run; every way out of this machine leads nowhere. */
function environment(home: string, more: Record<string, string> = {}): NodeJS.ProcessEnv {
  const needed = /^(PATH|PATHEXT|SystemRoot|SystemDrive|ComSpec|windir|TEMP|TMP|TMPDIR|LANG)$/i;
  const nowhere = "http://127.0.0.1:9";
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => needed.test(name))),
    HOME: home,
    USERPROFILE: home,
    APPDATA: path.join(home, "AppData"),
    LOCALAPPDATA: path.join(home, "AppData"),
    XDG_DATA_HOME: path.join(home, "data"),
    XDG_CONFIG_HOME: path.join(home, "config"),
    XDG_CACHE_HOME: path.join(home, "cache"),
    XDG_STATE_HOME: path.join(home, "state"),
    HTTP_PROXY: nowhere,
    HTTPS_PROXY: nowhere,
    NO_PROXY: "127.0.0.1",
    npm_config_registry: nowhere,
    npm_config_fetch_retries: "0",
    OPENCODE_DISABLE_MODELS_FETCH: "1",
    OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
    ...more,
  };
}

function summary(events: OpencodeEvent[]): Pick<OpencodeRun, "texts" | "tools" | "steps"> {
  const parts = (type: string): NonNullable<OpencodeEvent["part"]>[] =>
    events.flatMap((event) => (event.type === type && event.part !== undefined ? [event.part] : []));
  return {
    texts: parts("text").map(({ text }) => text ?? ""),
    tools: parts("tool_use").map(({ tool, state }) => ({
      name: tool ?? "",
      status: state?.status ?? "",
      input: state?.input ?? {},
    })),
    steps: parts("step_finish").map(({ reason, tokens }) => ({
      reason: reason ?? "",
      promptTokens: (tokens?.input ?? 0) + (tokens?.cache.read ?? 0),
      cachedTokens: tokens?.cache.read ?? 0,
      completionTokens: tokens?.output ?? 0,
    })),
  };
}

function errorsOf(events: OpencodeEvent[]): string[] {
  return events.filter(({ type }) => type === "error").map(({ error }) => JSON.stringify(error));
}

function logged(home: string): string[] {
  const folder = path.join(home, "data/opencode/log");
  if (!existsSync(folder)) return [];
  const lines = readdirSync(folder).flatMap((name) => readFileSync(path.join(folder, name), "utf8").split("\n"));
  // It looks for a newer package of its own at the registry, which is out of reach here.
  return lines.filter((line) => !line.includes("level=INFO") && !line.includes("background dependency install failed"));
}
