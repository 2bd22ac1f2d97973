import { existsSync } from "node:fs";
import { type BenchOptions, benchFlags, CannotRun, readBenchOptions, readFlags, toNumber } from "../support/options.ts";

export const measureNames = [
  "prompts",
  "decode",
  "chat",
  "memory",
  "warm",
  "restart",
  "shared",
  "embeddings",
  "abort",
  "stall",
] as const;
export type MeasureName = (typeof measureNames)[number];

export interface Options extends BenchOptions<MeasureName> {
  readonly threads: number;
  /** Layers on the GPU, for both. */
  readonly gpuLayers: number;
  /** A GGUF file instead of the generated one. */
  readonly model: string | undefined;
  /** The program of llama-server. */
  readonly server: string;
}

export const usage = `usage: LLAMA_SERVER_BIN=<file> npm run bench:engine -- [options]

  --quick            one round: a look, not a result
  --measure A,B      what to measure: ${measureNames.join(", ")} (default: all)
  --rounds N         alternating rounds (default 5)
  --threads N        compute threads of both (default 2)
  --gpu-layers N     layers on the GPU, of both (default 0)
  --model FILE       a GGUF file instead of the generated one
  --json FILE        write everything as JSON too
  --runtime FILE     the runtime's built main file (default: dist/cli/main.js)
  --help

LLAMA_SERVER_BIN names llama-server of the same release of llama.cpp; docs/benchmarks.md says how to build it.
Exit status: 0 every "must" that was measured is reached; 1 one is missed; 2 the bench could not run.`;

const flags = {
  ...benchFlags,
  threads: { type: "string", default: "2" },
  "gpu-layers": { type: "string", default: "0" },
  model: { type: "string" },
} as const;

/** Reads the command line and the environment. Returns null where only the usage was asked for. Throws `CannotRun`. */
export function readOptions(args: string[], environment: NodeJS.ProcessEnv): Options | null {
  const values = readFlags(args, flags, usage);
  if (values.help) return null;
  const server = environment["LLAMA_SERVER_BIN"] ?? "";
  if (!existsSync(server)) throw new CannotRun(`LLAMA_SERVER_BIN names no file ("${server}")\n\n${usage}`);
  return {
    ...readBenchOptions(values, measureNames),
    threads: toNumber("--threads", values.threads, 1),
    gpuLayers: toNumber("--gpu-layers", values["gpu-layers"], 0),
    model: values.model,
    server,
  };
}
