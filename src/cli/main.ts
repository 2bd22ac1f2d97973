#!/usr/bin/env node
import { type Command, exitCodes, type Terminal, UsageError } from "./command.ts";

interface Entry {
  readonly summary: string;
  load(): Promise<Command>;
}

const commands: Readonly<Record<string, Entry>> = {
  serve: {
    summary: "answer OpenAI clients on http://127.0.0.1:18080/v1",
    load: async () => (await import("./serve.ts")).serve,
  },
  cloud: {
    summary: "the relay: answer with models of other machines, whose agents dial in",
    load: async () => (await import("./cloud.ts")).cloud,
  },
  agent: {
    summary: "connect the models of this machine with a relay",
    load: async () => (await import("./agent.ts")).agent,
  },
  gateway: {
    summary: "the public front: keys, limits, usage, and routing over relays and runtimes",
    load: async () => (await import("./gateway.ts")).gateway,
  },
  keys: {
    summary: "make, list, change and end the keys of callers",
    load: async () => (await import("./keys.ts")).keys,
  },
  usage: {
    summary: "who has used what",
    load: async () => (await import("./usage.ts")).usage,
  },
  run: { summary: "chat with a model in the terminal", load: async () => (await import("./run.ts")).run },
  launch: {
    summary: "start opencode, Codex or Claude Code on these models",
    load: async () => (await import("./launch.ts")).launch,
  },
  connect: {
    summary: "how editors, SDKs and other programs are connected",
    load: async () => (await import("./connect.ts")).connect,
  },
  models: { summary: "list the models of this machine", load: async () => (await import("./models.ts")).models },
  show: { summary: "say what a model is and can do", load: async () => (await import("./show.ts")).show },
  rm: { summary: "delete a model that was pulled", load: async () => (await import("./rm.ts")).rm },
  pull: {
    summary: "fetch a model from Hugging Face or ModelScope",
    load: async () => (await import("./pull.ts")).pull,
  },
  config: {
    summary: "show, check or describe the configuration",
    load: async () => (await import("./config.ts")).config,
  },
  engine: {
    summary: "show the embedded llama.cpp, or add a build for a GPU",
    load: async () => (await import("./engine.ts")).engine,
  },
  version: { summary: "print the version", load: async () => (await import("./version.ts")).version },
};
/** Names of the original runtime. */
const originalNames: Readonly<Record<string, string>> = {
  cloud_server: "cloud",
  local_agent: "agent",
  llm_servers: "gateway",
};
/** Commands that are named in the documents and come with a later release. */
const later: Readonly<Record<string, string>> = {
  doctor: "the self-test",
};

const help = `Local AI Runtime: one OpenAI address in front of the models on your own machines.

usage: lair <command> [flags]

${Object.entries(commands)
  .map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`)
  .join("\n")}
  help       this text; lair <command> --help says more about one

examples:
  lair serve
  LLAMA_CPP_MODEL=~/models lair serve --port 8080
  lair config show

exit codes: 0 done · 1 it failed · 2 the command line or the configuration is wrong`;

async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  const [first, ...rest] = args;
  const word = first === "--version" || first === "-v" || first === "-V" ? "version" : first;
  const asked = word === "help" && rest[0] !== undefined ? rest[0] : word;
  const name = asked !== undefined && Object.hasOwn(originalNames, asked) ? originalNames[asked] : asked;
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    terminal.print(help);
    return exitCodes.done;
  }
  const entry = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (entry === undefined) {
    terminal.complain(await unknownText(name));
    return exitCodes.usage;
  }
  const command = await entry.load();
  // What comes after "--" is meant for another program.
  const own = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  if (word === "help" || own.includes("--help") || own.includes("-h")) {
    terminal.print(command.help);
    return exitCodes.done;
  }
  try {
    return await command.run(rest, terminal);
  } catch (error) {
    if (error instanceof UsageError)
      terminal.complain(`lair ${name}: ${sentence(error.message)} See: lair ${name} --help`);
    else if (error instanceof Error && error.name === "ConfigError")
      terminal.complain(`lair ${name}: the configuration is refused:\n${indented(error.message)}`);
    else throw error;
    return exitCodes.usage;
  }
}

async function unknownText(name: string): Promise<string> {
  const promised = Object.hasOwn(later, name) ? later[name] : undefined;
  if (promised !== undefined)
    return `lair ${name}: ${promised} is not part of this release yet. What there is: lair help`;
  const { suggestion } = await import("../core/nearest.ts");
  return `lair: ${sentence(`there is no command ${JSON.stringify(name)}${suggestion(name, Object.keys(commands))}`)} See: lair help`;
}

function sentence(text: string): string {
  return /[.?!]$/.test(text) ? text : `${text}.`;
}

function indented(text: string): string {
  return text
    .split("\n")
    .map((line) => `  ${line}`)
    .join("\n");
}

process.exitCode = await run(process.argv.slice(2), {
  env: process.env,
  print: (line) => void process.stdout.write(`${line}\n`),
  write: (text) => void process.stdout.write(text),
  complain: (line) => void process.stderr.write(`${line}\n`),
  input: process.stdin,
  output: process.stdout,
  interactive: process.stdout.isTTY === true,
});
// A handle that something left open must not keep a finished program alive; an empty loop ends before this.
setTimeout(() => process.exit(), 1000).unref();
