import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findNpm } from "../../src/engines/llama/builds/npm.ts";
import {
  findLibraryFolder,
  packageName,
  pinnedVersion,
  publishedBackends,
} from "../../src/engines/llama/builds/packages.ts";
import { run } from "./program.ts";

let cwd = "";
beforeAll(() => {
  cwd = mkdtempSync(path.join(tmpdir(), "lair-engine-cli-"));
});
afterAll(() => rmSync(cwd, { recursive: true, force: true }));

describe("lair engine info", () => {
  it("shows what would be loaded, as text and as JSON", async () => {
    const [text, json] = await Promise.all([
      run(["engine", "info"], { cwd }),
      run(["engine", "info", "--json"], { cwd }),
    ]);
    expect(text.stdout).toMatch(/^llama\.cpp +0\.\d+\.\d+/m);
    expect(text.stdout).toMatch(/^backends +.*cpu/m);
    expect(text.stdout).toMatch(/^devices +.*GB of .*GB free$/m);
    expect([text.code, text.stderr]).toEqual([0, ""]);
    const report = JSON.parse(json.stdout);
    expect(report).toMatchObject({ problem: null, wanted: pinnedVersion(), loaded: { gpuProblem: null } });
    expect(report.chosen.folder).toBe(findLibraryFolder());
  });

  it("says what is wrong, and ends with 1", async () => {
    const env = { LLAMA_CPP_LIB: path.join(cwd, "nothing") };
    const { code, stdout, stderr } = await run(["engine", "info"], { cwd, env });
    expect(stderr).toMatch(/^lair engine: the folder of llama\.cpp cannot be read: .*nothing\n$/);
    expect(stdout).not.toMatch(/^llama\.cpp /m);
    expect(code).toBe(1);
  });

  it.each([
    [["engine", "look"], 'lair engine: there is no "look"; it is info, install or remove. See: lair engine --help\n'],
    [["engine", "install"], "lair engine: say what to install: cuda, cuda12, vulkan. See: lair engine --help\n"],
    [
      ["engine", "install", "vulcan"],
      'lair engine: there is no "vulcan": cuda, cuda12, vulkan; did you mean "vulkan"? See: lair engine --help\n',
    ],
  ])("answers %j with one line and exit code 2", async (args, line) => {
    expect(await run(args, { cwd })).toEqual({ code: 2, stdout: "", stderr: line });
  });
});

it("npm is looked for beside Node and on the path, and may be missing", () => {
  const folder = path.join(cwd, "node");
  const script = path.join(folder, "node_modules", "npm", "bin", "npm-cli.js");
  const node = path.join(folder, "node");
  expect(findNpm("", node)).toBe(null);
  mkdirSync(path.dirname(script), { recursive: true });
  writeFileSync(script, "");
  expect(findNpm("", node)).toEqual({ command: node, args: [script] });
  const elsewhere = path.join(cwd, "elsewhere", "node");
  expect(findNpm([path.join(cwd, "empty"), folder].join(path.delimiter), elsewhere)).toEqual({
    command: elsewhere,
    args: [script],
  });
});

const npm = findNpm(process.env["PATH"] ?? "");
const possible = npm !== null && publishedBackends().includes("vulkan");

describe(`lair engine install${possible ? "" : " (skipped: no npm, or no such package for this platform)"}`, () => {
  const name = packageName("vulkan");
  const version = pinnedVersion() ?? "";
  let registry: Server;
  let tarball = Buffer.alloc(0);
  let damaged = false;

  // A registry with one package: the libraries of the processor's build under Vulkan's name.
  beforeAll(async () => {
    if (!possible) return;
    const source = path.join(cwd, "source");
    cpSync(findLibraryFolder(), path.join(source, "bins", name), { recursive: true });
    writeFileSync(path.join(source, "package.json"), JSON.stringify({ name: `@node-llama-cpp/${name}`, version }));
    execFileSync(npm.command, [...npm.args, "pack", "--pack-destination", cwd, "--silent"], { cwd: source });
    const packed = readdirSync(cwd).find((file) => file.endsWith(".tgz")) ?? "";
    tarball = readFileSync(path.join(cwd, packed));
    const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
    registry = createServer((request, response) => {
      if (request.url?.endsWith(".tgz") === true) {
        response.end(damaged ? Buffer.concat([tarball.subarray(0, -9), Buffer.alloc(9)]) : tarball);
        return;
      }
      const dist = { integrity, tarball: `${origin()}/${name}.tgz` };
      const document = {
        name: `@node-llama-cpp/${name}`,
        "dist-tags": { latest: version },
        versions: { [version]: { name: `@node-llama-cpp/${name}`, version, dist } },
      };
      const found = decodeURIComponent(request.url ?? "") === `/@node-llama-cpp/${name}`;
      response.writeHead(found ? 200 : 404, { "content-type": "application/json" });
      response.end(JSON.stringify(found ? document : { error: "not found" }));
    });
    await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => {
    registry?.close();
  });

  const origin = (): string => `http://127.0.0.1:${(registry.address() as AddressInfo).port}`;
  const home = (folder: string): { cwd: string; env: Record<string, string> } => {
    const place = path.join(cwd, folder);
    mkdirSync(place, { recursive: true });
    return { cwd: place, env: { npm_config_registry: origin(), XDG_DATA_HOME: place, LOCALAPPDATA: place } };
  };
  const engineFolder = (folder: string): string => path.join(cwd, folder, "lair", "engine");

  it.skipIf(!possible)("downloads, tries and keeps a build, shows it, and removes it again", async () => {
    const options = home("good");
    const installed = await run(["engine", "install", "vulkan"], options);
    expect(installed.stdout).toContain(`installed ${name} ${version}: llama.cpp 0.`);
    expect(installed.code).toBe(0);
    expect(readdirSync(engineFolder("good"))).toEqual([name]);
    const { stdout } = await run(["engine", "info"], options);
    expect(stdout).toContain(`${name} ${version} by lair engine install`);
    expect((await run(["engine", "remove", "vulkan"], options)).stdout).toBe("removed the build for vulkan\n");
    expect(readdirSync(engineFolder("good"))).toEqual([]);
    const again = await run(["engine", "remove", "vulkan"], options);
    expect([again.code, again.stdout]).toEqual([0, "the build for vulkan is not installed\n"]);
  });

  it.skipIf(!possible)("keeps nothing of a download whose bytes are not the registry's", async () => {
    damaged = true;
    const { code, stderr } = await run(["engine", "install", "vulkan"], home("damaged"));
    damaged = false;
    expect(stderr).toMatch(/^lair engine: npm could not download .*(EINTEGRITY|integrity)/);
    expect(code).toBe(1);
    expect(readdirSync(engineFolder("damaged"))).toEqual([]);
  });

  it.skipIf(!possible)("says so where the registry does not have it", async () => {
    const { code, stderr } = await run(["engine", "install", "cuda"], home("lacking"));
    expect(stderr).toMatch(/^lair engine: npm could not download .*E404/);
    expect(code).toBe(1);
    expect(existsSync(engineFolder("lacking")) && readdirSync(engineFolder("lacking")).length > 0).toBe(false);
  });
});
