import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { withTables } from "../../scripts/clients-table.ts";
import { clientNames, ownLibraries, splitRelease, versionOf } from "../clients/releases.ts";
import type { Result } from "../clients/results.ts";

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");
const results = JSON.parse(read("test/clients/results.json")) as Result[];

describe("the compatibility table", () => {
  it("is what the real clients' tests have shown", () => {
    const page = read("docs/clients.md");
    expect(withTables(page, results)).toBe(page);
  });

  it("is of the releases that the tests install", () => {
    for (const { client, version } of results) expect(version).toBe(versionOf(client));
    const core = ["ai"];
    expect(new Set([...results.map(({ client }) => client), ...core])).toEqual(new Set(clientNames));
  });

  it("is of the project's own copies where it has one", () => {
    const { devDependencies } = JSON.parse(read("package.json")) as { devDependencies: Record<string, string> };
    for (const [name, version] of ownLibraries.map(splitRelease)) expect(devDependencies[name]).toBe(version);
  });
});
