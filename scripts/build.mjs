#!/usr/bin/env node
// `npm run build`: src → dist, and the assets beside it, among them the model of the first run.
import { chmodSync, cpSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { root, runToEnd, sourceStamp, writeBuildStamp } from "./bootstrap.mjs";

const dist = path.join(root, "dist");
const stamp = sourceStamp();

const tsc = path.join(root, "node_modules/typescript/bin/tsc");
const code = await runToEnd(process.execPath, [tsc, "-p", "tsconfig.build.json"]);
if (code !== 0) process.exit(code);
removeOrphans(dist);
const { bin } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
for (const file of Object.values(bin)) chmodSync(path.join(root, file), 0o755);

cpSync(path.join(root, "assets"), path.join(dist, "assets"), { recursive: true });
writeBuildStamp(stamp);

/** Removes what an earlier build made of a source that is gone. */
function removeOrphans(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const file = path.join(entry.parentPath ?? entry.path, entry.name);
    const source = path.join(root, "src", path.relative(dist, file)).replace(/\.js$/, ".ts");
    if (entry.isFile() && file.endsWith(".js") && !existsSync(source)) rmSync(file);
  }
}
