import { createInterface } from "node:readline/promises";
import { loadConfig } from "../config/load.ts";
import { formatBytes } from "../config/units.ts";
import { type Command, type Terminal, UsageError, exitCodes, plainText, readFlags } from "./command.ts";

export const rm: Command = {
  help: `usage: lair rm <model> [--yes]

Deletes a model that lair pull has fetched, with all its parts. Files elsewhere, and those of other programs, are
theirs to delete.

flags:
      --yes                  without asking

example:
  lair rm qwen3-8b-q4_k_m

exit codes: 0 it is gone · 1 it is not · 2 the command line or the configuration is wrong`,
  async run(args, terminal) {
    const { flags, words } = readFlags(args, { yes: { type: "boolean" } });
    const [name, ...more] = words;
    if (name === undefined || more.length > 0) throw new UsageError("it takes one model; lair models lists them");
    const { config } = await loadConfig({ env: terminal.env });
    const { findStored, removeStored } = await import("../model-store.ts");
    const model = await findStored(name, config, terminal.env);
    if (model === undefined || !model.pulled) {
      const reason =
        model === undefined
          ? `there is no model ${name}; lair models lists those there are`
          : `${model.id} was not fetched by lair pull; its file is ${model.path}`;
      terminal.complain(`lair rm: ${plainText(reason)}`);
      return exitCodes.failed;
    }
    const question = `delete ${plainText(model.path)} (${formatBytes(model.bytes)})? [y/N] `;
    if (flags["yes"] !== true && !(await agrees(question, terminal))) {
      terminal.complain("lair rm: nothing was deleted");
      return exitCodes.failed;
    }
    await removeStored(model, terminal.env);
    terminal.print(`deleted ${plainText(model.id)}: ${formatBytes(model.bytes)} are free again`);
    return exitCodes.done;
  },
};

/** False where nobody is there to ask. */
async function agrees(question: string, terminal: Terminal): Promise<boolean> {
  const { input, output } = terminal;
  if (!terminal.interactive || input.isTTY !== true) {
    terminal.complain("lair rm: nobody is here to confirm it; --yes deletes without asking");
    return false;
  }
  const lines = createInterface({ input, output });
  try {
    return /^y(es)?$/i.test((await lines.question(question)).trim());
  } finally {
    lines.close();
  }
}
