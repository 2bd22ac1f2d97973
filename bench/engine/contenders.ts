import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { freePort, familyOf, kill, startFree, stop, temporaryFolder, until } from "../support/processes.ts";
import type { Options } from "./options.ts";

/** A server that is measured, ready with its model in memory. */
export interface Contender {
  readonly name: "lair" | "llama-server";
  readonly url: string;
  readonly model: string;
  readonly pids: () => number[];
  /** Ends it as a user would (Ctrl-C). */
  readonly stop: () => Promise<void>;
}

/** What both are set to. */
export interface Setup {
  readonly model: string;
  readonly slots: number;
  /** Tokens of context of one slot. */
  readonly context: number;
}

/** 8 slots of 4,608 tokens: room for the 4k prompts. */
export const decoderSetup = { slots: 8, context: 4608 } as const;

/** `lair serve` on the built package, its prefix cache in `cache` (kept by the caller over restarts). */
export async function startLair(
  main: string,
  options: Options,
  setup: Setup & { readonly cache: string },
): Promise<Contender> {
  const port = await freePort();
  const log = join(temporaryFolder(), "lair.log");
  mkdirSync(setup.cache, { recursive: true });
  const child = startFree({
    command: process.execPath,
    args: [main, "serve"],
    log,
    env: {
      RUNTIME_PROVIDER: "llama_cpp",
      RUNTIME_LISTEN_PORT: String(port),
      LLAMA_CPP_MODEL: setup.model,
      LLAMA_CPP_N_CTX: String(setup.context),
      LLAMA_CPP_MAX_SESSIONS: String(setup.slots),
      LLAMA_CPP_N_THREADS: String(options.threads),
      LLAMA_CPP_N_GPU_LAYERS: String(options.gpuLayers),
      LLAMA_CPP_CACHE_DIR: setup.cache,
    },
  });
  const url = `http://127.0.0.1:${port}`;
  await ready(child, `${url}/v1/models`, log);
  const model = basename(setup.model, ".gguf");
  return contender("lair", child, { url, model });
}

/** llama-server of the same release with the same slots, threads and batches; its own defaults otherwise. */
export async function startLlamaServer(options: Options, setup: Setup, flags: string[] = []): Promise<Contender> {
  const port = await freePort();
  const log = join(temporaryFolder(), "llama-server.log");
  const args = ["--model", setup.model, "--port", String(port), "--host", "127.0.0.1", "--offline"];
  args.push("--ctx-size", String(setup.context * setup.slots), "--parallel", String(setup.slots));
  args.push("--threads", String(options.threads), "--gpu-layers", String(options.gpuLayers), ...flags);
  const child = startFree({ command: options.server, args, log });
  const url = `http://127.0.0.1:${port}`;
  await ready(child, `${url}/health`, log);
  return contender("llama-server", child, { url, model: "bench" });
}

function contender(
  name: Contender["name"],
  child: ChildProcess,
  where: { readonly url: string; readonly model: string },
): Contender {
  return { name, ...where, pids: () => familyOf(child.pid!), stop: () => stop(child, 30) };
}

async function ready(child: ChildProcess, url: string, log: string): Promise<void> {
  try {
    await until(`${url} answers`, 120, async () => {
      if (child.exitCode !== null) throw new Error("it ended at once");
      const response = await fetch(url).catch(() => null);
      await response?.arrayBuffer();
      return response?.ok === true;
    });
  } catch (error) {
    await kill(child);
    throw new Error(`${(error as Error).message}\n${readFileSync(log, "utf8").slice(-2000)}`);
  }
}
