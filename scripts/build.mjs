#!/usr/bin/env node
// `npm run build`: src → dist, the assets beside it, and the model of the first run.
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { root, runToEnd, sourceStamp, writeBuildStamp } from "./bootstrap.mjs";

const dist = path.join(root, "dist");
const stamp = sourceStamp();

const tsc = path.join(root, "node_modules/typescript/bin/tsc");
const code = await runToEnd(process.execPath, [tsc, "-p", "tsconfig.build.json"]);
if (code !== 0) process.exit(code);
removeOrphans(dist);
const { bin } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
for (const file of Object.values(bin)) chmodSync(path.join(root, file), 0o755);

const assets = path.join(dist, "assets");
mkdirSync(assets, { recursive: true });
if (existsSync(path.join(root, "assets"))) cpSync(path.join(root, "assets"), assets, { recursive: true });
if (!existsSync(path.join(root, "assets/demo.gguf"))) await writeDemo(path.join(assets, "demo.gguf"));
writeBuildStamp(stamp);

/** Removes what an earlier build made of a source that is gone. */
function removeOrphans(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const file = path.join(entry.parentPath ?? entry.path, entry.name);
    const source = path.join(root, "src", path.relative(dist, file)).replace(/\.js$/, ".ts");
    if (entry.isFile() && file.endsWith(".js") && !existsSync(source)) rmSync(file);
  }
}

// The maker is TypeScript, as the engine's tests use it too.
async function writeDemo(file) {
  const script = path.join(root, "scripts/make-demo.ts");
  if (!existsSync(script)) return;
  const { tsImport } = await import("tsx/esm/api");
  const { writeDemoModel } = await tsImport(pathToFileURL(script).href, import.meta.url);
  await writeDemoModel(file);
}
