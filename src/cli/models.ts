import type { StoredModel } from "../model-store.ts";
import type { Environment } from "../config/environment.ts";
import { loadConfig } from "../config/load.ts";
import { formatBytes } from "../config/units.ts";
import { toColumns } from "./columns.ts";
import { demoText, pullCommand, wrap } from "./demo-text.ts";
import { type Command, UsageError, exitCodes, plainText, readFlags } from "./command.ts";
import { settingFlags } from "./setting-flags.ts";

export const models: Command = {
  help: `usage: lair models [flags]

Lists the GGUF models that lair serve would offer: those of LLAMA_CPP_MODEL (files, folders, and the stores
huggingface, lmstudio and ollama), and those of lair pull.

flags:
  -m, --model <value>        other sources, as for lair serve
      --json                 Machine-readable.

examples:
  lair models
  lair models --model huggingface

exit codes: 0 done · 2 the command line or the configuration is wrong`,
  async run(args, terminal) {
    const { flags, words } = readFlags(args, { ...settingFlags(), json: { type: "boolean" } });
    if (words.length > 0) throw new UsageError(`it takes flags only, not ${JSON.stringify(words[0])}`);
    const { json, ...settings } = flags;
    const { config } = await loadConfig({ flags: settings, env: terminal.env });
    const { listModels } = await import("../model-store.ts");
    const found = await listModels(config, terminal.env);
    if (json === true) terminal.print(JSON.stringify(found.map(withoutTemplate), null, 2));
    else for (const line of listLines(found, terminal.env)) terminal.print(plainText(line));
    return exitCodes.done;
  },
};

function withoutTemplate({ facts, ...model }: StoredModel): object {
  if (facts === null) return { ...model, facts };
  const { template: _, ...rest } = facts;
  return { ...model, facts: rest };
}

/** A table of the sound ones, and a line for each broken one. */
function listLines(found: readonly StoredModel[], env: Environment): string[] {
  if (found.length === 0) return [`There is no model yet. Fetch one: ${pullCommand(env)}`];
  const sound = found.filter(({ problem }) => problem === null);
  const rows = sound.map(({ id, bytes, facts }) => [
    id,
    formatBytes(bytes),
    facts === null ? "" : formatCount(facts.parameters),
    facts?.quantization ?? "",
    facts?.context === undefined ? "" : String(facts.context),
    facts === null ? "" : usesOf(facts.capabilities),
  ]);
  const broken = found.flatMap(({ id, problem }) => (problem === null ? [] : [`${id}: ${problem}`]));
  return [
    ...(rows.length === 0 ? [] : toColumns([["MODEL", "SIZE", "WEIGHTS", "TYPE", "CONTEXT", "FOR"], ...rows])),
    ...(broken.length === 0
      ? []
      : [...(rows.length === 0 ? [] : [""]), "cannot be loaded:", ...broken.map((line) => `  ${line}`)]),
    ...demoNote(found, env),
  ];
}

/** What the built-in model is, where it is listed, and how to get another one. */
function demoNote(found: readonly StoredModel[], env: Environment): string[] {
  const demo = found.find(({ builtIn }) => builtIn);
  if (demo === undefined) return [];
  const { id, bytes, facts } = demo;
  const text = demoText(id, { bytes, ...(facts === null ? {} : { parameters: facts.parameters }) });
  const alone = found.length === 1;
  return [
    "",
    ...wrap(alone ? `${text} It is offered while there is no other model. Fetch one: ${pullCommand(env)}` : text),
  ];
}

/** e.g. `chat, tools`. */
export function usesOf(capabilities: NonNullable<StoredModel["facts"]>["capabilities"]): string {
  const { chat, tools, vision, reasoning, embeddings, rerank } = capabilities;
  const uses = Object.entries({ chat, tools, vision, reasoning, embeddings, rerank });
  return uses.flatMap(([use, can]) => (can ? [use] : [])).join(", ");
}

/** A number of weights, e.g. `8.2 B`. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)} B`;
  return count >= 1e6 ? `${Math.round(count / 1e6)} M` : String(count);
}
