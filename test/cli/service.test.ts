import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Program, Site } from "../../src/cli/service/definition.ts";
import { define, register } from "../../src/cli/service/registration.ts";
import { startChain } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { run } from "./program.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-service-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

const sites: Record<"linux" | "darwin" | "win32", Site> = {
  linux: {
    platform: "linux",
    name: "lair-agent",
    system: false,
    user: "ada",
    uid: 1000,
    home: "/home/ada",
    folder: "/home/ada/.local/share/lair",
  },
  darwin: {
    platform: "darwin",
    name: "lair-agent",
    system: false,
    user: "ada",
    uid: 501,
    home: "/Users/ada",
    folder: "/Users/ada/Library/Application Support/lair",
  },
  win32: {
    platform: "win32",
    name: "lair-agent",
    system: false,
    user: "STUDY\\ada",
    uid: undefined,
    home: "C:\\Users\\ada",
    folder: "C:\\Users\\ada\\AppData\\Local\\lair",
  },
};

const program = (command: readonly string[], env: Record<string, string> = {}): Program => ({
  about: "Local AI Runtime: agent of relay.example:8081",
  command: command as [string, ...string[]],
  env,
  stopTimeout: 610_000,
});

const unix = [
  "/usr/bin/node",
  "/usr/lib/lair/main.js",
  "agent",
  "--cloud=https://relay.example:8081",
  "--key-file",
  "/home/ada/.local/share/lair/lair-agent.key",
];
const windows = [
  "C:\\Program Files\\nodejs\\node.exe",
  "C:\\lair\\main.js",
  "agent",
  "--cloud=https://relay.example:8081",
];

/** Words that one of the formats could take for something else. */
const words = [
  "/home/Ada Lovelace/Modelle/größte & kleinste <1>",
  'it\'s "quoted"',
  "100% of %h and %%",
  "$HOME ${PATH} $$",
  "back\\slash\\",
  'trailing backslash and quote \\\\" \\',
  "tab-less; semicolon",
  ";",
  "",
  "@-+!:",
  "漢字",
  "a'b`c(d)e{f}[g]*?#!|~",
];

describe.each(["linux", "darwin", "win32"] as const)("the definition for %s", (platform) => {
  const command = platform === "win32" ? windows : unix;

  it.each([false, true])("is the one in the fixture (for the whole machine: %s)", async (system) => {
    const site = { ...sites[platform], system };
    const env = platform === "win32" ? {} : { https_proxy: "http://proxy.example:3128" };
    const { file, start, stop, forget, status, logs, hints } = register(site);
    const lines = [...start, ...stop, ...forget, status].map(
      ({ command: all, optional }) => `${optional === true ? "try " : ""}${all.join(" ")}`,
    );
    const text = [file, "", define(site, program(command, env)), ...lines, "", logs, ...hints, ""].join("\n");
    await expect(text).toMatchFileSnapshot(`fixtures/service/${platform}-${system ? "system" : "user"}.txt`);
  });

  it("says every argument as it is, whatever it holds", () => {
    const said = words.filter((word) => platform !== "win32" || !word.includes("%"));
    const text = define(sites[platform], program([command[0] ?? "", ...said]));
    const readers = { linux: systemdArguments, darwin: plistArguments, win32: taskArguments };
    expect(readers[platform](text)).toEqual([command[0], ...said]);
  });

  it("refuses a line break, which could begin a setting of its own", () => {
    expect(() => define(sites[platform], program([...command, "x\nExecStartPre=/bin/evil"]))).toThrow(
      /control character/,
    );
  });
});

describe("a unit of systemd", () => {
  it("says variables as they are", () => {
    const text = define(sites.linux, program(unix, { https_proxy: 'http://p/%41 "x" $y' }));
    expect(text).toContain('Environment="https_proxy=http://p/%%41 \\"x\\" $y"\n');
  });

  it("refuses a program whose path systemd would not take", () => {
    expect(() => define(sites.linux, program(['/opt/"node"']))).toThrow(/quote or backslash in its path/);
  });

  const analyzer = spawnSync("systemd-analyze", ["--version"]).status === 0;
  it.skipIf(!analyzer)("passes systemd's own check, for a user and for the machine (needs systemd-analyze)", () => {
    const node = path.join(folder, "größter $HOME %h & node");
    writeFileSync(node, "#!/bin/sh\n");
    chmodSync(node, 0o755);
    for (const system of [false, true]) {
      const unit = path.join(folder, `lair-check-${system}.service`);
      const site = { ...sites.linux, system };
      writeFileSync(unit, define(site, program([node, ...words], { https_proxy: "http://p:1/%41" })));
      const { stdout, stderr, status } = spawnSync(
        "systemd-analyze",
        ["verify", ...(system ? [] : ["--user"]), "--man=no", unit],
        { encoding: "utf8", env: { ...process.env, XDG_RUNTIME_DIR: folder } },
      );
      const said = `${stdout}${stderr}`.split("\n").filter((line) => line.includes("lair-check"));
      // These two are of systemd 254; older ones say so and go on.
      expect(said.filter((line) => !/Unknown key.*Restart(Steps|MaxDelaySec)/.test(line))).toEqual([]);
      expect([0, 1]).toContain(status);
    }
  });
});

describe("a task of Windows", () => {
  it.each(["%PATH%", "100 % and 5 %", "$(Arg0)"])("refuses %s, which Windows would replace", (word) => {
    expect(() => define(sites.win32, program([...windows, word]))).toThrow(/would be changed by Windows/);
  });
});

const plutil = spawnSync("plutil", ["-help"]).status === 0;
it.skipIf(!plutil)("a property list passes plutil (needs macOS)", () => {
  const file = path.join(folder, "check.plist");
  writeFileSync(file, define(sites.darwin, program([...unix, ...words])));
  execFileSync("plutil", ["-lint", file]);
});

/** The rules of systemd.service(5) and systemd.syntax(7), as far as a unit of ours can use them. */
function systemdArguments(unit: string): string[] {
  const line = /^ExecStart=(.*)$/m.exec(unit)?.[1] ?? "";
  const parts = line.match(/"(?:[^"\\]|\\.)*"|[^\s"]+/g) ?? [];
  return parts.map((part, at) => {
    const text = part.startsWith('"') ? part.slice(1, -1).replace(/\\(.)/g, "$1") : part;
    const plain = text.replaceAll("%%", "%");
    return at === 0 ? plain : plain.replaceAll("$$", "$");
  });
}

function plistArguments(plist: string): string[] {
  const list = /<key>ProgramArguments<\/key>\s*<array>([\s\S]*?)<\/array>/.exec(plist)?.[1] ?? "";
  return Array.from(list.matchAll(/<string>([^<]*)<\/string>/g), ([, text = ""]) => fromXml(text));
}

/** The rules of `CommandLineToArgvW`, after the host without a window was taken off. */
function taskArguments(xml: string): string[] {
  const line = fromXml(/<Arguments>([^<]*)<\/Arguments>/.exec(xml)?.[1] ?? "");
  const found: string[] = [];
  let text = "";
  let inside = false;
  let any = false;
  for (let at = 0; at < line.length; at++) {
    const slashes = /^\\*/.exec(line.slice(at))?.[0].length ?? 0;
    if (slashes > 0 && line[at + slashes] === '"') {
      text += "\\".repeat(Math.floor(slashes / 2));
      at += slashes;
      any = true;
      if (slashes % 2 === 1) text += '"';
      else inside = !inside;
    } else if (line[at] === '"') {
      inside = !inside;
      any = true;
    } else if (line[at] === " " && !inside) {
      if (any) found.push(text);
      text = "";
      any = false;
    } else {
      text += line[at];
      any = true;
    }
  }
  if (any) found.push(text);
  expect(found.shift()).toBe("--headless");
  return found;
}

function fromXml(text: string): string {
  const letters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return text.replace(/&(\w+);/g, (_, name: string) => letters[name] ?? "?");
}

// A command of Windows' own cannot be stood in for by a script.
describe.skipIf(process.platform === "win32")("lair agent install-service", () => {
  const tools = process.platform === "darwin" ? "launchctl" : "systemctl";

  /** A home of its own, with a stand-in for the system's command that writes down how it was called. */
  function home(status = 0) {
    const cwd = mkdtempSync(path.join(folder, "home with space-"));
    const bin = path.join(cwd, "bin");
    mkdirSync(bin);
    const calls = path.join(cwd, "calls.txt");
    writeFileSync(path.join(bin, tools), `#!/bin/sh\necho "$*" >> "${calls}"\necho "says ${tools}"\nexit ${status}\n`);
    chmodSync(path.join(bin, tools), 0o755);
    const env = { PATH: `${bin}${path.delimiter}${process.env["PATH"] ?? ""}` };
    const lair = (args: readonly string[], more: Record<string, string> = {}) =>
      run(["agent", ...args], { cwd, env: { ...env, ...more } });
    const isMac = process.platform === "darwin";
    return {
      cwd,
      lair,
      calls: () => (existsSync(calls) ? readFileSync(calls, "utf8").trim().split("\n") : []),
      definition: path.join(
        cwd,
        isMac ? "Library/LaunchAgents/local-ai-runtime.lair-agent.plist" : ".config/systemd/user/lair-agent.service",
      ),
      key: path.join(cwd, isMac ? "Library/Application Support" : ".local/share", "lair/lair-agent.key"),
    };
  }
  const cloud = "--cloud=https://relay.example:8081";
  const key = "lla_home_5ecret5ecret5ecret5ecret5ecret5ecret";

  it("writes a definition without the key, a key file for its user alone, and starts it; uninstall-service takes both away again", async () => {
    const { lair, calls, definition, key: keyFile, cwd } = home();
    const { code, stdout, stderr } = await lair(["install-service", cloud, "--capacity=3"], { LAIR_AGENT_KEY: key });
    expect([code, stderr]).toEqual([0, ""]);
    const text = readFileSync(definition, "utf8");
    expect(stdout).toContain(text);
    expect(stdout + text).not.toContain("5ecret");
    expect(text).toMatch(/--capacity=3/);
    expect(readFileSync(keyFile, "utf8")).toBe(`${key}\n`);
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(calls().at(-1)).toMatch(/restart lair-agent\.service|bootstrap/);
    expect(stdout).toContain("it runs");

    const neighbour = path.join(path.dirname(definition), "other.service");
    writeFileSync(neighbour, "");
    expect((await lair(["service-status"])).stdout).toContain(`says ${tools}`);
    const removed = await lair(["uninstall-service"]);
    expect(removed.stdout).toContain(definition);
    expect([existsSync(definition), existsSync(keyFile), existsSync(neighbour)]).toEqual([false, false, true]);
    expect(calls().join("\n")).toMatch(/disable --now|bootout/);
    expect(await lair(["uninstall-service"])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("nothing was removed"),
    });
    expect(await lair(["service-status"])).toMatchObject({ code: 1 });
    expect(readdirSync(cwd)).toContain("bin");
  });

  it("writes a definition by which an agent connects, from another folder and without this shell's variables", async () => {
    const { lair, definition, cwd } = home();
    const chain = await startChain({ runtime: "http://127.0.0.1:9", agents: [] });
    const { key: agentKey } = await chain.keys.add("home");
    const installed = await lair(["install-service", `--cloud=${chain.url}`, "--connections=1"], {
      LAIR_AGENT_KEY: agentKey,
    });
    expect([installed.code, installed.stderr]).toEqual([0, ""]);
    const text = readFileSync(definition, "utf8");
    const [program = "", ...args] = process.platform === "darwin" ? plistArguments(text) : systemdArguments(text);
    const child = spawn(program, args, { cwd: "/", env: { HOME: cwd, PATH: process.env["PATH"] ?? "" } });
    try {
      await waitUntil(
        () => chain.relay.fleet.agents().some(({ connections }) => connections.length === 1),
        "it connects",
      );
    } finally {
      child.kill("SIGKILL");
      await chain.close();
    }
  });

  it("keeps the key of the first time when flags change later", async () => {
    const { lair, definition, key: keyFile } = home();
    await lair(["install-service", cloud], { LAIR_AGENT_KEY: key });
    const again = await lair(["install-service", cloud, "--connections=4"]);
    expect([again.code, again.stderr]).toEqual([0, ""]);
    expect(readFileSync(keyFile, "utf8")).toBe(`${key}\n`);
    expect(readFileSync(definition, "utf8")).toMatch(/--connections=4[^]*lair-agent\.key/);
  });

  it("--print writes and runs nothing", async () => {
    const { lair, calls, definition, cwd } = home();
    const { code, stdout } = await lair(["install-service", cloud, "--print"], { LAIR_AGENT_KEY: key });
    expect(code).toBe(0);
    expect(stdout).toContain(definition);
    expect(stdout).not.toContain("5ecret");
    expect([calls(), readdirSync(cwd)]).toEqual([[], ["bin"]]);
  });

  it("says what to run by hand when the system does not answer", async () => {
    const { lair, definition } = home(1);
    const { code, stderr } = await lair(["install-service", cloud], { LAIR_AGENT_KEY: key });
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`says ${tools}[^]*run:\n  ${tools}`));
    expect(existsSync(definition)).toBe(true);
  });

  it("leaves a definition alone that somebody else has written", async () => {
    const { lair, definition } = home();
    mkdirSync(path.dirname(definition), { recursive: true });
    writeFileSync(definition, "[Service]\n");
    for (const action of ["install-service", "uninstall-service"]) {
      const args = action === "install-service" ? [action, cloud] : [action];
      const { code, stderr } = await lair(args, action === "install-service" ? { LAIR_AGENT_KEY: key } : {});
      expect([code, stderr]).toEqual([1, expect.stringContaining("was not written by lair")]);
    }
    expect(readFileSync(definition, "utf8")).toBe("[Service]\n");
  });

  it.each([
    [{ LAIR_AGENT_OPENAI_KEY: "5ecret" }, /LAIR_AGENT_OPENAI_KEY gives a key/],
    [{ LLM_V1_PROXY_TOKEN: "5ecret" }, /LLM_V1_PROXY_TOKEN gives a key/],
    [{ https_proxy: "http://u:5ecret@proxy.example" }, /holds a password/],
  ])("refuses to write another secret down: %o", async (env, message) => {
    const { lair, definition } = home();
    const { code, stdout, stderr } = await lair(["install-service", cloud], { LAIR_AGENT_KEY: key, ...env });
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
    expect(stdout + stderr).not.toContain("5ecret");
    expect(existsSync(definition)).toBe(false);
  });

  it("turns what variables of this shell say into arguments, with paths that hold from every folder", async () => {
    const { lair, definition, cwd } = home();
    writeFileSync(path.join(cwd, "my.key"), key, { mode: 0o600 });
    writeFileSync(path.join(cwd, "ca.pem"), "");
    const { code, stderr } = await lair(["install-service", "--key-file=my.key", "--set", "log.level=debug"], {
      LAIR_AGENT_CLOUD: "https://relay.example:8081",
      LAIR_AGENT_TLS_CA: "ca.pem",
      LAIR_AGENT_GRACE: "2m",
      LLAMA_CPP_N_CTX: "512",
      https_proxy: "http://proxy.example:3128",
    });
    expect([code, stderr]).toEqual([0, ""]);
    const text = readFileSync(definition, "utf8");
    expect(text).toContain("https://relay.example:8081");
    expect(text).toContain(path.join(cwd, "ca.pem"));
    expect(text).toContain(path.join(cwd, "my.key"));
    expect(text).toContain("agent.grace=2m");
    expect(text).toContain("--log-level=debug");
    expect(text).toContain("http://proxy.example:3128");
    expect(text).not.toContain("512");
  });
});
