#!/usr/bin/env node
// `node scripts/anthropic-schemas.mjs`: writes test/fixtures/spec/anthropic.json anew: JSON schemas of what Anthropic's
// API answers, made of the types of the SDK that package.json names. Tests hold our replies against them. The tool that
// makes them is fetched from the package registry into a temporary folder; it needs a TypeScript older than ours.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { requireNode, root } from "./bootstrap.mjs";

const generator = "ts-json-schema-generator@2.4.0";
const types = {
  "resources/messages/messages": ["Message", "RawMessageStreamEvent", "MessageTokensCount"],
  "resources/models": ["ModelInfo"],
  "resources/shared": ["ErrorResponse"],
};
const target = path.join(root, "test/fixtures/spec/anthropic.json");

requireNode();
const folder = mkdtempSync(path.join(tmpdir(), "lair-schemas-"));
try {
  writeFileSync(path.join(folder, "package.json"), "{}");
  run("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", generator]);
  cpSync(path.join(root, "node_modules/@anthropic-ai/sdk"), path.join(folder, "node_modules/@anthropic-ai/sdk"), {
    recursive: true,
  });
  writeFileSync(path.join(folder, "answers.ts"), source());
  const options = [
    "--path",
    "answers.ts",
    "--type",
    "Answers",
    "--no-type-check",
    "--additional-properties",
    "--minify",
  ];
  const made = run("node", ["node_modules/ts-json-schema-generator/bin/ts-json-schema-generator.js", ...options]);
  writeFileSync(target, `${withoutTexts(made)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function source() {
  const named = Object.entries(types).flatMap(([file, names]) => names.map((name) => ({ file, name })));
  const imports = named.map(({ file, name }) => `import type { ${name} } from "@anthropic-ai/sdk/${file}";`);
  const fields = named.map(({ name }) => `  ${name}: ${name};`);
  return `${imports.join("\n")}\nexport interface Answers {\n${fields.join("\n")}\n}\n`;
}

function run(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 1 << 26,
    shell: process.platform === "win32" && command === "npm",
  });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} failed:\n${stderr || stdout}`);
  return stdout;
}

/** Only the shapes are held against replies. */
function withoutTexts(json) {
  const { version } = JSON.parse(readFileSync(path.join(root, "node_modules/@anthropic-ai/sdk/package.json"), "utf8"));
  const { definitions } = JSON.parse(json, (key, value) =>
    key === "description" && typeof value === "string" ? undefined : value,
  );
  return JSON.stringify({ $comment: `@anthropic-ai/sdk ${version}`, definitions });
}
