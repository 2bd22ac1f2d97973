import {
  allowedText,
  defaultText,
  jsonSchema,
  type Setting,
  settingAt,
  settings,
  valueText,
} from "../config/describe.ts";
import { variablesOf } from "../config/environment.ts";
import { checkExposure } from "../config/exposure.ts";
import { type Loaded, loadConfig, userFile } from "../config/load.ts";
import { nearest } from "../core/nearest.ts";
import { type Command, exitCodes, type ReadFlags, readFlags, type Terminal, UsageError } from "./command.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";

/** One line of `lair config show`. */
interface Shown {
  readonly path: string;
  readonly setting: Setting;
  /** As in YAML; `***` for a secret that is set. */
  readonly value: unknown;
  readonly source: string;
}

const actions: Readonly<Record<string, (flags: ReadFlags, terminal: Terminal) => Promise<number>>> = {
  show,
  check,
  schema: printSchema,
  explain,
};

export const config: Command = {
  help: `usage: lair config show [--json] [flags]      every setting, its value and where it came from; secrets as ***
       lair config check [flags]              whether a server would start with it: exit code 0 or 2
       lair config schema                     the JSON Schema of lair.yaml, for editors
       lair config explain <path>             one setting: what it does, what is allowed, how to set it

Flags win over environment variables, those over the file, that over the defaults.
The file: --config, else LAIR_CONFIG, else ./lair.yaml, else ${userFile()}

flags:
${flagLines().join("\n")}
      --json                  Machine-readable (show, check).

examples:
  lair config show
  lair config check --config ./lair.yaml
  lair config explain llama.gpuLayers`,
  async run(args, terminal) {
    const read = readFlags(args, { ...settingFlags(), json: { type: "boolean" } });
    const [word = "show"] = read.words;
    const action = Object.hasOwn(actions, word) ? actions[word] : undefined;
    if (action === undefined)
      throw new UsageError(`there is no ${JSON.stringify(word)}; it is show, check, schema or explain`);
    return action(read, terminal);
  },
};

async function show({ flags }: ReadFlags, terminal: Terminal): Promise<number> {
  const loaded = await loadConfig({ flags, env: terminal.env });
  const shown = [...shownSettings(loaded)];
  if (flags["json"] === true) {
    terminal.print(
      JSON.stringify(
        {
          file: loaded.file ?? null,
          settings: shown.map(({ path, value, source }) => ({ path, value, source })),
          warnings: loaded.warnings,
        },
        null,
        2,
      ),
    );
    return exitCodes.done;
  }
  const texts = shown.map(({ path, setting, value, source }) => ({
    path,
    source,
    text: value === undefined ? "-" : valueText(setting, value),
  }));
  const wide = Math.max(...texts.map(({ path }) => path.length));
  const middle = Math.min(48, Math.max(...texts.map(({ text }) => text.length)));
  terminal.print(loaded.file === undefined ? "no configuration file" : `configuration file: ${loaded.file}`);
  for (const { path, text, source } of texts) terminal.print(`${path.padEnd(wide)}  ${text.padEnd(middle)}  ${source}`);
  for (const warning of loaded.warnings) terminal.complain(`warning: ${warning}`);
  return exitCodes.done;
}

async function check({ flags }: ReadFlags, terminal: Terminal): Promise<number> {
  const loaded = await loadConfig({ flags, env: terminal.env });
  // Whether a state holds a key, only a look into it could tell.
  const keys = loaded.config.state.url === undefined || loaded.config.state.url === "none" ? 0 : 1;
  const refused = checkExposure(loaded.config, keys);
  if (flags["json"] === true) {
    terminal.print(
      JSON.stringify(
        { ok: refused === undefined, file: loaded.file ?? null, problem: refused ?? null, warnings: loaded.warnings },
        null,
        2,
      ),
    );
    return refused === undefined ? exitCodes.done : exitCodes.usage;
  }
  for (const warning of loaded.warnings) terminal.complain(`warning: ${warning}`);
  if (refused !== undefined) {
    terminal.complain(refused);
    return exitCodes.usage;
  }
  terminal.print(`the configuration is good (${loaded.file ?? "no file"})`);
  return exitCodes.done;
}

function printSchema(_: ReadFlags, terminal: Terminal): Promise<number> {
  terminal.print(JSON.stringify(jsonSchema(), null, 2));
  return Promise.resolve(exitCodes.done);
}

function explain({ words }: ReadFlags, terminal: Terminal): Promise<number> {
  const path = words[1] ?? "";
  const setting = settingAt(path.split("."));
  if (setting === undefined) {
    const near = nearest(
      path,
      settings().map(({ keys }) => keys.join(".")),
    );
    throw new UsageError(
      `there is no setting ${JSON.stringify(path)}${near === undefined ? "" : `; did you mean ${near}?`}`,
    );
  }
  const variables = variablesOf(setting);
  terminal.print(`${setting.keys.join(".")}: ${setting.about.replaceAll("`", "")}`);
  terminal.print(`  allowed   ${allowedText(setting)}`);
  terminal.print(`  default   ${defaultText(setting) ?? "-"}`);
  if (variables.length > 0) terminal.print(`  variable  ${variables.join(", ")}`);
  const { flag, commands = ["serve"] } = setting.facts;
  if (flag !== undefined) {
    const whose = commands.map((command) => `lair ${command}`).join(", ");
    terminal.print(`  flag      --${flag}  (${whose})`);
  }
  return Promise.resolve(exitCodes.done);
}

/** Every setting; those of each provider and of each model where they have any value. */
function* shownSettings({ config: values, sources }: Loaded): Generator<Shown> {
  const valueAt = (keys: readonly string[]): unknown =>
    keys.reduce<unknown>((node, key) => (node as Record<string, unknown> | undefined)?.[key], values);
  for (const setting of settings()) {
    const star = setting.keys.indexOf("*");
    const names = star === -1 ? [] : Object.keys(valueAt(setting.keys.slice(0, star)) ?? {});
    const paths =
      star === -1 ? [setting.keys] : names.map((name) => setting.keys.map((key, at) => (at === star ? name : key)));
    for (const keys of paths) {
      const path = keys.join(".");
      const value = valueAt(keys);
      const source = sources.get(path) ?? "default";
      if (star !== -1 && source === "default" && !["kind", "urls"].includes(keys.at(-1) ?? "")) continue;
      if (star !== -1 && keys.at(-1) === "enabled") continue;
      yield { path, setting, value: toShown(setting, value), source };
    }
  }
}

/** The value without what is secret of it. */
function toShown({ facts: { secret, shown } }: Setting, value: unknown): unknown {
  if (secret === true && isSet(value)) return "***";
  return shown !== undefined && typeof value === "string" ? shown(value) : value;
}

function isSet(value: unknown): boolean {
  return value !== undefined && (typeof value !== "object" || Object.keys(value ?? {}).length > 0);
}
