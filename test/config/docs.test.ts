import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { configurationPage } from "../../scripts/configuration-page.ts";
import { jsonSchema, settings } from "../../src/config/describe.ts";
import { loadConfig } from "../../src/config/load.ts";
import { flagCommands, hasFlag } from "../../src/config/setting.ts";

const root = path.join(import.meta.dirname, "../..");
const read = (name: string): string => readFileSync(path.join(root, name), "utf8").replaceAll("\r\n", "\n");

describe("what is generated from the schema", () => {
  it("is fresh (`npm run docs` writes it)", () => {
    expect(read("docs/configuration.md")).toBe(configurationPage());
    expect(JSON.parse(read("config.schema.json"))).toEqual(jsonSchema());
  });

  it("says something about every setting", () => {
    for (const { keys, about } of settings()) expect(about, keys.join(".")).toMatch(/^.{12,}\.$/);
  });

  it.each(flagCommands)("gives no two settings the same variable, nor the same flag of lair %s", (command) => {
    const names = settings().flatMap(({ facts }) => [
      ...(facts.env ?? []),
      ...[facts.flag, facts.short].filter((one) => one !== undefined && hasFlag(facts, command)),
    ]);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe("the JSON Schema", () => {
  const validate = new Ajv2020({ allErrors: true }).compile(jsonSchema());

  it("accepts the example file and refuses what the loader refuses", () => {
    expect(validate(parse(read("config.example.yaml"))), JSON.stringify(validate.errors)).toBe(true);
    for (const wrong of [
      { lisen: {} },
      { listen: { port: "x" } },
      { listen: { port: 70_000 } },
      { providers: { "a:b": {} } },
      { timeouts: { idle: "soon" } },
    ]) {
      expect(validate(wrong), JSON.stringify(wrong)).toBe(false);
    }
  });
});

describe("config.example.yaml", () => {
  it("is accepted as it is, and with every comment made a setting", async () => {
    const text = read("config.example.yaml");
    expect(text.split("\n")[0]).toBe("# yaml-language-server: $schema=./config.schema.json");
    const env = { MY_KEY: "a", LAB_KEY: "b" };
    const folder = mkdtempSync(path.join(tmpdir(), "lair-example-"));
    const load = () =>
      loadConfig({ cwd: folder, home: folder, env, flags: { config: path.join(root, "config.example.yaml") } });
    expect((await load()).warnings).toEqual([]);
    // A comment that is a setting starts with `key:` or `- `; the others are prose.
    const uncommented = text.replaceAll(/^( *)# ?( *(?:[a-zA-Z]+:(?: |$)|- ).*)$/gm, "$1$2");
    const { writeFileSync } = await import("node:fs");
    writeFileSync(path.join(folder, "lair.yaml"), uncommented.replace(/^yaml-language-server.*\n/, ""));
    const { config } = await loadConfig({ cwd: folder, home: folder, env });
    expect(config.auth.keys).toEqual(["a"]);
    expect(config.providers["lab"]).toMatchObject({ key: "b", aliases: { coder: "Qwen/Qwen3-Coder-30B" } });
    expect(config.llama.model).toBe("M:\\llm_models");
    rmSync(folder, { recursive: true });
  });
});

describe("the PowerShell lines of the page", () => {
  it("set what they say", async () => {
    const block = /```powershell\n(.*?)```/s.exec(read("docs/configuration.md"))?.[1] ?? "";
    const env = Object.fromEntries(
      [...block.matchAll(/^\$env:(\w+) = '([^']*)'$/gm)].map(([, name, value]) => [name, value]),
    );
    const { config, warnings } = await loadConfig({ cwd: tmpdir(), home: tmpdir(), env });
    expect(config.llama).toMatchObject({ model: "M:\\llm_models", gpuLayers: "all", flashAttention: "off" });
    expect(warnings).toEqual([]);
  });
});
