import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** A folder with an empty home and a git repository. */
export interface Workplace {
  readonly home: string;
  readonly repository: string;
  remove(): void;
}

/** Copy a token from a file into another, which takes two tools and an answer. */
export interface Task extends Workplace {
  readonly token: string;
  readonly input: string;
  readonly output: string;
  readonly prompt: string;
  /** What the other file holds now. */
  written(): string;
}

/** A workplace with the task's file in it. */
export function makeTask(): Task {
  const workplace = makeWorkplace();
  const token = `TOKEN-${randomUUID()}`;
  const input = path.join(workplace.repository, "input.txt");
  const output = path.join(workplace.repository, "output.txt");
  writeFileSync(input, `${token}\n`);
  return {
    ...workplace,
    token,
    input,
    output,
    prompt: "Copy the token of input.txt into output.txt, then say DONE and the token.",
    written: () => readFileSync(output, "utf8"),
  };
}

function makeWorkplace(): Workplace {
  // macOS's own temporary folder is behind a link, and opencode compares real paths.
  const folder = realpathSync.native(mkdtempSync(path.join(tmpdir(), "lair-client-")));
  const [home, repository] = [path.join(folder, "home"), path.join(folder, "repository")];
  mkdirSync(home);
  execFileSync("git", ["init", "--quiet", repository], { env: environment(home) });
  // Windows holds on to files for a moment after their process has ended.
  return { home, repository, remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }) };
}

/** Nothing of the user's own but what a program needs to run; every way out of this machine leads nowhere. */
export function environment(home: string, more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
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
    ...more,
  };
}
