import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ensureBuilt, program } from "../../../scripts/bootstrap.mjs";
import { type Program, start } from "../../../test/cli/program.ts";
import type { Address } from "./asking.ts";

/** A `lair serve` of our own. */
export interface OwnServer extends Address {
  /** Milliseconds from its start until it takes requests. */
  readonly ready: number;
  stop(): Promise<void>;
}

/** Starts the built program with the built-in model, or with the GGUF `file`, on a free port and without any configuration. */
export async function startServer(file: string | undefined): Promise<OwnServer> {
  await ensureBuilt();
  const place = mkdtempSync(path.join(tmpdir(), "lair-evaluate-"));
  const started = performance.now();
  const model = file === undefined ? ["--demo"] : ["--model", path.resolve(file)];
  const server = start(["serve", "--port", "0", "--sessions", "4", ...model], { cwd: place, script: program });
  const stop = (): Promise<void> => end(server, place);
  try {
    const [, url] = await server.until(/"url":"([^"]+)"/);
    const ready = performance.now() - started;
    const name = file === undefined ? "demo" : path.basename(file, ".gguf");
    return { url: `${url!}/v1`, model: `llama_cpp:${name}`, ready, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function end(server: Program, place: string): Promise<void> {
  server.child.kill();
  await server.ended;
  rmSync(place, { recursive: true, force: true });
}
