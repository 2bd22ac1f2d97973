import { execFileSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CannotRun } from "./options.ts";

/** Where built programs and the rival gateway are kept between runs; ignored by git. */
export const cacheFolder = fileURLToPath(new URL("../../.cache/bench", import.meta.url));

/** Compiles `bench/<name>.c` where its program is missing or older. Returns the program's path. Throws `CannotRun`. */
export function buildNative(name: "mock" | "load" | "delay"): string {
  const sources = [`${name}.c`, "wire.h"].map((file) => fileURLToPath(new URL(`../${file}`, import.meta.url)));
  const program = join(cacheFolder, name);
  mkdirSync(cacheFolder, { recursive: true });
  const built = statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (sources.every((source) => statSync(source).mtimeMs < built)) return program;
  try {
    execFileSync("cc", ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", program, sources[0]!], { stdio: "inherit" });
  } catch (error) {
    throw new CannotRun(`cc could not build bench/${name}.c: ${(error as Error).message}`);
  }
  return program;
}
