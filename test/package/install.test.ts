import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, npmSync, root } from "../../scripts/bootstrap.mjs";
import { type Program, start } from "../cli/program.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";

const place = mkdtempSync(path.join(tmpdir(), "lair-package-"));
let tarball: string;
let packed: { path: string; size: number }[];

beforeAll(async () => {
  await ensureBuilt();
  // Built already, and other tests run what is in dist.
  const { status, stdout, stderr } = npmSync(["pack", "--json", "--ignore-scripts", "--pack-destination", place]);
  if (status !== 0) throw new Error(stderr);
  const [report] = Object.values(JSON.parse(stdout) as Record<string, { filename: string; files: typeof packed }>);
  tarball = path.join(place, report!.filename);
  packed = report!.files;
}, 120_000);

afterAll(() => rmSync(place, { recursive: true, force: true }));

/** Installs the tarball into an empty folder; gives the folder, the program's script and what lies on disk in MB. */
function install(name: string, ...flags: string[]): { folder: string; script: string; megabytes: number } {
  const folder = path.join(place, name);
  mkdirSync(folder);
  const args = ["install", tarball, ...flags, "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];
  const { status, stdout, stderr } = npmSync(args, { cwd: folder });
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return {
    folder,
    script: path.join(folder, "node_modules/local-ai-runtime/dist/cli/main.js"),
    megabytes: sizeOf(folder) / 1e6,
  };
}

function sizeOf(folder: string): number {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return entries.reduce((total, entry) => total + statSync(path.join(entry.parentPath, entry.name)).size, 0);
}

interface Answer {
  readonly status: number;
  readonly json: { error?: { message: string }; choices?: unknown };
}

async function chat(url: string, model: string): Promise<Answer> {
  const body = JSON.stringify({ model, max_tokens: 16, messages: [{ role: "user", content: "Hello" }] });
  const reply = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  return { status: reply.status, json: (await reply.json()) as Answer["json"] };
}

async function models(url: string): Promise<string[]> {
  const reply = await fetch(`${url}/v1/models`);
  const { data } = (await reply.json()) as { data: { id: string }[] };
  return data.map(({ id }) => id);
}

const onLinuxX64 = process.platform === "linux" && process.arch === "x64";

/** Megabytes that the README's table of sizes gives in the row that holds these words. */
function statedSize(words: string): number {
  const row = readFileSync(path.join(root, "README.md"), "utf8")
    .split("\n")
    .find((line) => line.startsWith("|") && line.includes(words));
  return Number(/(\d+) \|$/.exec(row ?? "")?.[1]);
}

describe("the tarball", () => {
  it("holds what a user needs and nothing of the workshop", () => {
    const names = packed.map((file) => file.path);
    expect(names).toEqual(
      expect.arrayContaining([
        "dist/cli/main.js",
        "dist/cli/cloud-server.js",
        "dist/cli/local-agent.js",
        "dist/assets/demo.gguf",
        "config.schema.json",
        "README.md",
        "README.zh-CN.md",
        "LICENSE",
        "CHANGELOG.md",
        "package.json",
      ]),
    );
    expect(
      names.filter((name) => !/^(dist\/|config\.schema\.json|[A-Z]+(\.zh-CN)?(\.md)?$|package\.json)/.test(name)),
    ).toEqual([]);
    expect(packed.find(({ path: name }) => name === "dist/assets/demo.gguf")!.size).toBeLessThanOrEqual(8_000_000);
    expect(names.filter((name) => /\.ts$|(^|\/)(test|bench)\//.test(name))).toEqual([]);
  });
});

/** Starts the installed program, hands its address to `use`, stops it. */
async function serving(
  script: string,
  options: { cwd: string; env?: Record<string, string> },
  use: (url: string, program: Program) => Promise<void>,
): Promise<void> {
  const program = start(["serve", "--port", "0"], { ...options, script });
  try {
    const [, url] = await program.until(/"url":"([^"]+)"/);
    await use(url!, program);
  } finally {
    program.child.kill();
    await program.ended;
  }
}

describe("installed in an empty folder", () => {
  it("serves a chat by llama.cpp", async () => {
    const { folder, script, megabytes } = install("full");
    const bin = path.join(folder, "node_modules/.bin", process.platform === "win32" ? "lair.cmd" : "lair");
    const version = execFileSync(bin, ["--version"], { encoding: "utf8", shell: process.platform === "win32" });
    expect(version).toMatch(/\d+\.\d+\.\d+/);
    await serving(script, { cwd: folder }, async (url) => {
      const [model] = await models(url);
      const { status, json } = await chat(url, model!);
      expect(json).toMatchObject({
        object: "chat.completion",
        choices: [{ message: { role: "assistant", content: expect.stringMatching(/\S/) } }],
      });
      expect(status).toBe(200);
    });
    if (onLinuxX64) expect(megabytes / statedSize("installed package")).toBeCloseTo(1, 0.7);
  }, 180_000);
});

describe("installed without optional dependencies", () => {
  it("says that llama.cpp is missing and serves the other providers", async () => {
    const { folder, script, megabytes } = install("slim", "--omit=optional");
    for (const [name, command] of Object.entries({ cloud_server: "cloud", local_agent: "agent" })) {
      const bin = path.join(folder, "node_modules/.bin", process.platform === "win32" ? `${name}.cmd` : name);
      const help = execFileSync(bin, ["--help"], { encoding: "utf8", shell: process.platform === "win32" });
      expect(help).toContain(`usage: lair ${command} `);
    }
    expect(readdirSync(path.join(folder, "node_modules"))).not.toContain("koffi");
    const vllm = await startFakeVllm({ model: "tiny", reply: [{ text: "from afar" }, { finish: "stop" }] });
    await serving(script, { cwd: folder, env: { VLLM_HOST: vllm.url } }, async (url, program) => {
      expect(await models(url)).toContain("vllm:tiny");
      const answer = await chat(url, "vllm:tiny");
      expect(answer.json).toMatchObject({ model: "vllm:tiny", choices: [{ message: { content: "from afar" } }] });
      const refused = await chat(url, "demo");
      expect(refused.status).toBeGreaterThanOrEqual(400);
      expect(refused.json.error?.message).toMatch(/llama\.cpp is not installed/);
      await program.until(/llama\.cpp is not installed/);
    });
    await vllm.close();
    if (onLinuxX64) expect(megabytes / statedSize("installed with `npm install")).toBeCloseTo(1, 0.7);
  }, 180_000);
});
