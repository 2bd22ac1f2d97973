import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

type Exports = string | { readonly [condition: string]: Exports };

/** Loads the ES module of a library that is installed in a folder apart from the project. */
export async function loadLibrary(folder: string, name: string): Promise<unknown> {
  const home = path.join(folder, "node_modules", name);
  const { exports } = JSON.parse(readFileSync(path.join(home, "package.json"), "utf8")) as {
    exports: { ".": Exports };
  };
  return import(/* @vite-ignore */ pathToFileURL(path.join(home, entry(exports["."]))).href);
}

function entry(exports: Exports): string {
  if (typeof exports === "string") return exports;
  const chosen = exports["import"] ?? exports["default"];
  if (chosen === undefined) throw new Error(`no ES module: ${JSON.stringify(exports)}`);
  return entry(chosen);
}
