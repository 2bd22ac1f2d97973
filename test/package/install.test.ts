import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, npmSync } from "../../scripts/bootstrap.mjs";
import { cleanEnvironment, startProgram } from "./program.ts";

const place = mkdtempSync(path.join(tmpdir(), "lair-package-"));
let tarball: string;
let packed: { path: string }[];

beforeAll(async () => {
  await ensureBuilt();
  // Built already, and other tests run what is in dist.
  const { status, stdout, stderr } = npmSync(["pack", "--json", "--ignore-scripts", "--pack-destination", place]);
  if (status !== 0) throw new Error(stderr);
  const [report] = Object.values(JSON.parse(stdout) as Record<string, { filename: string; files: { path: string }[] }>);
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

describe("the tarball", () => {
  it("holds what a user needs and nothing of the workshop", () => {
    const names = packed.map((file) => file.path);
    expect(names).toEqual(
      expect.arrayContaining([
        "dist/cli/main.js",
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
    expect(names.filter((name) => /\.ts$|test|bench/.test(name))).toEqual([]);
  });
});

describe("installed in an empty folder", () => {
  it("serves a chat by llama.cpp", async () => {
    const { folder, script } = install("full");
    const bin = path.join(folder, "node_modules/.bin", process.platform === "win32" ? "lair.cmd" : "lair");
    expect(execFileSync(bin, ["--version"], { encoding: "utf8", shell: process.platform === "win32" })).toMatch(
      /\d+\.\d+\.\d+/,
    );
    const program = await startProgram(script, ["serve", "--port", "0"], {
      cwd: folder,
      env: cleanEnvironment(folder),
    });
    try {
      const [model] = await models(program.url);
      const { status, json } = await chat(program.url, model!);
      expect(json).toMatchObject({
        object: "chat.completion",
        choices: [{ message: { role: "assistant", content: expect.stringMatching(/\S/) } }],
      });
      expect(status).toBe(200);
    } finally {
      await program.stop();
    }
  }, 180_000);
});

describe("installed without optional dependencies", () => {
  it("says that llama.cpp is missing and serves the other providers", async () => {
    const { folder, script, megabytes } = install("slim", "--omit=optional");
    expect(megabytes).toBeLessThan(20);
    const upstream = createServer((request, reply) => {
      reply.setHeader("content-type", "application/json");
      if (request.url === "/v1/models")
        return reply.end(JSON.stringify({ object: "list", data: [{ id: "tiny", object: "model" }] }));
      const message = { role: "assistant", content: "from afar" };
      const choices = [{ index: 0, message, finish_reason: "stop" }];
      const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
      return reply.end(
        JSON.stringify({ id: "chatcmpl-1", object: "chat.completion", created: 1, model: "tiny", choices, usage }),
      );
    }).listen(0, "127.0.0.1");
    const env = {
      ...cleanEnvironment(folder),
      VLLM_HOST: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
    };
    const program = await startProgram(script, ["serve", "--port", "0"], { cwd: folder, env });
    try {
      expect(await models(program.url)).toContain("vllm:tiny");
      expect((await chat(program.url, "vllm:tiny")).json).toMatchObject({
        model: "vllm:tiny",
        choices: [{ message: { content: "from afar" } }],
      });
      expect(program.output()).toMatch(/llama\.cpp is not installed/);
      const refused = await chat(program.url, "demo");
      expect(refused.status).toBeGreaterThanOrEqual(400);
      expect(refused.json.error?.message).toMatch(/llama\.cpp is not installed/);
    } finally {
      await program.stop();
      upstream.close();
    }
  }, 180_000);
});
