import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";

interface Entry {
  version?: string;
  resolved?: string;
  optionalDependencies?: Record<string, string>;
}

const lockfile = path.join(import.meta.dirname, "../../package-lock.json");
const packages: Record<string, Entry> = JSON.parse(readFileSync(lockfile, "utf8")).packages;

it("the lockfile names no registry, so that every mirror can serve it", () => {
  expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
});

it("the lockfile knows the binaries of every platform, or npm ci would refuse it", () => {
  const known = Object.keys(packages).map((place) =>
    place.slice(place.lastIndexOf("node_modules/") + "node_modules/".length),
  );
  const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
  expect(wanted.filter((name) => !known.includes(name))).toEqual([]);
  expect(Object.entries(packages).filter(([place, entry]) => place !== "" && entry.version === undefined)).toEqual([]);
});
