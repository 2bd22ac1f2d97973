import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, program, root } from "../../scripts/bootstrap.mjs";
import { environmentName, settings } from "../../src/config/describe.ts";
import { loadConfig } from "../../src/config/load.ts";
import { type Program, start } from "../cli/program.ts";
import { type Block, fencedBlocks, readCurl, readPowerShell } from "./markdown.ts";

const run = promisify(execFile);
const readme = readFileSync(path.join(root, "README.md"), "utf8");
const chinese = readFileSync(path.join(root, "README.zh-CN.md"), "utf8");
const blocks = fencedBlocks(readme);
const isCurl = (block: Block): boolean => block.language === "sh" && block.text.startsWith("curl ");
const curls = blocks.filter(isCurl);

let place: string;
let server: Program;
let url: string;

beforeAll(async () => {
  await ensureBuilt();
  place = mkdtempSync(path.join(tmpdir(), "lair-readme-"));
  server = start(["serve", "--port", "0"], { cwd: place, script: program });
  url = (await server.until(/"url":"([^"]+)"/))[1]!;
}, 120_000);

afterAll(async () => {
  server.child.kill();
  await server.ended;
  rmSync(place, { recursive: true, force: true });
});

describe("every curl of the README", () => {
  it("is found", () => expect(curls.length).toBeGreaterThanOrEqual(4));

  it.skipIf(process.platform === "win32").each(curls.map((block) => [block.line, block] as const))(
    "at line %i is answered",
    async (_line, { text }) => {
      const here = text
        .replaceAll("http://127.0.0.1:18080", url)
        .replace(/^curl/, `curl -sS -w '\\n%{http_code} %{content_type}'`);
      const { stdout } = await run("sh", ["-c", here]);
      const lines = stdout.trimEnd().split("\n");
      const status = lines.pop()!;
      const body = lines.join("\n");
      expect(status, body).toMatch(/^200 /);
      if ((readCurl(text).body as { stream?: boolean } | undefined)?.stream === true) {
        expect(status).toContain("text/event-stream");
        expect(body).toMatch(/^data: \{/m);
        expect(body.trimEnd().endsWith("data: [DONE]")).toBe(true);
      } else {
        expect(JSON.parse(body)).toBeTypeOf("object");
      }
    },
  );

  it("has its PowerShell beside it, which asks for the same", () => {
    for (const block of curls) {
      const next = blocks[blocks.indexOf(block) + 1];
      expect(next?.language, `after line ${block.line}`).toBe("powershell");
      const [here, there] = [readCurl(block.text), readPowerShell(next!.text)];
      expect(there).toMatchObject({ method: here.method, url: here.url });
      expect(there.body).toEqual(here.body);
      expect(there.headers["content-type"]).toBe(here.headers["content-type"]?.toLowerCase());
    }
  });
});

describe("other examples of the README", () => {
  it("set in PowerShell the variables that they set in the shell", () => {
    for (const [index, block] of blocks.entries()) {
      const shell = Array.from(block.text.matchAll(/(?:^|\s)([A-Z_]+)=\S+/g), ([, name]) => name).filter(
        (name) => name !== undefined,
      );
      if (block.language !== "sh" || shell.length === 0) continue;
      const power = Array.from(blocks[index + 1]!.text.matchAll(/\$env:([A-Z_]+) = '[^']*'/g), ([, name]) => name);
      expect(power, `after line ${block.line}`).toEqual(shell);
    }
  });

  it("are JSON that parses, with the address and limits that opencode needs", () => {
    const [config] = blocks.filter(({ language }) => language === "json").map(({ text }) => JSON.parse(text));
    const { options, models } = config.provider.local;
    expect(options.baseURL).toBe("http://127.0.0.1:18080/v1");
    const [provider, ...id] = config.model.split("/");
    expect(provider).toBe("local");
    expect(models[id.join("/")].limit).toEqual({ context: expect.any(Number), output: expect.any(Number) });
  });

  it("are configuration files that the program takes", async () => {
    for (const { text } of blocks.filter(({ language }) => language === "yaml")) {
      const file = path.join(place, "lair.yaml");
      writeFileSync(file, text);
      const { warnings } = await loadConfig({
        flags: { config: file },
        env: { FAR_KEY: "x" },
        cwd: place,
        home: place,
      });
      expect(warnings).toEqual([]);
      rmSync(file);
    }
  });
});

describe("the tables of the README", () => {
  it("name only variables and flags that exist", () => {
    const rows = readme.split("\n").filter((line) => /^\| `[A-Z]/.test(line));
    const variables = rows.flatMap((row) =>
      Array.from(row.split("|")[1]!.matchAll(/`([A-Z_]+)`/g), ([, name]) => name),
    );
    const flags = rows.flatMap((row) => Array.from(row.split("|")[2]!.matchAll(/`--([a-z-]+)`/g), ([, name]) => name));
    const known = settings().flatMap(({ keys, facts }) => [environmentName(keys), ...(facts.env ?? [])]);
    known.push("OLLAMA_HOST", "LMDEPLOY_HOST", "MNN_HOST", "VLLM_HOST", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY");
    expect(variables.length).toBeGreaterThan(20);
    expect(variables.filter((name) => !known.includes(name!))).toEqual([]);
    const knownFlags = settings().map(({ facts }) => facts.flag);
    expect(flags.filter((name) => !knownFlags.includes(name))).toEqual([]);
  });
});

describe("the Chinese README", () => {
  it("has the same examples", () => {
    const bare = (text: string): string[] =>
      fencedBlocks(text)
        .filter(({ language }) => language !== "")
        .map((block) => block.text);
    expect(bare(chinese)).toEqual(bare(readme));
  });

  it("has the same tables", () => {
    const codes = (text: string): string[] =>
      text
        .split("\n")
        .filter((line) => line.startsWith("| `"))
        .map((line) =>
          line
            .split("|")
            .slice(1, 3)
            .join("|")
            .match(/`[^`]+`/g)!
            .join(),
        );
    expect(codes(chinese)).toEqual(codes(readme));
  });
});
