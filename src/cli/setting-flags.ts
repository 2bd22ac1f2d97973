import { settings } from "../config/describe.ts";
import { type FlagCommand, hasFlag } from "../config/setting.ts";
import type { Options } from "./command.ts";

/** The command's flags of the schema's settings, with `--config` and `--set`. */
export function settingFlags(command: FlagCommand = "serve"): Options {
  const options: Options = { config: { type: "string", short: "c" }, set: { type: "string", multiple: true } };
  for (const { facts, accepts } of settings()) {
    if (facts.flag === undefined || !hasFlag(facts, command)) continue;
    options[facts.flag] = {
      type: accepts.has("boolean") ? "boolean" : "string",
      ...(facts.short === undefined ? {} : { short: facts.short }),
      ...(facts.named === true ? { multiple: true } : {}),
    };
  }
  return options;
}

/** Two columns: flags of settings with what they set, for `--help`. */
export function flagLines(command: FlagCommand = "serve"): string[] {
  const lines = settings().flatMap(({ facts, accepts, about }) => {
    if (!hasFlag(facts, command)) return [];
    const value = accepts.has("boolean") ? "" : facts.named === true ? " <[name=]value>" : " <value>";
    const name = `${facts.short === undefined ? "    " : `-${facts.short}, `}--${facts.flag}${value}`;
    return [`  ${name.padEnd(26)} ${about.replaceAll("`", "")}`];
  });
  return [
    `  ${"-c, --config <file>".padEnd(26)} The configuration file; otherwise LAIR_CONFIG, ./lair.yaml, the user's own.`,
    ...lines,
    `  ${"    --set <path=value>".padEnd(26)} Any other setting, e.g. --set timeouts.idle=5m; may be repeated.`,
  ];
}
