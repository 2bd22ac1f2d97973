import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { jsonSchema } from "../../src/config/describe.ts";
import { run } from "./program.ts";

let cwd = "";
beforeAll(() => {
  cwd = mkdtempSync(path.join(tmpdir(), "lair-cli-"));
});
afterAll(() => rmSync(cwd, { recursive: true, force: true }));

describe("lair", () => {
  it("explains itself, and each command, with examples", async () => {
    const [general, ...each] = await Promise.all([
      run([], { cwd }),
      run(["serve", "--help"], { cwd }),
      run(["help", "config"], { cwd }),
      run(["version", "-h"], { cwd }),
    ]);
    expect(general.stdout).toMatch(/usage: lair <command>[\s\S]*serve[\s\S]*config[\s\S]*exit codes/);
    for (const { code, stdout, stderr } of each) {
      expect(stdout).toMatch(/usage: lair [\s\S]*examples?:/);
      expect([code, stderr]).toEqual([0, ""]);
    }
  });

  it("prints the version of the package", async () => {
    const { version } = JSON.parse(readFileSync(path.join(import.meta.dirname, "../../package.json"), "utf8"));
    expect((await run(["--version"], { cwd })).stdout).toContain(
      `local-ai-runtime ${version} (Node.js ${process.versions.node}`,
    );
  });

  it.each([
    [["srve"], 'lair: there is no command "srve"; did you mean "serve"? See: lair help\n'],
    [["serve", "--prot", "1"], 'lair serve: there is no flag --prot; did you mean "--port"? See: lair serve --help\n'],
    [["serve", "now"], 'lair serve: it takes flags only, not "now". See: lair serve --help\n'],
    [["doctor"], "lair doctor: the self-test is not part of this release yet. What there is: lair help\n"],
    [
      ["gateway"],
      "lair gateway: it has nothing to stand before: give it a relay or runtime, --upstream http://127.0.0.1:8081, or write gateway.upstreams into lair.yaml\n",
    ],
    [
      ["config", "explain", "llama.gpulayer"],
      'lair config: there is no setting "llama.gpulayer"; did you mean llama.gpuLayers? See: lair config --help\n',
    ],
  ])("answers %j with one line and exit code 2", async (args, line) => {
    expect(await run(args, { cwd })).toEqual({ code: 2, stdout: "", stderr: line });
  });
});

describe("lair config", () => {
  const env = { LLM_V1_PROXY_TOKEN: "s3cret", LAB_KEY: "s3cret", MCP_HOST: "x" };

  it("shows every value and where it came from, and never a secret", async () => {
    writeFileSync(
      path.join(cwd, "shown.yaml"),
      "providers:\n  lab:\n    kind: openai\n    urls: [http://lab]\n    key: ${env:LAB_KEY}\n    headers: { X-Key: s3cret }\n",
    );
    const { stdout, stderr } = await run(["config", "show", "--port", "1234", "-c", "shown.yaml"], { cwd, env });
    expect(stdout).toMatch(/^listen\.port +1234 +--port$/m);
    expect(stdout).toMatch(/^auth\.keys +\*\*\* +LLM_V1_PROXY_TOKEN$/m);
    expect(stdout).toMatch(/^providers\.lab\.key +\*\*\* +shown\.yaml:5$/m);
    expect(stdout).toMatch(/^timeouts\.firstByte +30m +default$/m);
    expect(stderr).toMatch(/^warning: MCP_HOST is not honoured/);
    const json = await run(["config", "show", "--json", "-c", "shown.yaml"], { cwd, env });
    expect(JSON.parse(json.stdout).settings).toContainEqual({
      path: "providers.lab.urls",
      value: ["http://lab"],
      source: "shown.yaml:4",
    });
    expect(stdout + stderr + json.stdout + json.stderr).not.toContain("s3cret");
  });

  it("checks: 0 when a server would start, 2 with everything that is wrong", async () => {
    const [good, open, bad] = await Promise.all([
      run(["config", "check"], { cwd }),
      run(["config", "check", "--host", "0.0.0.0"], { cwd }),
      run(["config", "check", "--port", "x", "--log-level", "loud"], { cwd }),
    ]);
    expect(good).toEqual({ code: 0, stdout: "the configuration is good (no file)\n", stderr: "" });
    expect([open.code, open.stderr]).toEqual([2, expect.stringContaining("without a key is refused")]);
    expect([bad.code, bad.stderr]).toEqual([
      2,
      'lair config: the configuration is refused:\n  listen.port (--port): found "x"; allowed: a whole number from 0 to 65535\n  log.level (--log-level): found "loud"; allowed: one of debug, info, warn, error, silent\n',
    ]);
  });

  it("prints the JSON Schema of the file", async () => {
    expect(JSON.parse((await run(["config", "schema"], { cwd })).stdout)).toEqual(jsonSchema());
  });
});
