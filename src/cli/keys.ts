import { loadConfig } from "../config/load.ts";
import { suggestion } from "../core/nearest.ts";
import { type Command, type Options, readFlags, UsageError } from "./command.ts";
import { change, create, importKeys, type Job, list, revoke, rotate, show } from "./keys-actions.ts";
import { fieldFlags } from "./keys-flags.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { withState } from "./with-state.ts";

interface Action {
  /** What follows its word. */
  readonly takes: "nothing" | "NAME" | "FILE (or - for what is piped in)";
  readonly flags: Options;
  run(job: Job): Promise<void>;
}

const name = { type: "string" } as const;
const actions: Readonly<Record<string, Action>> = {
  list: { takes: "nothing", flags: {}, run: list },
  create: { takes: "NAME", flags: fieldFlags, run: create },
  show: { takes: "NAME", flags: {}, run: show },
  change: { takes: "NAME", flags: { ...fieldFlags, name }, run: change },
  rotate: { takes: "NAME", flags: { grace: { type: "string" } }, run: rotate },
  revoke: { takes: "NAME", flags: {}, run: revoke },
  import: { takes: "FILE (or - for what is piped in)", flags: {}, run: importKeys },
};

export const keys: Command = {
  help: `usage: lair keys create NAME [flags]       makes a key, and prints it once
       lair keys list [--json]             all keys, without what could be used to call
       lair keys show NAME [--json]        one of them, by its name or id
       lair keys change NAME [flags]       other limits, models, roles, expiry, owner or --name
       lair keys rotate NAME [--grace 24h] another text for it; the old one works for that long
       lair keys revoke NAME               ends it for good, on all servers within a second
       lair keys import FILE               keys from elsewhere: lines of NAME KEY, CSV or JSON; - reads what is piped in

Keys of callers, with limits of their own. They are kept, as SHA-256 only, where the servers look for them: in
state.db of this user's data folder, or where --state or LAIR_STATE says. Running servers follow every change.

flags of create and change (none takes a bound away):
  --owner <text>                 Whose it is, for people.
  --expires <90d, day, never>    When it ends: a duration, or a day such as 2027-01-31.
  --models <a,b*>                The models it may use, by the names that callers write; * is any text. '*': all.
  --role <inference,…>           What it may do: inference (models), metrics, admin. Default: inference.
  --requests-per-minute, --tokens-per-minute, --tokens-per-day, --tokens-per-month <number>
                                 Most that it may use, e.g. 60, 200k, 1.5M; days and months are those of UTC.
  --concurrent <number>          Most calls at a time.
  --spend-per-day, --spend-per-month <number>
                                 Most that it may cost, in the currency of the configured prices.
flags:
      --json                     The answer as JSON.
${flagLines("keys").join("\n")}

examples:
  lair keys create ci --expires 90d --models 'qwen*' --tokens-per-day 200k
  lair keys create boss --role admin,inference
  lair keys change ci --tokens-per-day none --concurrent 4
  lair keys rotate ci --grace 1h
  lair keys import old-keys.csv

exit codes: 0 done · 1 it failed · 2 the command line or the configuration is wrong`,
  async run(args, terminal) {
    const own = Object.assign(
      { json: { type: "boolean" } },
      ...Object.values(actions).map(({ flags }) => flags),
    ) as Options;
    const { words, flags } = readFlags(args, { ...settingFlags("keys"), ...own });
    const [word = "list", ...rest] = words;
    const action = Object.hasOwn(actions, word) ? actions[word] : undefined;
    if (action === undefined)
      throw new UsageError(
        `there is no ${JSON.stringify(word)}${suggestion(word, Object.keys(actions)) || `; it is ${Object.keys(actions).join(", ")}`}`,
      );
    if (rest.length !== (action.takes === "nothing" ? 0 : 1))
      throw new UsageError(`keys ${word} takes ${action.takes}${rest.length > 0 ? `, not ${rest.length} words` : ""}`);
    const stray = Object.keys(own).find((flag) => flag in flags && flag !== "json" && !(flag in action.flags));
    if (stray !== undefined) throw new UsageError(`--${stray} does not belong to keys ${word}`);
    const settings = Object.fromEntries(Object.entries(flags).filter(([flag]) => !(flag in own)));
    const { config } = await loadConfig({ flags: settings, command: "keys", env: terminal.env });
    return withState({ command: "keys", config, terminal }, (state) =>
      action.run({ state, word: rest[0] ?? "", flags, config, terminal }),
    );
  },
};
