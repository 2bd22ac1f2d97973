import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";

const root = path.join(import.meta.dirname, "../..");
const documents = [
  ...readdirSync(root),
  ...readdirSync(path.join(root, "docs"), { recursive: true, encoding: "utf8" }).map((name) => path.join("docs", name)),
].filter((name) => name.endsWith(".md"));

it.each(documents)("%s links only to files that exist", (document) => {
  const text = readFileSync(path.join(root, document), "utf8");
  const links = Array.from(text.matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g), ([, target]) => target!);
  const missing = links.filter((target) => !existsSync(path.join(root, path.dirname(document), target)));
  expect(missing).toEqual([]);
});

it.each(documents)("%s names only source files that exist", (document) => {
  const text = readFileSync(path.join(root, document), "utf8");
  const names = Array.from(
    text.matchAll(/`((?:src|test|scripts|bench|docs|examples)\/[\w./-]+\.\w+)`/g),
    ([, name]) => name!,
  );
  expect(names.filter((name) => !existsSync(path.join(root, name)))).toEqual([]);
});
