import { randomUUID } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import path from "node:path";
import { parse as parseToml } from "smol-toml";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { launch } from "../../src/cli/launch.ts";
import { parse as parseJsonc } from "jsonc-parser";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { type CardsServer, startCardsServer } from "../support/model-cards-server.ts";
import { makeRecordingProgram, type RecordingProgram, type Started } from "../support/recording-program.ts";
import { start } from "./program.ts";

const posix = process.platform !== "win32";
const key = `key-${randomUUID()}`;
const chat = { chat: true, tools: true, vision: false, reasoning: false, embeddings: false, rerank: false };
/** As our servers list them: one for vectors, one without tools, ids with all that ids may hold. */
const cards: JsonObject[] = [
  { id: "embed", state: "loaded", capabilities: { ...chat, chat: false, tools: false, embeddings: true } },
  { id: "plain", state: "loaded", context_length: 65_536, capabilities: { ...chat, tools: false } },
  {
    id: "vllm:Qwen/Qwen3-8B",
    state: "unloaded",
    context_length: 40_960,
    max_output_tokens: 2048,
    capabilities: chat,
    aliases: ["coder"],
  },
  { id: 'ollama:it\'s "7b" $HOME', state: "loaded", context_length: 32_768, capabilities: { ...chat, vision: true } },
  { id: "unknown", state: "available", capabilities: chat },
  { id: "{file:~/.ssh/id_rsa}", state: "loaded", context_length: 65_536, capabilities: chat },
  { id: "--dangerously-skip-permissions", state: "loaded", context_length: 65_536, capabilities: chat },
  { id: "broken", state: "failed", context_length: 65_536, capabilities: chat },
];
const best = cards[3]!["id"] as string;

let folder: string;
let home: string;
let project: string;
let programs: Record<string, RecordingProgram>;
let server: CardsServer;

beforeEach(async () => {
  folder = realpathSync.native(mkdtempSync(path.join(tmpdir(), "lair-launch-")));
  [home, project] = [path.join(folder, "home"), path.join(folder, "project")];
  for (const one of [home, project]) mkdirSync(one);
  const bin = path.join(folder, "bin");
  programs = Object.fromEntries(
    ["opencode", "codex", "claude"].map((name) => [name, makeRecordingProgram(bin, name)] as const),
  );
  server = await startCardsServer(cards, key);
});

afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
});

function environment(more: Record<string, string> = {}): Record<string, string> {
  const system = Object.entries(process.env).filter(([name]) => /^(SystemRoot|ComSpec|PATHEXT)$/i.test(name));
  return {
    ...(Object.fromEntries(system) as Record<string, string>),
    PATH: path.join(folder, "bin"),
    HOME: home,
    USERPROFILE: home,
    LOCALAPPDATA: path.join(home, "AppData", "Local"),
    APPDATA: path.join(home, "AppData", "Roaming"),
    LAIR_KEY: key,
    ...more,
  };
}

interface Launched {
  readonly code: number;
  readonly printed: string;
  readonly said: string;
}

/** `lair launch` within this process; what it starts is a process of its own. */
async function lair(args: readonly string[], env: Record<string, string> = environment()): Promise<Launched> {
  const printed: string[] = [];
  const said: string[] = [];
  const code = await launch.run(args, {
    env,
    print: (line) => printed.push(line),
    write: (text) => printed.push(text),
    complain: (line) => said.push(line),
    input: process.stdin,
    output: process.stdout,
    interactive: false,
  });
  return { code, printed: printed.join("\n"), said: said.join("\n") };
}

function at(url = server.url): string[] {
  return ["--url", url];
}

async function started(name: string, args: readonly string[] = [], env = environment()): Promise<Started> {
  const { code, said } = await lair([name, ...at(), ...args], env);
  expect(code, said).toBe(0);
  return programs[name]!.started()!;
}

/** Every text in which a key may not be: all files below the user's folders, and what was given as texts. */
function findKey(...texts: string[]): string[] {
  const files = [home, project].flatMap((top) =>
    readdirSync(top, { recursive: true, encoding: "utf8" }).map((name) => path.join(top, name)),
  );
  const holding = files.filter((file) => statSync(file).isFile() && readFileSync(file, "utf8").includes(key));
  return [...holding, ...texts.filter((text) => text.includes(key))];
}

function contentOf({ env }: Started): JsonObject {
  return JSON.parse(env["OPENCODE_CONFIG_CONTENT"] ?? "null") as JsonObject;
}

function inside(value: Json | undefined, ...keys: string[]): Json | undefined {
  return keys.reduce<Json | undefined>((one, name) => (one as JsonObject)[name], value);
}

describe("lair launch opencode", () => {
  it("tells it every model that can chat, always with limits, and the key by a variable only", async () => {
    const seen = await started("opencode", ["--", "run", "say 'hi'"]);
    const config = contentOf(seen);
    expect(config["model"]).toBe(`lair/${best}`);
    expect(inside(config, "provider", "lair", "options")).toEqual({
      baseURL: `${server.url}/v1`,
      apiKey: "{env:LAIR_KEY}",
      headerTimeout: false,
      chunkTimeout: 1_800_000,
    });
    const models = inside(config, "provider", "lair", "models") as Record<string, JsonObject>;
    expect(Object.fromEntries(Object.entries(models).map(([id, { limit }]) => [id, limit]))).toEqual({
      plain: { context: 65_536, output: 16_384 },
      "vllm:Qwen/Qwen3-8B": { context: 40_960, output: 2048 },
      [best]: { context: 32_768, output: 8192 },
      unknown: { context: 32_768, output: 8192 },
    });
    expect(models[best]).toMatchObject({ attachment: true, modalities: { input: ["text", "image"] } });
    expect(models["plain"]).toMatchObject({ tool_call: false });
    expect([seen.args, seen.env["LAIR_KEY"], seen.cwd]).toEqual([["run", "say 'hi'"], key, process.cwd()]);
    expect(config["enabled_providers"]).toBeUndefined();
    expect(findKey(JSON.stringify(seen.args), JSON.stringify(config))).toEqual([]);
    expect(readdirSync(project)).toEqual([]);
  });

  it("keeps what its user has set, and stays visible where only some providers are enabled", async () => {
    const config = path.join(home, ".config", "opencode");
    mkdirSync(config, { recursive: true });
    writeFileSync(path.join(config, "opencode.jsonc"), '{ // mine\n "enabled_providers": ["anthropic"], }');
    const own = { OPENCODE_CONFIG_CONTENT: '{"theme":"dark","provider":{"other":{"name":"Other"}}}' };
    const content = contentOf(await started("opencode", [], environment({ XDG_CONFIG_HOME: "", ...own })));
    expect(content["theme"]).toBe("dark");
    expect(Object.keys(content["provider"] as JsonObject)).toEqual(["other", "lair"]);
    expect(content["enabled_providers"]).toEqual(["anthropic", "lair"]);
    mkdirSync(path.join(project, ".git"));
    mkdirSync(path.join(project, "src"));
    writeFileSync(path.join(project, "opencode.json"), '{ "enabled_providers": ["openai"] }');
    const ran = start(["launch", "opencode", ...at()], { cwd: path.join(project, "src"), env: environment() });
    expect((await ran.ended).code).toBe(0);
    expect(contentOf(programs["opencode"]!.started()!)["enabled_providers"]).toEqual(["openai", "lair"]);
  });
});

describe("lair launch codex", () => {
  it("overrides its configuration on the command line, with a catalogue of the models in a file of lair's", async () => {
    const seen = await started("codex", ["--model", "vllm:qwen/qwen3-8b", "--", "exec", "--json", "go"]);
    const flags = seen.args.slice(0, -3);
    expect(seen.args.slice(-3)).toEqual(["exec", "--json", "go"]);
    expect(flags.filter((_, index) => index % 2 === 0)).toEqual(flags.filter((flag) => flag === "-c"));
    const config = parseToml(flags.filter((flag) => flag !== "-c").join("\n")) as JsonObject;
    const catalogue = config["model_catalog_json"] as string;
    expect(config).toEqual({
      model: "vllm:Qwen/Qwen3-8B",
      model_provider: "lair",
      model_catalog_json: catalogue,
      web_search: "disabled",
      features: { goals: false },
      agents: { enabled: false },
      model_providers: {
        lair: {
          name: "Local AI Runtime",
          base_url: `${server.url}/v1`,
          wire_api: "responses",
          env_key: "LAIR_KEY",
          stream_idle_timeout_ms: 1_800_000,
        },
      },
    });
    const { models } = JSON.parse(readFileSync(catalogue, "utf8")) as { models: JsonObject[] };
    expect(models.map(({ slug, context_window: context }) => [slug, context])).toEqual([
      ["plain", 65_536],
      ["vllm:Qwen/Qwen3-8B", 40_960],
      [best, 32_768],
      ["unknown", 32_768],
    ]);
    expect(catalogue.startsWith(home)).toBe(true);
    if (posix) expect(statSync(catalogue).mode & 0o777).toBe(0o600);
    expect(seen.env["LAIR_KEY"]).toBe(key);
    expect(findKey(JSON.stringify(seen.args))).toEqual([]);
    expect(existsSync(path.join(home, ".codex"))).toBe(false);
  });
});

describe("lair launch claude", () => {
  it("sets variables, and hides its user's own key from the server", async () => {
    const own = {
      ANTHROPIC_API_KEY: "sk-ant-mine",
      ANTHROPIC_CUSTOM_HEADERS: "x-mine: 1",
      CLAUDE_CODE_USE_BEDROCK: "1",
    };
    const seen = await started("claude", ["--model", "coder", "--", "-p", "hello"], environment(own));
    expect(seen.args).toEqual(["--tools", "Read,Write,Edit,Bash", "--model", "coder", "-p", "hello"]);
    expect(seen.env).toMatchObject({
      ANTHROPIC_BASE_URL: server.url,
      ANTHROPIC_AUTH_TOKEN: key,
      ANTHROPIC_MODEL: "coder",
      ANTHROPIC_DEFAULT_HAIKU_MODEL: "coder",
      CLAUDE_CODE_MAX_CONTEXT_TOKENS: "40960",
      CLAUDE_CODE_MAX_OUTPUT_TOKENS: "2048",
      CLAUDE_CODE_ATTRIBUTION_HEADER: "0",
    });
    expect(Object.keys(own).filter((name) => name in seen.env)).toEqual([]);
    expect(findKey(JSON.stringify(seen.args))).toEqual([]);
  });

  it("overrules what its user's settings say against that, without the key in a file or on the command line", async () => {
    mkdirSync(path.join(home, ".claude"));
    const env = { ANTHROPIC_BASE_URL: "https://elsewhere.example", ANTHROPIC_AUTH_TOKEN: "theirs", EDITOR: "vi" };
    writeFileSync(path.join(home, ".claude", "settings.json"), JSON.stringify({ env }));
    const seen = await started("claude");
    const [flag, file = ""] = seen.args;
    expect(flag).toBe("--settings");
    const settings = JSON.parse(readFileSync(file, "utf8")) as JsonObject;
    expect(settings["env"]).toEqual({ ANTHROPIC_BASE_URL: server.url, ANTHROPIC_AUTH_TOKEN: "" });
    expect(findKey(JSON.stringify(seen.args))).toEqual([]);
    if (!posix) return;
    const there = { ...seen.env, PATH: process.env["PATH"] };
    const helper = spawnSync("sh", ["-c", settings["apiKeyHelper"] as string], { env: there, encoding: "utf8" });
    expect(helper.stdout).toBe(key);
  });

  it("keeps the key of its user's own helper from the server, and heeds the project's settings", async () => {
    mkdirSync(path.join(home, ".claude"));
    writeFileSync(path.join(home, ".claude", "settings.json"), '{ "apiKeyHelper": "echo sk-ant-mine" }');
    mkdirSync(path.join(project, ".claude"));
    const local = { env: { ANTHROPIC_MODEL: "opus" } };
    writeFileSync(path.join(project, ".claude", "settings.local.json"), JSON.stringify(local));
    const ran = start(["launch", "claude", ...at()], { cwd: project, env: environment() });
    expect((await ran.ended).code).toBe(0);
    const [, file = ""] = programs["claude"]!.started()!.args;
    const settings = JSON.parse(readFileSync(file, "utf8")) as JsonObject;
    expect(settings["env"]).toEqual({ ANTHROPIC_MODEL: best });
    expect(settings["apiKeyHelper"]).toContain("LAIR_KEY");
  });

  it("gives a token where the server wants none, for without any it asks to log in", async () => {
    const open = await startCardsServer(cards);
    const { LAIR_KEY: _, ...env } = environment();
    try {
      const { code } = await lair(["claude", ...at(open.url)], env);
      expect([code, programs["claude"]!.started()?.env["ANTHROPIC_AUTH_TOKEN"]]).toEqual([0, "none"]);
    } finally {
      await open.close();
    }
  });
});

describe("the model", () => {
  const one = (card: JsonObject): JsonObject => ({
    state: "unloaded",
    context_length: 32_768,
    capabilities: chat,
    ...card,
  });
  const launched = async (list: JsonObject[], ...args: string[]): Promise<Launched & { model?: Json | undefined }> => {
    const other = await startCardsServer(list);
    try {
      const ended = await lair(["opencode", ...at(other.url), ...args]);
      const seen = programs["opencode"]!.started();
      return { ...ended, ...(seen === undefined ? {} : { model: contentOf(seen)["model"] }) };
    } finally {
      await other.close();
    }
  };

  it("that is not named is the loaded one that calls tools, the demo last, and it says which one it took", async () => {
    const demo = one({ id: "demo", state: "loaded", owned_by: "local-ai-runtime" });
    const list = [demo, one({ id: "b" }), one({ id: "c", state: "loaded" })];
    const { model, said } = await launched(list);
    expect(model).toBe("lair/c");
    expect(said).toMatch(/takes c, of 3 that fit; --model names another/);
  });

  it("is refused where its context cannot hold the first question, with what to do", async () => {
    const { code, said, model } = await launched([one({ id: "tiny", context_length: 4096 })], "--model", "tiny");
    expect([code, model]).toEqual([1, undefined]);
    expect(said).toMatch(/tiny has a context of 4,096 tokens, and opencode needs 16,384 .* lair serve --ctx 32768/);
  });

  it("that is the built-in demo is refused with the ways to a real one, named or not: no setting gives it more context", async () => {
    const demo = one({ id: "llama_cpp:demo", context_length: 4096, owned_by: "local-ai-runtime" });
    for (const args of [[], ["--model", "demo"]]) {
      const { code, said, model } = await launched([demo], ...args);
      expect([code, model]).toEqual([1, undefined]);
      expect(said).toMatch(/tiny demo model .* 4,096 tokens, and opencode needs 16,384[\s\S]*\n {2}lair pull hf:/);
      expect(said).not.toContain("--ctx");
    }
  });

  it("is taken with a warning where it is said to call no tools, and never without being named", async () => {
    const list = [one({ id: "mute", capabilities: { ...chat, tools: false } })];
    expect(await launched(list, "--model", "mute")).toMatchObject({
      code: 0,
      said: expect.stringContaining("not known to call tools") as string,
    });
    const { code, said } = await launched(list);
    expect([code, said]).toEqual([1, expect.stringMatching(/none of the models fits opencode.*\n {2}mute {2}32,768/)]);
  });

  it("that nobody has is answered with those there are", async () => {
    const { code, said } = await lair(["codex", ...at(), "--model", "vlm:Qwen/Qwen3-8B"]);
    expect([code, said]).toEqual([
      1,
      expect.stringMatching(/no model "vlm:Qwen.*; did you mean 'vllm:Qwen\/Qwen3-8B'\? It has plain, /),
    ]);
  });
});

describe("what stands in the way is said in a sentence", () => {
  it("no server here, no server there, no key, a wrong key", async () => {
    const nowhere = environment({ RUNTIME_LISTEN_PORT: "1" });
    const here = await lair(["codex"], nowhere);
    expect([here.code, here.said]).toEqual([
      1,
      expect.stringMatching(/no lair serve answers at .*:1\. .*\n {2}lair serve\n/),
    ]);
    expect((await lair(["codex", "--url", "http://127.0.0.1:1"])).said).toContain("http://127.0.0.1:1 does not answer");
    const { LAIR_KEY: _, ...keyless } = environment();
    expect((await lair(["codex", ...at()], keyless)).said).toMatch(/Set LAIR_KEY to a key of http/);
    const wrong = await lair(["codex", ...at()], environment({ LAIR_KEY: "wrong-one" }));
    expect(wrong.said).toMatch(/The key that was sent is not one of/);
    expect(wrong.said).not.toContain("wrong-one");
  });

  it("a program that is not installed, with the command that installs it", async () => {
    const { code, said } = await lair(["opencode", ...at()], environment({ PATH: project }));
    expect([code, said]).toEqual([1, expect.stringContaining("npm install -g opencode-ai")]);
  });

  it("a program of the project's folder is not taken for the installed one", async () => {
    makeRecordingProgram(project, "opencode");
    const relative = path.relative(process.cwd(), project);
    // On Windows there is no such way from one drive to another.
    if (path.isAbsolute(relative)) return;
    expect((await lair(["opencode", ...at()], environment({ PATH: relative }))).code).toBe(1);
  });

  it("a program older than the one that is known to work", async () => {
    makeRecordingProgram(path.join(folder, "bin"), "codex", "0.20.0");
    const { said } = await lair(["codex", ...at()]);
    expect(said).toMatch(/Codex 0\.20\.0 is older than .* npm install -g @openai\/codex/);
  });
});

describe("lair launch --print", () => {
  it.skipIf(!posix).each(["opencode", "codex", "claude"])("for %s does in sh what launching does", async (name) => {
    const own = environment({ ANTHROPIC_API_KEY: "sk-ant-mine" });
    const plain = await started(name, ["--", "it's", "$HOME", "a b"], own);
    programs[name] = makeRecordingProgram(path.join(folder, "bin"), name);
    rmSync(path.join(folder, "bin", `${name}.started.json`));
    const { printed, said } = await lair([name, ...at(), "--print", "--shell", "sh", "--", "it's", "$HOME", "a b"]);
    expect(programs[name].started()).toBeUndefined();
    expect(findKey(printed, said)).toEqual([]);
    rmSync(path.join(home, ".local"), { recursive: true, force: true });
    const env = { ...own, PATH: [own["PATH"], "/usr/bin", "/bin"].join(path.delimiter) };
    const { status, stderr } = spawnSync("sh", ["-e"], { input: printed, env, encoding: "utf8" });
    expect([status, stderr]).toEqual([0, ""]);
    const shown = programs[name].started()!;
    expect(shown.args).toEqual(plain.args);
    const ours = (all: Started["env"]): object =>
      Object.fromEntries(
        Object.entries(all).filter(([one]) => /^(OPENCODE|ANTHROPIC|CLAUDE|LAIR|API_|MAX_)/.test(one)),
      );
    expect(ours(shown.env)).toEqual(ours(plain.env));
  });

  it("for PowerShell sets the same, with a placeholder for the key", async () => {
    const { printed } = await lair(["claude", ...at(), "--print", "--shell", "powershell"]);
    expect(printed).toContain("$env:ANTHROPIC_MODEL = 'ollama:it''s \"7b\" $HOME'");
    expect(printed).toContain("$env:ANTHROPIC_AUTH_TOKEN = $env:LAIR_KEY");
    expect(printed).toContain("$env:ANTHROPIC_API_KEY = $null");
    expect(findKey(printed)).toEqual([]);
  });
});

describe("lair launch --save", () => {
  const config = (...names: string[]): string => path.join(home, ...names);
  const plain = { XDG_CONFIG_HOME: "" };

  it("merges a provider into opencode's file with its comments, keeps a copy, and does nothing a second time", async () => {
    const file = config(".config", "opencode", "opencode.jsonc");
    mkdirSync(path.dirname(file), { recursive: true });
    const before =
      '{\n  // my theme\n  "theme": "dark",\n  "model": "anthropic/claude",\n  "provider": { "other": {} },\n}\n';
    writeFileSync(file, before);
    const first = await lair(["opencode", ...at(), "--save"], environment(plain));
    const after = readFileSync(file, "utf8");
    expect(after).toContain("// my theme");
    const saved = parseJsonc(after) as JsonObject;
    expect(saved).toMatchObject({ theme: "dark", model: "anthropic/claude", small_model: `lair/${best}` });
    expect(Object.keys(saved["provider"] as JsonObject)).toEqual(["other", "lair"]);
    expect(readFileSync(`${file}.bak`, "utf8")).toBe(before);
    expect(first.printed).toMatch(/\n {2}\+ .*"lair": \{/);
    expect(findKey(first.printed, first.said)).toEqual([]);
    const second = await lair(["opencode", ...at(), "--save"], environment(plain));
    expect(second.printed).toContain("is as it should be");
    expect([readFileSync(file, "utf8"), existsSync(`${file}.bak2`)]).toEqual([after, false]);
    expect(programs["opencode"]!.started()).toBeUndefined();
  });

  it("makes a profile for Codex beside the user's configuration", async () => {
    const { printed } = await lair(["codex", ...at(), "--save"]);
    const profile = parseToml(readFileSync(config(".codex", "lair.config.toml"), "utf8")) as JsonObject;
    expect(profile).toMatchObject({ model: best, model_providers: { lair: { env_key: "LAIR_KEY" } } });
    expect(existsSync(profile["model_catalog_json"] as string)).toBe(true);
    expect(printed).toContain("codex --profile lair");
    expect(findKey(printed)).toEqual([]);
  });

  it("writes Claude Code's variables through a link, with a command in place of the key", async () => {
    const real = path.join(folder, "dotfiles.json");
    const own = { env: { EDITOR: "vi", ANTHROPIC_API_KEY: "sk-ant-mine" }, permissions: { allow: [] } };
    writeFileSync(real, JSON.stringify(own, null, "\t"));
    mkdirSync(config(".claude"));
    if (posix) symlinkSync(real, config(".claude", "settings.json"));
    else writeFileSync(config(".claude", "settings.json"), readFileSync(real));
    const { printed } = await lair(["claude", ...at(), "--save"]);
    expect(printed).not.toContain("sk-ant-mine");
    const settings = JSON.parse(readFileSync(posix ? real : config(".claude", "settings.json"), "utf8")) as JsonObject;
    expect(settings).toMatchObject({
      env: { EDITOR: "vi", ANTHROPIC_API_KEY: "", ANTHROPIC_BASE_URL: server.url, ANTHROPIC_MODEL: best },
      permissions: { allow: [] },
      model: best,
    });
    expect(settings["apiKeyHelper"]).toContain("LAIR_KEY");
    expect(findKey()).toEqual([]);
  });

  it("leaves a file alone that it cannot read, and says where the fault is", async () => {
    const file = config(".config", "opencode", "opencode.json");
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, '{\n  "theme": "dark"\n  "model": "x"\n}\n');
    const { code, said } = await lair(["opencode", ...at(), "--save"], environment(plain));
    expect([code, said]).toEqual([1, expect.stringMatching(/opencode\.json is no valid JSON .*line 3/)]);
    expect(readdirSync(path.dirname(file))).toEqual(["opencode.json"]);
  });
});

describe("the program that runs", () => {
  it("gives its exit code to lair, and hears what ends lair", async () => {
    const bin = environment({ RECORDED_EXIT: "17" });
    expect((await lair(["codex", ...at()], bin)).code).toBe(17);
    if (!posix) return;
    const env = environment({ RECORDED_WAIT: "1" });
    const waiting = start(["launch", "codex", ...at(), "--", "--help"], { cwd: home, env });
    await waiting.until(/waiting/);
    expect(programs["codex"]!.started()!.args.at(-1)).toBe("--help");
    waiting.child.kill("SIGTERM");
    expect((await waiting.ended).code).toBe(43);
  });

  it.skipIf(process.platform !== "linux")("runs while a key of --key is in no process's arguments", async () => {
    const env = environment({ RECORDED_WAIT: "1", LAIR_KEY: "" });
    const running = start(["launch", "claude", ...at(), "--key", key], { cwd: home, env });
    await running.until(/waiting/);
    const shown = readFileSync(`/proc/${running.child.pid}/cmdline`, "utf8");
    const seen = programs["claude"]!.started()!;
    running.child.kill("SIGTERM");
    const { stdout, stderr } = await running.ended;
    expect(stderr).toContain("--key can be seen by every user of this machine");
    expect(seen.env["ANTHROPIC_AUTH_TOKEN"]).toBe(key);
    expect(findKey(shown, JSON.stringify(seen.args), stdout, stderr)).toEqual([]);
  });
});
