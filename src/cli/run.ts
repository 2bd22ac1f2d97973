import { randomBytes } from "node:crypto";
import { createInterface, type Interface } from "node:readline";
import { text as readAll } from "node:stream/consumers";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { ChatError, type ChatModel, type Said, type Server, type Turn, listModels, streamChat } from "./chat-client.ts";
import { type Command, type Terminal, exitCodes, plainText, readFlags } from "./command.ts";
import { demoCardText, isDemo, pullCommand } from "./demo-text.ts";
import { ownUrl, toServer } from "./server-address.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { packageVersion } from "./version.ts";

export const run: Command = {
  help: `usage: lair run [model] [prompt] [flags]

A chat in the terminal, or the answer to one prompt. It asks the lair serve that runs here, and starts one for itself
while there is none. Without a model it takes the default one.

  --system <text>            instructions for the model
  --url <address>            another server, e.g. https://lair.example.com
  --key <key>                its key; otherwise LAIR_KEY
and, where it starts a server for itself:
${flagLines().join("\n")}

in the chat: /help says what there is; Ctrl-C breaks an answer off, Ctrl-D ends.

examples:
  lair run
  lair run qwen3-8b "What is a monad?"
  git diff | lair run qwen3-8b "Write a commit message for this"

exit codes: 0 done · 1 there was no answer · 2 the command line or the configuration is wrong`,
  async run(args, terminal) {
    const { flags, words } = readFlags(args, {
      ...settingFlags(),
      system: { type: "string" },
      url: { type: "string" },
      key: { type: "string" },
    });
    const { system, url, key, ...settings } = flags;
    const { config } = await loadConfig({ flags: settings, env: terminal.env });
    const named =
      typeof url === "string" ? toServer(url, typeof key === "string" ? key : terminal.env["LAIR_KEY"]) : null;
    const host = await findServer(named, config, terminal);
    try {
      const [model = "", ...prompt] = words;
      const chat = new Chat(host.server, terminal, await chooseModel(host.server, model, terminal));
      if (typeof system === "string") chat.instruct(system);
      const question = await readQuestion(prompt.join(" "), terminal);
      if (question !== "") return (await chat.ask(question)) ? exitCodes.done : exitCodes.failed;
      return await converse(chat, terminal);
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      terminal.complain(`lair run: ${plainText(error.message)}`);
      return exitCodes.failed;
    } finally {
      await host.close();
    }
  },
};

interface Host {
  readonly server: Server;
  close(): Promise<void>;
}

/** The server that is named; else the one that runs here; else one of our own, on a port and with a key that nobody knows. */
async function findServer(named: Server | null, config: Config, terminal: Terminal): Promise<Host> {
  const nothing = (): Promise<void> => Promise.resolve();
  if (named !== null) return { server: named, close: nothing };
  const here = { url: ownUrl(config), key: config.auth.keys[0] ?? config.auth.admin[0] };
  if (config.listen.port !== 0 && (await answers(here))) return { server: here, close: nothing };
  const { createLogger } = await import("./logger.ts");
  const { startRuntime } = await import("../app.ts");
  const key = randomBytes(24).toString("base64url");
  const own = {
    ...config,
    listen: { ...config.listen, host: "127.0.0.1", port: 0 },
    auth: { keys: [key], admin: [] },
    state: { ...config.state, url: "none" },
  };
  const log = createLogger({ level: "error", format: "pretty" });
  const runtime = await startRuntime(own, log, { version: packageVersion(), env: terminal.env });
  return { server: { url: runtime.url, key }, close: () => runtime.close() };
}

async function answers(server: Server): Promise<boolean> {
  try {
    const headers = server.key === undefined ? {} : { authorization: `Bearer ${server.key}` };
    const reply = await fetch(`${server.url}/version`, { headers, signal: AbortSignal.timeout(1000) });
    return ((await reply.json()) as { role?: string }).role === "runtime";
  } catch {
    return false;
  }
}

/** The model of that name; without one the first, and the demo only where there is no other, with a word about it on the error output. */
async function chooseModel(server: Server, wanted: string, terminal: Terminal): Promise<string> {
  const models = await listModels(server, AbortSignal.timeout(30_000));
  if (wanted === "") {
    const first = models.find(({ card }) => !isDemo(card)) ?? models[0];
    if (first === undefined) throw new ChatError(`there is no model; ${pullCommand(terminal.env)} fetches one`);
    warnOfDemo(first, terminal);
    return first.id;
  }
  const same = ({ id }: ChatModel): boolean =>
    id.toLowerCase() === wanted.toLowerCase() || id.toLowerCase().endsWith(`:${wanted.toLowerCase()}`);
  const found = models.find(same);
  // Aliases are not listed: the server knows them.
  if (found === undefined) return wanted;
  if (terminal.interactive) warnOfDemo(found, terminal);
  return found.id;
}

function warnOfDemo({ card }: ChatModel, terminal: Terminal): void {
  if (isDemo(card))
    terminal.complain(plainText(`${demoCardText(card)} For real answers: ${pullCommand(terminal.env)}`));
}

/** The words of the command line, and what is piped in. */
async function readQuestion(words: string, { input }: Terminal): Promise<string> {
  if (input.isTTY === true) return words;
  const piped = (await readAll(input)).trim();
  return [words, piped].filter((part) => part !== "").join("\n\n");
}

/** A conversation: the turns so far, and how answers are shown. */
class Chat {
  readonly #server: Server;
  readonly #terminal: Terminal;
  #model: string;
  #turns: Turn[] = [];
  #asking: AbortController | null = null;

  constructor(server: Server, terminal: Terminal, model: string) {
    this.#server = server;
    this.#terminal = terminal;
    this.#model = model;
  }

  get model(): string {
    return this.#model;
  }

  instruct(system: string): void {
    this.#turns = [{ role: "system", content: system }, ...this.#turns.filter(({ role }) => role !== "system")];
  }

  forget(): void {
    this.#turns = this.#turns.filter(({ role }) => role === "system");
  }

  async change(model: string): Promise<void> {
    this.#model = await chooseModel(this.#server, model, this.#terminal);
  }

  /** Breaks an answer off; false when there is none. */
  breakOff(): boolean {
    this.#asking?.abort();
    return this.#asking !== null;
  }

  /** Asks and shows the answer as it comes; false when there was none. */
  async ask(question: string): Promise<boolean> {
    const asking = new AbortController();
    this.#asking = asking;
    const messages: Turn[] = [...this.#turns, { role: "user", content: question }];
    const screen = new Screen(this.#terminal);
    let answer = "";
    try {
      for await (const said of streamChat(this.#server, { model: this.#model, messages }, asking.signal)) {
        screen.show(said);
        if (said.type === "text") answer += said.text;
      }
      return true;
    } catch (error) {
      screen.finish();
      if (!asking.signal.aborted && !(error instanceof ChatError)) throw error;
      this.#terminal.complain(
        asking.signal.aborted ? "(broken off)" : `lair run: ${plainText((error as Error).message)}`,
      );
      return false;
    } finally {
      this.#asking = null;
      if (answer !== "") this.#turns = [...messages, { role: "assistant", content: answer }];
    }
  }
}

/** Writes an answer: reasoning dimmed, and the speed below where a person reads it. */
class Screen {
  readonly #terminal: Terminal;
  #mode: "none" | "reasoning" | "text" = "none";

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    if (terminal.interactive) terminal.write(dim("…"));
  }

  show(said: Said): void {
    if (said.type === "end") {
      this.finish();
      const speed = said.tokensPerSecond === undefined ? "" : `, ${said.tokensPerSecond.toFixed(1)} tokens/s`;
      if (this.#terminal.interactive) this.#terminal.print(dim(`${said.tokens} tokens${speed}`));
      return;
    }
    this.#turnTo(said.type);
    const text = said.text.replace(/[^\P{Cc}\n\t]/gu, "");
    if (said.type === "text") this.#terminal.write(text);
    else if (this.#terminal.interactive) this.#terminal.write(dim(text));
  }

  finish(): void {
    if (this.#mode === "none" && this.#terminal.interactive) this.#terminal.write("\r \r");
    if (this.#mode !== "none") this.#terminal.write("\n");
    this.#mode = "none";
  }

  #turnTo(mode: "reasoning" | "text"): void {
    if (this.#mode === "none" && this.#terminal.interactive) this.#terminal.write("\r \r");
    if (this.#mode === "reasoning" && mode === "text" && this.#terminal.interactive) this.#terminal.write("\n\n");
    this.#mode = mode;
  }
}

const chatHelp = `/clear           forget what was said
/system <text>   instructions for the model
/model [name]    which model answers, or another one
/bye             end (or Ctrl-D)
"""              begins and ends a text of several lines`;

/** Reads questions until the end of the input. */
async function converse(chat: Chat, terminal: Terminal): Promise<number> {
  terminal.print(`${chat.model} — /help says what there is\n`);
  const lines = createInterface({ input: terminal.input, output: terminal.output, prompt: ">>> " });
  lines.on("SIGINT", () => {
    if (!chat.breakOff()) lines.close();
  });
  for await (const question of questions(lines)) {
    const [word = "", ...rest] = question.trim().split(/\s+/);
    const argument = rest.join(" ");
    if (word === "/bye" || word === "/exit" || word === "/quit") break;
    else if (word === "/help" || word === "/?") terminal.print(chatHelp);
    else if (word === "/clear") chat.forget();
    else if (word === "/system") chat.instruct(argument);
    else if (word === "/model") {
      if (argument !== "") await chat.change(argument);
      terminal.print(chat.model);
    } else if (word.startsWith("/")) terminal.complain(`there is no ${word}; /help says what there is`);
    else if (word !== "") await chat.ask(question);
  }
  lines.close();
  return exitCodes.done;
}

/** One question for each line, or for all lines between two of `"""`. */
async function* questions(lines: Interface): AsyncGenerator<string> {
  let block: string[] | null = null;
  lines.prompt();
  for await (const line of lines) {
    if (line.trim() === '"""') {
      if (block !== null) yield block.join("\n");
      block = block === null ? [] : null;
    } else if (block !== null) block.push(line);
    else yield line;
    lines.setPrompt(block === null ? ">>> " : "... ");
    lines.prompt();
  }
}

function dim(text: string): string {
  return `\u001b[2m${text}\u001b[22m`;
}
