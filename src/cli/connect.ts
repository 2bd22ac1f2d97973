import { nearest } from "../core/nearest.ts";
import { askModels, findServer, serverFlagLines, serverFlags } from "./clients/client-server.ts";
import { type Aim, ClientError, type Place, placeOf } from "./clients/client.ts";
import { type Connection, connections } from "./clients/connections.ts";
import { findModel, rank } from "./clients/model-choice.ts";
import type { Piece } from "./clients/piece.ts";
import { keyLines, usualShell } from "./clients/shell-text.ts";
import { toColumns } from "./columns.ts";
import { type Command, exitCodes, plainText, readFlags, type ReadFlags, type Terminal, UsageError } from "./command.ts";
import { pullCommand } from "./demo-text.ts";

export const connect: Command = {
  help: `usage: lair connect [program] [flags]

Prints how a program or library is connected with the models of this machine's lair serve, or of another server: its
own settings, with the real address and models, for copy and paste. Without a program it lists those it knows.
Nothing is written, and no key is printed.

flags:
      --model <id>           the model, as GET /v1/models lists it; otherwise one that is loaded
${serverFlagLines}
      --json                 Machine-readable.

examples:
  lair connect
  lair connect zed
  lair connect openai-python --url https://lair.example.com

exit codes: 0 done · 1 the server does not answer, or has no such model · 2 the command line is wrong`,
  async run(args, terminal) {
    const read = readFlags(args, { ...serverFlags, model: { type: "string" }, json: { type: "boolean" } });
    const [name, ...more] = read.words;
    if (more.length > 0) throw new UsageError(`it takes one program, not ${JSON.stringify(more[0])} too`);
    if (name === undefined) return listConnections(read, terminal);
    const connection = toConnection(name);
    try {
      return await printConnection(connection, read, terminal);
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      terminal.complain(`lair connect: ${error.message}`);
      return exitCodes.failed;
    }
  },
};

function listConnections({ flags }: ReadFlags, terminal: Terminal): number {
  const known = connections.map(({ name, title }) => ({ name, title }));
  if (flags["json"] === true) terminal.print(JSON.stringify(known, null, 2));
  else {
    for (const line of toColumns(known.map(({ name, title }) => [name, title]))) terminal.print(line);
    terminal.print("\nlair connect <name> prints the settings of one.");
  }
  return exitCodes.done;
}

async function printConnection(connection: Connection, read: ReadFlags, terminal: Terminal): Promise<number> {
  const { flags } = read;
  const server = await findServer(read, terminal.env);
  for (const warning of server.warnings) terminal.complain(`lair connect: ${plainText(warning)}`);
  const wanted = typeof flags["model"] === "string" ? flags["model"] : undefined;
  const models = await askModels(server, wanted);
  const model = wanted === undefined ? rank(models)[0] : findModel(wanted, models);
  if (model === undefined)
    throw new ClientError("the server has no model to chat with; lair pull hf:user/repo fetches one");
  if (model.demo)
    terminal.complain(
      `lair connect: ${plainText(model.id)} is the tiny demo model, enough to try the connection and nothing for real work; ${pullCommand(terminal.env)} fetches a model that is`,
    );
  const aim: Aim = { url: server.url, keyed: server.key !== undefined, model, models };
  const place = placeOf(terminal.env);
  const pieces = connection.pieces(aim, place);
  if (flags["json"] === true)
    terminal.print(JSON.stringify({ name: connection.name, url: aim.url, model: model.id, pieces }, null, 2));
  else for (const line of pieceLines(pieces, aim, place)) terminal.print(line);
  return exitCodes.done;
}

function pieceLines(pieces: readonly Piece[], { keyed }: Aim, { platform }: Place): string[] {
  const blocks = pieces.map(({ where, text }) => [`# ${where}`, ...text.split("\n").map(plainText)].join("\n"));
  return [...keyLines(keyed, usualShell(platform)), blocks.join("\n\n")];
}

function toConnection(name: string): Connection {
  const found = connections.find((one) => one.name === name);
  if (found !== undefined) return found;
  const near = nearest(
    name,
    connections.map((one) => one.name),
  );
  const ending = near === undefined ? "lair connect lists those there are" : `did you mean "${near}"?`;
  throw new UsageError(`it knows no program ${JSON.stringify(name)}; ${ending}`);
}
