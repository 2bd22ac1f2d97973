import { nearest } from "../core/nearest.ts";
import { checkModel, checkVersion } from "./clients/checks.ts";
import { clients } from "./clients/client-list.ts";
import { askModels, findServer, serverFlagLines, serverFlags } from "./clients/client-server.ts";
import { type Aim, type Client, ClientError, type Configuration, type Place, placeOf } from "./clients/client.ts";
import { findProgram } from "./clients/find-program.ts";
import { chooseModel } from "./clients/model-choice.ts";
import { saveFiles, writeFiles } from "./clients/own-files.ts";
import { keyLines, type Shell, shells, toShellLines, usualShell } from "./clients/shell-text.ts";
import { startProgram } from "./clients/start-program.ts";
import { type Command, exitCodes, plainText, readFlags, type ReadFlags, type Terminal, UsageError } from "./command.ts";

export const launch: Command = {
  help: `usage: lair launch <${clients.map(({ name }) => name).join("|")}> [flags] [-- arguments of the program]

Starts a coding agent on the models of this machine's lair serve, or of another server. The program is told everything
by variables, flags and files of lair's own: no file of your project or of the program is touched. The list of models
is asked from the server each time, with the limits of each. Without --model it asks which one, or takes the best.

flags:
      --model <id>           the model, as GET /v1/models lists it
${serverFlagLines}
      --print                show the configuration for copy and paste, and start nothing
      --shell <sh|powershell>
                             the shell to print for
      --save                 write it into the program's own configuration of this user, instead of starting it; a copy
                             of what was there is kept, and the key is never written

examples:
  lair launch opencode
  lair launch codex --model qwen3:8b -- exec "Explain this repository"
  lair launch claude --print
  LAIR_KEY=lair_… lair launch opencode --url https://lair.example.com

See also: lair connect, for editors and other programs.

exit codes: those of the program; before it starts: 1 it could not be started · 2 the command line is wrong`,
  async run(args, terminal) {
    const cut = args.indexOf("--");
    const own = cut === -1 ? args : args.slice(0, cut);
    const rest = cut === -1 ? [] : args.slice(cut + 1);
    const read = readFlags(own, {
      ...serverFlags,
      model: { type: "string" },
      print: { type: "boolean" },
      save: { type: "boolean" },
      shell: { type: "string" },
    });
    const client = toClient(read.words);
    const shell = toShell(read.flags["shell"]);
    try {
      return await launchClient({ client, read, shell, rest }, terminal);
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      terminal.complain(`lair launch: ${error.message}`);
      return exitCodes.failed;
    }
  },
};

interface Launch {
  readonly client: Client;
  readonly read: ReadFlags;
  readonly shell: Shell;
  /** The program's own arguments. */
  readonly rest: readonly string[];
}

async function launchClient({ client, read, shell, rest }: Launch, terminal: Terminal): Promise<number> {
  const { flags } = read;
  const server = await findServer(read, terminal.env);
  const say = (text: string): void => terminal.complain(`lair launch: ${plainText(text)}`);
  for (const warning of server.warnings) say(warning);
  const wanted = typeof flags["model"] === "string" ? flags["model"] : undefined;
  const models = await askModels(server, wanted);
  const { model, note } = await chooseModel(wanted, models, client, terminal);
  if (note !== undefined) say(note);
  for (const warning of checkModel(model, client)) say(warning);
  const aim: Aim = { url: server.url, keyed: server.key !== undefined, model, models };
  const place = placeOf(terminal.env);
  if (flags["save"] === true) return await save(client, aim, place, terminal);
  const configuration = await client.configure(aim, place);
  if (flags["print"] === true) {
    const command = { ...configuration, args: [...configuration.args, ...rest] };
    for (const line of toShellLines(command, [client.command], shell)) terminal.print(line);
    return exitCodes.done;
  }
  return start({ client, configuration, key: server.key, rest }, terminal);
}

interface Start {
  readonly client: Client;
  readonly configuration: Configuration;
  readonly key: string | undefined;
  readonly rest: readonly string[];
}

async function start({ client, configuration, key, rest }: Start, terminal: Terminal): Promise<number> {
  const program = await findProgram(client.command, terminal.env);
  if (program === undefined) throw new ClientError(missingText(client));
  const warning = await checkVersion(program, client, terminal.env);
  if (warning !== undefined) terminal.complain(`lair launch: ${warning}`);
  await writeFiles(configuration.files);
  const { unset, env, keyVariables } = configuration;
  const kept = Object.entries(terminal.env).filter(([name]) => !unset.includes(name.toUpperCase()));
  const keys = key === undefined ? [] : keyVariables.map((name) => [name, key]);
  const all = { ...Object.fromEntries(kept), ...env, ...(Object.fromEntries(keys) as Record<string, string>) };
  return startProgram(program, [...configuration.args, ...rest], all);
}

async function save(client: Client, aim: Aim, place: Place, terminal: Terminal): Promise<number> {
  const saving = await client.save(aim, place);
  await saveFiles(saving, (line) => terminal.print(plainText(line)));
  for (const line of keyLines(aim.keyed, usualShell(place.platform))) terminal.print(line);
  for (const hint of saving.hints) terminal.print(plainText(hint));
  return exitCodes.done;
}

function toClient(words: readonly string[]): Client {
  const [name, ...more] = words;
  const known = clients.map((client) => client.name);
  if (name === undefined) throw new UsageError(`which program? It starts ${known.join(", ")}`);
  const client = clients.find((one) => one.name === name);
  if (client === undefined) {
    const near = nearest(name, known);
    const ending = near === undefined ? "lair connect has the settings of others" : `did you mean "${near}"?`;
    throw new UsageError(`it starts ${known.join(", ")}, not ${JSON.stringify(name)}; ${ending}`);
  }
  if (more.length > 0)
    throw new UsageError(`${JSON.stringify(more[0])}: what is meant for ${name} itself comes after "--"`);
  return client;
}

function toShell(text: unknown): Shell {
  if (text === undefined) return usualShell(process.platform);
  const shell = shells.find((one) => one === text);
  if (shell === undefined) throw new UsageError(`--shell is ${shells.join(" or ")}, not ${JSON.stringify(text)}`);
  return shell;
}

function missingText({ title, command, package: name }: Client): string {
  return `there is no ${command} in PATH. Install ${title} and try again:\n  npm install -g ${name}`;
}
