import type { StoredModel } from "../model-store.ts";
import { loadConfig } from "../config/load.ts";
import { formatBytes } from "../config/units.ts";
import { type Command, UsageError, exitCodes, plainText, readFlags } from "./command.ts";
import { formatCount, usesOf } from "./models.ts";
import { settingFlags } from "./setting-flags.ts";

export const show: Command = {
  help: `usage: lair show <model> [flags]

Says what a model is: its file, architecture, size, quantisation, context, what it can do, and the memory that it is
expected to take.

flags:
      --template             its chat template instead
      --json                 Machine-readable, with the template.
  -m, --model <value>        other sources, as for lair serve

examples:
  lair show qwen3-8b-q4_k_m
  lair show qwen3-8b-q4_k_m --template

exit codes: 0 done · 1 there is no such model · 2 the command line or the configuration is wrong`,
  async run(args, terminal) {
    const options = { ...settingFlags(), json: { type: "boolean" }, template: { type: "boolean" } } as const;
    const { flags, words } = readFlags(args, options);
    const [name, ...more] = words;
    if (name === undefined || more.length > 0) throw new UsageError("it takes one model; lair models lists them");
    const { json, template, ...settings } = flags;
    const { config } = await loadConfig({ flags: settings, env: terminal.env });
    const { findStored } = await import("../model-store.ts");
    const model = await findStored(name, config, terminal.env);
    if (model === undefined) {
      terminal.complain(`lair show: there is no model ${plainText(name)}; lair models lists those there are`);
      return exitCodes.failed;
    }
    if (json === true) terminal.print(JSON.stringify(model, null, 2));
    else if (template === true) terminal.print(model.facts?.template ?? "it has no chat template of its own");
    else for (const line of showLines(model)) terminal.print(plainText(line));
    return exitCodes.done;
  },
};

function showLines({ id, names, path, files, projector, bytes, problem, facts }: StoredModel): string[] {
  const rows: [label: string, text: string | null][] = [
    ["model", id],
    ["also", names.length === 0 ? null : names.join(", ")],
    ["file", files.length > 1 ? `${path} and ${files.length - 1} more` : path],
    ["projector", projector],
    ["size", formatBytes(bytes)],
    ["problem", problem],
    ...(facts === null ? [] : factRows(facts)),
  ];
  const shown = rows.filter((row): row is [string, string] => row[1] !== null);
  const width = Math.max(...shown.map(([label]) => label.length));
  return shown.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
}

function factRows(facts: NonNullable<StoredModel["facts"]>): [string, string | null][] {
  const { trainedContext, context } = facts;
  const trained = trainedContext === null ? "unknown" : `${trainedContext} tokens`;
  return [
    ["name", facts.name],
    ["about", facts.description ?? null],
    ["licence", facts.license ?? null],
    ["languages", facts.languages?.join(", ") ?? null],
    ["architecture", `${facts.architecture}, ${facts.layers} layers, ${facts.vocabulary} tokens of vocabulary`],
    ["weights", formatCount(facts.parameters)],
    ["quantisation", facts.quantization],
    [
      "context",
      context === undefined || context === trainedContext
        ? trained
        : `${context} tokens here (llama.contextLength), trained for ${trained}`,
    ],
    ["for", usesOf(facts.capabilities)],
    ["sampling", facts.sampling === undefined ? null : samplingText(facts.sampling)],
    ["template", facts.template === null ? "none: prompts are written as ChatML" : "its own (--template prints it)"],
    ["memory", `about ${formatBytes(facts.memory)} while it is loaded`],
  ];
}

/** e.g. `temperature 0.3, topK 20`, as the settings name them. */
function samplingText(sampling: object): string {
  return Object.entries(sampling)
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join(" → ") : value}`)
    .join(", ");
}
