import { basename, resolve } from "node:path";
import { modelsFolder } from "../config/folders.ts";
import { formatBytes } from "../config/units.ts";
import { parseReference, ReferenceError, referenceForms } from "../hub/reference.ts";
import { HubError } from "../hub/transport.ts";
import { type Command, type Terminal, UsageError, exitCodes, plainText, readFlags } from "./command.ts";
import { ProgressLine } from "./progress-line.ts";

export const pull: Command = {
  help: `usage: lair pull <model> [flags]

Fetches a GGUF model, with all its parts and its projector for images, into the models folder, where lair serve finds
it. What was broken off goes on where it stopped; every file is verified by its SHA-256.

models:
  ${referenceForms}

flags:
  --to <folder>              another folder than LAIR_MODELS or the user's own

environment: HF_TOKEN for gated repositories, HF_ENDPOINT for a mirror (https://hf-mirror.com), MODELSCOPE_ENDPOINT,
HTTPS_PROXY, NO_PROXY

examples:
  lair pull hf:Qwen/Qwen3-8B-GGUF
  lair pull hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q5_K_M
  HF_ENDPOINT=https://hf-mirror.com lair pull Qwen/Qwen3-8B-GGUF
  lair pull ms:Qwen/Qwen3-8B-GGUF --to M:\\llm_models

exit codes: 0 it is there · 1 it did not come · 2 the command line is wrong`,
  async run(args, terminal) {
    const { flags, words } = readFlags(args, { to: { type: "string" } });
    const [named, ...more] = words;
    if (named === undefined || more.length > 0) throw new UsageError("it takes one model, e.g. hf:Qwen/Qwen3-8B-GGUF");
    const reference = read(named);
    const folder = typeof flags["to"] === "string" ? resolve(flags["to"]) : modelsFolder({ env: terminal.env });
    const { pullModel } = await import("../model-store.ts");
    const line = new ProgressLine(terminal);
    const stop = abortOnSignal();
    try {
      const pulled = await pullModel(reference, {
        folder,
        env: terminal.env,
        signal: stop.signal,
        onProgress: ({ file, phase, done, total }) =>
          line.show({ label: `${phase === "verify" ? "verifying " : ""}${plainText(file)}`, done, total }),
      });
      line.clear();
      report(pulled, folder, terminal);
      return exitCodes.done;
    } catch (error) {
      line.clear();
      if (stop.signal.aborted) terminal.complain("lair pull: stopped; the same command goes on where it was");
      else if (error instanceof HubError) terminal.complain(`lair pull: ${plainText(error.message)}`);
      else throw error;
      return exitCodes.failed;
    } finally {
      stop.end();
    }
  },
};

function read(text: string): ReturnType<typeof parseReference> {
  try {
    return parseReference(text);
  } catch (error) {
    throw error instanceof ReferenceError ? new UsageError(error.message) : error;
  }
}

function report(
  pulled: { readonly path: string; readonly bytes: number; readonly fetched: boolean },
  folder: string,
  terminal: Terminal,
): void {
  const id = basename(pulled.path)
    .replace(/\.gguf$/i, "")
    .replace(/-\d{5}-of-\d{5}$/, "");
  terminal.print(`${pulled.fetched ? "fetched" : "there already"}: ${pulled.path} (${formatBytes(pulled.bytes)})`);
  terminal.print("");
  terminal.print(`  lair run ${id}`);
  const own = modelsFolder({ env: terminal.env });
  terminal.print(folder === own ? "  lair serve" : `  LLAMA_CPP_MODEL=${folder} lair serve`);
}

function abortOnSignal(): { readonly signal: AbortSignal; end(): void } {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  process.on("SIGINT", abort).on("SIGTERM", abort);
  return {
    signal: stop.signal,
    end: () => void process.off("SIGINT", abort).off("SIGTERM", abort),
  };
}
