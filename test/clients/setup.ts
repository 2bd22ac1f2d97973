import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { libraries, type ProgramName, programs } from "./releases.ts";

/** Where a client is, or why there is none to test with. */
export type Found = { readonly path: string } | { readonly missing: string };

declare module "vitest" {
  interface ProvidedContext {
    /** Paths of executables, and of the libraries' folder. */
    clients: Readonly<Record<ProgramName | "libraries", Found>>;
  }
}

const installer = fileURLToPath(new URL("../../scripts/install-client.mjs", import.meta.url));
/** Exit code of the installer where the package registry cannot be reached. */
const unreachable = 3;

/** Installs the clients, once for all tests. Throws when one cannot be installed though the registry answers. */
export async function setup(project: TestProject): Promise<void> {
  // One after another: each is up to 400 MB.
  const found = {
    opencode: await find(programs.opencode),
    codex: await find(programs.codex),
    claude: await find(programs.claude),
    libraries: await find(...libraries),
  };
  for (const [name, client] of Object.entries(found))
    if ("missing" in client) process.stderr.write(`The tests with ${name} are skipped: ${client.missing}.\n`);
  project.provide("clients", found);
}

async function find(...releases: string[]): Promise<Found> {
  const child = spawn(process.execPath, [installer, ...releases], { stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
    process.stderr.write(chunk);
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code === 0) return { path: printed.trim() };
  const names = releases.join(", ");
  if (code === unreachable) return { missing: `${names} is not installed and the package registry cannot be reached` };
  throw new Error(`${names} could not be installed:\n${said}`);
}
