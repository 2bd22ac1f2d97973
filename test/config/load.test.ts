import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadConfig, type LoadOptions, userFile } from "../../src/config/load.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-config-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Loads in an empty folder with an empty home and environment, and the file's text if given. */
function load(options: LoadOptions & { file?: string | Buffer } = {}) {
  const { file, ...rest } = options;
  if (file !== undefined) writeFileSync(path.join(folder, "lair.yaml"), file);
  return loadConfig({ cwd: folder, home: path.join(folder, "home"), env: {}, ...rest });
}

async function refusal(options: LoadOptions & { file?: string | Buffer }): Promise<string> {
  const outcome = await load(options).then(
    () => "accepted",
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(Error);
  return (outcome as Error).message;
}

describe("without any configuration", () => {
  it("listens on this machine only, with llama.cpp as default and Ollama at its usual address", async () => {
    const { config, sources, warnings, file } = await load();
    expect(config.listen).toEqual({ host: "127.0.0.1", port: 18080 });
    expect(config.defaultProvider).toBe("llama_cpp");
    expect(Object.entries(config.providers).map(([name, { kind, urls }]) => [name, kind, urls])).toEqual([
      ["ollama", "ollama", ["http://127.0.0.1:11434"]],
    ]);
    expect(config.timeouts).toMatchObject({ connect: 5000, firstByte: 1_800_000, idle: 900_000 });
    expect(config.limits.body).toBe(64 * 1024 * 1024);
    expect([sources.size, warnings, file]).toEqual([0, [], undefined]);
  });

  it("takes the folder `models` if there is one, as the original does", async () => {
    mkdirSync(path.join(folder, "models"));
    expect((await load()).config.llama.model).toBe("models");
    expect((await load({ env: { LLAMA_CPP_MODEL: "other.gguf" } })).config.llama.model).toBe("other.gguf");
  });
});

describe("precedence", () => {
  const file = "listen:\n  port: 1111\n  host: 127.0.0.2\nlog:\n  level: warn\n";

  it("is flags, then environment, then file, then defaults, and each value knows its source", async () => {
    const { config, sources } = await load({
      file,
      env: { RUNTIME_LISTEN_PORT: "2222", RUNTIME_LISTEN_HOST: "127.0.0.3" },
      flags: { port: "3333" },
    });
    expect(config.listen).toEqual({ host: "127.0.0.3", port: 3333 });
    expect(config.log.level).toBe("warn");
    expect(Object.fromEntries(sources)).toEqual({
      "listen.port": "--port",
      "listen.host": "RUNTIME_LISTEN_HOST",
      "log.level": "lair.yaml:5",
    });
  });

  it("lets an empty variable count as not set", async () => {
    expect((await load({ file, env: { RUNTIME_LISTEN_PORT: "" } })).config.listen.port).toBe(1111);
  });

  it("reaches every other setting by --set and by LAIR_<PATH>", async () => {
    const { config } = await load({
      env: { LAIR_TIMEOUTS_FIRST_BYTE: "1h30m", LAIR_CORS_ORIGINS: "https://a.example, https://b.example" },
      flags: { set: ["timeouts.idle=5m", "providers.ollama.maxConcurrent=3"] },
    });
    expect(config.timeouts).toMatchObject({ firstByte: 5_400_000, idle: 300_000 });
    expect(config.cors.origins).toEqual(["https://a.example", "https://b.example"]);
    expect(config.providers["ollama"]?.maxConcurrent).toBe(3);
  });

  it("warns when two names of one setting differ, and takes LAIR_…", async () => {
    const { config, warnings } = await load({ env: { LAIR_LISTEN_PORT: "1", RUNTIME_LISTEN_PORT: "2" } });
    expect(config.listen.port).toBe(1);
    expect(warnings).toEqual(["RUNTIME_LISTEN_PORT is ignored: LAIR_LISTEN_PORT sets listen.port too"]);
  });
});

describe("the file", () => {
  it("is that of --config, else LAIR_CONFIG, else lair.yaml here, else the user's own", async () => {
    const home = path.join(folder, "home");
    const own = userFile({ home, env: {}, platform: "linux" });
    mkdirSync(path.dirname(own), { recursive: true });
    writeFileSync(own, "listen: { port: 1 }");
    expect((await load({ platform: "linux" })).config.listen.port).toBe(1);
    writeFileSync(path.join(folder, "b.yaml"), "listen: { port: 3 }");
    writeFileSync(path.join(folder, "c.yaml"), "listen: { port: 4 }");
    expect((await load({ platform: "linux", file: "listen: { port: 2 }" })).config.listen.port).toBe(2);
    expect((await load({ env: { LAIR_CONFIG: "b.yaml" } })).config.listen.port).toBe(3);
    expect((await load({ env: { LAIR_CONFIG: "b.yaml" }, flags: { config: "c.yaml" } })).config.listen.port).toBe(4);
  });

  it("has its place on every system", () => {
    const at = (platform: NodeJS.Platform, env = {}) =>
      userFile({ platform, env, home: "/home/me" }).replaceAll("\\", "/");
    expect(at("linux")).toBe("/home/me/.config/lair/lair.yaml");
    expect(at("linux", { XDG_CONFIG_HOME: "/xdg" })).toBe("/xdg/lair/lair.yaml");
    expect(at("darwin")).toBe("/home/me/Library/Application Support/lair/lair.yaml");
    expect(at("win32", { APPDATA: "/roaming" })).toBe("/roaming/lair/lair.yaml");
  });

  it("is refused when the one that was named is not there", async () => {
    expect(await refusal({ flags: { config: "none.yaml" } })).toBe("--config: there is no file none.yaml");
    expect(await refusal({ env: { LAIR_CONFIG: "none.yaml" } })).toBe("LAIR_CONFIG: there is no file none.yaml");
  });

  it("may have a byte-order mark, Windows line ends, or be in UTF-16", async () => {
    const text = "\ufefflisten:\r\n  port: 4711\r\nllama:\r\n  model: M:\\llm_models\r\n";
    for (const file of [text, Buffer.from(text, "utf16le")]) {
      const { config } = await load({ file });
      expect([config.listen.port, config.llama.model]).toEqual([4711, "M:\\llm_models"]);
    }
  });

  it("may be empty or have empty sections", async () => {
    expect((await load({ file: "" })).config.listen.port).toBe(18080);
    expect((await load({ file: "# nothing\nlisten:\nproviders:\n" })).config.listen.port).toBe(18080);
  });

  it("says the line of what is no YAML, of a key that is there twice, and of no map at all", async () => {
    expect(await refusal({ file: "listen:\n  port: [1\n" })).toMatch(/^lair\.yaml:\d+: this is not valid YAML/);
    expect(await refusal({ file: "insecure: true\ninsecure: false\n" })).toMatch(/lair\.yaml:2: .*unique/);
    expect(await refusal({ file: "- a\n" })).toMatch(/must hold settings/);
  });

  it("is refused when it unfolds without end or is not text", async () => {
    const bomb = [
      "a: &a [x,x,x,x,x,x,x,x,x]",
      ..."bcdefgh".split("").map((name, at) => `${name}: &${name} [${Array(9).fill(`*${"abcdefg"[at]}`).join(",")}]`),
    ];
    expect(await refusal({ file: bomb.join("\n") })).toMatch(/cannot be read: Excessive alias/);
    expect(await refusal({ file: Buffer.from([0x61, 0xff, 0xfe, 0x3a]) })).toMatch(/cannot be read/);
    expect(await refusal({ file: `# ${"x".repeat(1024 * 1024)}` })).toMatch(/bytes large; allowed: 1048576/);
  });
});

describe("bad input", () => {
  it("is reported all at once, each with path, source, what was found and what is allowed", async () => {
    const message = await refusal({
      file: "lisen:\n  port: 1\nlisten:\n  port: 70000\nllama:\n  topP: high\n  flashAttention: maybe\nlog: loud\ntimeouts:\n  idle: soon\n",
      env: { LLAMA_CPP_SEED: "x", RUNTIME_PROVIDER: "vllm" },
      flags: { set: ["llama.gpulayers=3", "oops"] },
    });
    expect(message.split("\n").sort()).toEqual([
      "--set: write it as path=value, e.g. --set timeouts.idle=5m",
      `defaultProvider (RUNTIME_PROVIDER): there is no provider "vllm" (configured: llama_cpp, ollama); set VLLM_HOST=http://127.0.0.1:58000`,
      expect.stringMatching(
        /^lisen \(lair\.yaml:1\): there is no such setting; did you mean "listen"\? \(allowed here: listen, insecure,/,
      ),
      "listen.port (lair.yaml:4): found 70000; allowed: a whole number from 0 to 65535",
      `llama.flashAttention (lair.yaml:7): found "maybe"; allowed: one of auto, on, off`,
      expect.stringMatching(/^llama\.gpulayers \(--set\): there is no such setting; did you mean "gpuLayers"\?/),
      `llama.seed (LLAMA_CPP_SEED): found "x"; allowed: a whole number from 0 to 4294967295; -1 or random: as if not set`,
      `llama.topP (lair.yaml:6): found "high"; allowed: a number from 0 to 1`,
      "log (lair.yaml:8): found one value; allowed: a section with level, format",
      `timeouts.idle (lair.yaml:10): found "soon"; allowed: a duration such as 30s, 10m or 1h30m, or a number of seconds`,
    ]);
  });

  it("never repeats a secret, whether written or taken from the environment", async () => {
    const message = await refusal({
      file: [
        "auth: { keys: [{ secret-1: x }] }",
        "providers:",
        "  lab: { kind: openai, urls: ['https://me:secret-2@lab.example'], key: [secret-3], headers: { 'bad name': secret-4 } }",
        "log: { level: '${env:TOKEN}' }",
        "kye: secret-5",
      ].join("\n"),
      env: { TOKEN: "secret-6" },
    });
    expect(message).not.toContain("secret-");
    for (const part of [
      "auth.keys",
      "providers.lab.urls",
      "providers.lab.key",
      "providers.lab.headers",
      "log.level",
      "kye",
    ]) {
      expect(message).toContain(part);
    }
  });

  it("names the provider that lacks its kind or addresses, and refuses names that model ids could not carry", async () => {
    expect(await refusal({ file: "providers: { lab: { urls: [a] } }" })).toBe(
      "providers.lab.kind (lair.yaml:1): is missing; allowed: ollama, lmdeploy, mnn, vllm, openai, lair",
    );
    expect(await refusal({ file: "providers: { lab: { kind: openai } }" })).toMatch(
      /providers\.lab\.urls .*is missing/,
    );
    expect(await refusal({ file: "providers: { 'a:b': { kind: vllm } }" })).toMatch(/no name for a provider/);
    expect(await refusal({ file: "providers: { llama_cpp: {} }" })).toMatch(/is the name of the embedded engine/);
    expect(await refusal({ file: "providers: { __proto__: { kind: vllm } }" })).toMatch(/__proto__ .*no such setting/);
  });

  it("tells which variable of ${env:…} is not set", async () => {
    expect(await refusal({ file: "auth:\n  keys: ['${env:A}', '${env:B}']" })).toBe(
      "auth.keys (lair.yaml:2): the environment variable A is not set\nauth.keys (lair.yaml:2): the environment variable B is not set",
    );
  });
});

describe("the original's variables", () => {
  it("keep their names and meaning", async () => {
    const { config, warnings } = await load({
      env: {
        RUNTIME_LISTEN_HOST: "0.0.0.0",
        RUNTIME_LISTEN_PORT: "18081",
        RUNTIME_PROVIDER: "lmdeploy",
        LLAMA_CPP_MODEL: "/models/a.gguf",
        LLAMA_CPP_N_CTX: "8192",
        LLAMA_CPP_MAX_NEW_TOKENS: "512",
        LLAMA_CPP_FLASH_ATTN: "disabled",
        LLAMA_CPP_N_BATCH: "-1",
        LLAMA_CPP_N_UBATCH: "128",
        LLAMA_CPP_N_GPU_LAYERS: "all",
        LLAMA_CPP_OFFLOAD_KQV: "0",
        LLAMA_CPP_MAIN_GPU: "1",
        LLAMA_CPP_SPLIT_MODE: "rows",
        LLAMA_CPP_N_THREADS: "4",
        LLAMA_CPP_N_THREADS_BATCH: "8",
        LLAMA_CPP_TEMPERATURE: "0.7",
        LLAMA_CPP_TOP_P: "0.9",
        LLAMA_CPP_MIN_P: ".05",
        LLAMA_CPP_SEED: "42",
        LLAMA_CPP_REPEAT_PENALTY: "1.1",
        LLAMA_CPP_PENALTY_LAST_N: "-1",
        LLAMA_CPP_USE_JINJA: "Yes",
        LLAMA_CPP_MAX_SESSIONS: "16",
        LLAMA_CPP_UNLOAD_AFTER_CHAT: "on",
        OLLAMA_HOST: "0.0.0.0",
        LMDEPLOY_HOST: "http://a:23334, http://b",
        MNN_HOST: "box",
        VLLM_HOST: "http://gpu/base/",
        LLM_V1_PROXY_TOKEN: "one,two",
        OPENAI_PROXY_TOKEN: "three",
      },
    });
    expect(warnings).toEqual([]);
    expect(config).toMatchObject({
      listen: { host: "0.0.0.0", port: 18081 },
      defaultProvider: "lmdeploy",
      auth: { keys: ["one", "two", "three"] },
      llama: {
        model: "/models/a.gguf",
        contextLength: 8192,
        maxNewTokens: 512,
        flashAttention: "off",
        ubatchSize: 128,
        gpuLayers: "all",
        offloadKqv: false,
        mainGpu: 1,
        splitMode: "row",
        threads: 4,
        threadsBatch: 8,
        temperature: 0.7,
        topP: 0.9,
        minP: 0.05,
        seed: 42,
        repeatPenalty: 1.1,
        penaltyLastN: -1,
        useJinja: true,
        maxSessions: 16,
        unloadAfterChat: true,
      },
    });
    expect(config.llama).not.toHaveProperty("batchSize");
    expect(Object.entries(config.providers).map(([name, { kind, urls }]) => [name, kind, ...urls])).toEqual([
      ["ollama", "ollama", "http://127.0.0.1:11434"],
      ["lmdeploy", "lmdeploy", "http://a:23334", "http://b:23333"],
      ["mnn", "mnn", "http://box:8000"],
      ["vllm", "vllm", "http://gpu:58000/base"],
    ]);
  });

  it("take the addresses of a host variable and keep what the file says of that provider", async () => {
    const { config } = await load({
      file: "providers:\n  ollama: { urls: [http://old:1], keepAlive: 10m }\n  lmdeploy:\n",
      env: { OLLAMA_HOST: "http://new:2" },
    });
    expect(config.providers["ollama"]).toMatchObject({ urls: ["http://new:2"], keepAlive: "10m" });
    expect(config.providers["lmdeploy"]?.urls).toEqual(["http://127.0.0.1:23333"]);
  });

  it("unset a value of the file where the original's number means `you decide`", async () => {
    const { config } = await load({ file: "llama: { batchSize: 256 }", env: { LLAMA_CPP_N_BATCH: "-1" } });
    expect(config.llama).not.toHaveProperty("batchSize");
  });

  it("are warned about where this release does not honour them", async () => {
    const { warnings } = await load({
      env: {
        RUNTIME_SESSION_STORE_TYPE: "redis",
        MCP_HOST: "x",
        RUNTIME_WORKSPACE_ROOT: "y",
        AGENT_SERVER_HOST: "z",
        RUNTIME_SESSION_STORE_PASSWORD: "",
      },
    });
    expect(warnings.map((line) => line.split(" ")[0])).toEqual([
      "RUNTIME_SESSION_STORE_TYPE",
      "MCP_HOST",
      "RUNTIME_WORKSPACE_ROOT",
      "AGENT_SERVER_HOST",
    ]);
    for (const line of warnings) expect(line).toMatch(/is not honoured/);
  });

  it("and ours are warned about when misspelled, strangers are not", async () => {
    const { warnings } = await load({
      env: { LAIR_LISTN_PORT: "1", LLAMA_CPP_NCTX: "2", RUNTIME_CLASS: "3", HTTPS_PROXY: "socks5://x", PATH: "y" },
    });
    expect(warnings).toEqual([
      "LAIR_LISTN_PORT is no variable of this program and has no effect; did you mean LAIR_LISTEN_PORT?",
      "LLAMA_CPP_NCTX is no variable of this program and has no effect; did you mean LLAMA_CPP_N_CTX?",
      "HTTPS_PROXY is not honoured: only http:// and https:// proxies are supported, not SOCKS",
    ]);
  });
});

describe("Windows", () => {
  /** What a shell hands to the program for one line of it; enough of PowerShell and cmd.exe for assignments. */
  function environmentOf(line: string): Record<string, string> {
    const powershell = /^\$env:(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)"|(\S+))\s*;?$/i.exec(line);
    if (powershell !== null) return { [powershell[1] ?? ""]: powershell[2] ?? powershell[3] ?? powershell[4] ?? "" };
    const cmd = /^set (\w+)=(.*)$/.exec(line);
    return { [cmd?.[1] ?? ""]: cmd?.[2] ?? "" };
  }

  it.each([
    ["$env:LLAMA_CPP_MODEL = 'M:\\llm_models'"],
    ['$env:LLAMA_CPP_MODEL="M:\\llm_models";'],
    ["set LLAMA_CPP_MODEL=M:\\llm_models"],
    ['set LLAMA_CPP_MODEL="M:\\llm_models"'],
    ["set LLAMA_CPP_MODEL=M:\\llm_models "],
  ])("keeps the path of `%s`", async (line) => {
    expect((await load({ env: environmentOf(line) })).config.llama.model).toBe("M:\\llm_models");
  });

  it.each([["model: M:\\llm_models"], ["model: 'M:\\llm_models'"], ['model: "M:\\\\llm_models"']])(
    "keeps the path of YAML's `%s`",
    async (line) => {
      expect((await load({ file: `llama:\r\n  ${line}\r\n` })).config.llama.model).toBe("M:\\llm_models");
    },
  );

  it("keeps network paths, spaces and other scripts", async () => {
    for (const model of ["\\\\nas\\models\\a b.gguf", "D:\\模型\\通义.gguf", "C:/models"]) {
      expect((await load({ env: { LLAMA_CPP_MODEL: model } })).config.llama.model).toBe(model);
      expect((await load({ flags: { model } })).config.llama.model).toBe(model);
    }
  });

  it.each([
    ['model: "M:\\llm_models"', /single quotes/],
    ['model: "M:\\new\\temp"', /control character.*single quotes/],
  ])("explains what is wrong with YAML's `%s`", async (line, hint) => {
    expect(await refusal({ file: `llama:\n  ${line}\n` })).toMatch(hint);
  });
});

describe("providers of the file", () => {
  const file = [
    "providers:",
    "  ollama: { enabled: false }",
    "  my-lab:",
    "    kind: openai",
    "    urls: https://a.example/v1, http://b.example",
    "    key: ${env:LAB_KEY}",
    "    headers: { X-Team: blue }",
    "    aliases: { coder: Qwen/Qwen3-Coder }",
    "    models: { include: ['qwen*'] }",
    "    timeouts: { idle: 10s }",
    "defaultProvider: my-lab",
  ].join("\n");

  it("are read with keys from the environment, and Ollama can be left out", async () => {
    const { config } = await load({ file, env: { LAB_KEY: "k" } });
    expect(config.providers).toEqual({
      "my-lab": {
        kind: "openai",
        urls: ["https://a.example/v1", "http://b.example"],
        key: "k",
        headers: { "X-Team": "blue" },
        aliases: { coder: "Qwen/Qwen3-Coder" },
        models: { include: ["qwen*"], exclude: [] },
        timeouts: { idle: 10_000 },
      },
    });
  });

  it("are warned about where a setting is not for their kind", async () => {
    const { warnings } = await load({ file: "providers:\n  vllm: { keepAlive: 10m }\n" });
    expect(warnings).toEqual(["providers.vllm.keepAlive (lair.yaml:2) has no effect: only Ollama knows it"]);
  });

  it("are changed by variables of their name", async () => {
    const { config, warnings } = await load({
      file,
      env: {
        LAB_KEY: "k",
        LAIR_PROVIDERS_MY_LAB_KEY: "other",
        LAIR_PROVIDERS_MY_LAB_MAX_CONCURRENT: "2",
        LAIR_PROVIDERS_MY_LAB_HEADERS: "X-A=1,X-B=2",
      },
    });
    expect(config.providers["my-lab"]).toMatchObject({
      key: "other",
      maxConcurrent: 2,
      headers: { "X-A": "1", "X-B": "2" },
    });
    expect(warnings).toEqual([]);
  });
});
