import type { installEngine, reportEngine } from "../app.ts";
import { loadConfig } from "../config/load.ts";
import { suggestion } from "../core/nearest.ts";
import { formatBytes } from "../config/units.ts";
import { type Command, exitCodes, plainText, type ReadFlags, readFlags, type Terminal, UsageError } from "./command.ts";
import { settingFlags } from "./setting-flags.ts";

type Report = Awaited<ReturnType<typeof reportEngine>>;
type Addition = Parameters<typeof installEngine>[0];

const additions: readonly Addition[] = ["cuda", "cuda12", "vulkan"];

const actions: Readonly<Record<string, (read: ReadFlags, terminal: Terminal) => Promise<number>>> = {
  info,
  install,
  remove,
};

export const engine: Command = {
  help: `usage: lair engine info [--json]              the llama.cpp that would be loaded, its devices and their memory
       lair engine install cuda|cuda12|vulkan  add the build for a GPU
       lair engine remove cuda|cuda12|vulkan   remove it again

A default installation has the build for the processor (on Apple silicon Metal's), and stays small. A build for a
GPU is downloaded by npm, with its registry and proxy, checked, tried out, and kept in the user's own folder.
Models then use it by themselves; --gpu off, or LLAMA_CPP_GPU=off, stays with the processor.

cuda       NVIDIA; needs the driver and the libraries of CUDA 13 (cudart, cublas)
cuda12     the same, with CUDA 12's libraries
vulkan     AMD, Intel, NVIDIA; needs the driver

flags:
      --gpu <value>           auto, off, cuda, vulkan or metal, as for lair serve (info).
      --json                  Machine-readable (info).

examples:
  lair engine info
  lair engine install cuda
  LLAMA_CPP_LIB=~/llama.cpp/build/bin lair engine info

exit codes: 0 done · 1 nothing can be loaded, or it failed · 2 the command line or the configuration is wrong`,
  async run(args, terminal) {
    const read = readFlags(args, { ...settingFlags(), json: { type: "boolean" } });
    const [word = "info"] = read.words;
    const action = Object.hasOwn(actions, word) ? actions[word] : undefined;
    if (action === undefined)
      throw new UsageError(`there is no ${JSON.stringify(word)}; it is info, install or remove`);
    try {
      return await action(read, terminal);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== "LibraryError") throw error;
      terminal.complain(`lair engine: ${plainText(error.message)}`);
      return exitCodes.failed;
    }
  },
};

async function info({ flags, words }: ReadFlags, terminal: Terminal): Promise<number> {
  if (words.length > 1) throw new UsageError(`info takes flags only, not ${JSON.stringify(words[1])}`);
  const { config } = await loadConfig({ flags, env: terminal.env });
  const app = await import("../app.ts");
  const report = await app.reportEngine(config, terminal.env);
  if (flags["json"] === true) terminal.print(JSON.stringify(report, null, 2));
  else for (const line of infoLines(report)) terminal.print(plainText(line));
  if (report.problem !== null && flags["json"] !== true) terminal.complain(`lair engine: ${plainText(report.problem)}`);
  return report.problem === null ? exitCodes.done : exitCodes.failed;
}

async function install({ words }: ReadFlags, terminal: Terminal): Promise<number> {
  const addition = readAddition(words);
  terminal.print(`downloading the build of llama.cpp for ${addition} …`);
  const app = await import("../app.ts");
  const said = new ProgressLines(terminal);
  const { names, version, report } = await app.installEngine(addition, terminal.env, (bytes) => said.show(bytes));
  terminal.print(`installed ${names.join(" and ")} ${version}: llama.cpp ${report.release}`);
  for (const device of report.devices) terminal.print(`  ${deviceText(device)}`);
  if (report.gpuProblem === null) {
    terminal.print("Models use the GPU from the next start on: lair serve");
    return exitCodes.done;
  }
  terminal.complain(`No GPU can be used yet, so models still run on the processor: ${plainText(report.gpuProblem)}`);
  terminal.complain(`${gpuHint(addition, report.gpuProblem)} Then: lair engine info`);
  return exitCodes.done;
}

async function remove({ words }: ReadFlags, terminal: Terminal): Promise<number> {
  const addition = readAddition(words);
  const app = await import("../app.ts");
  const removed = await app.removeEngine(addition, terminal.env);
  terminal.print(removed ? `removed the build for ${addition}` : `the build for ${addition} is not installed`);
  return exitCodes.done;
}

function readAddition(words: readonly string[]): Addition {
  const [action, word, more] = words;
  const known = additions.find((addition) => addition === word);
  if (known !== undefined && more === undefined) return known;
  const what = word === undefined ? `say what to ${action}` : `there is no ${JSON.stringify(more ?? word)}`;
  throw new UsageError(`${what}: ${additions.join(", ")}${suggestion(word ?? "", additions)}`);
}

function infoLines(report: Report): string[] {
  const { chosen, loaded, packages } = report;
  const rows: [label: string, text: string][] = [];
  if (loaded !== null) rows.push(["llama.cpp", loaded.release]);
  if (chosen !== null) {
    rows.push(["folder", chosen.folder]);
    if (chosen.fallback !== null) rows.push(["", chosen.fallback]);
  }
  if (loaded !== null) {
    rows.push(["backends", loaded.backends.join(", ")], ["koffi", loaded.koffi]);
    rows.push(...listed("devices", loaded.devices.map(deviceText)));
  }
  rows.push(
    ...listed("installed", packages.length === 0 ? ["none"] : packages.map((entry) => packageText(entry, report))),
  );
  rows.push(...listed("not used", [...(chosen?.warnings ?? []), ...ownGpuProblem(report)]));
  const addable = report.installable.filter((backend) => backend !== "cpu" && backend !== "metal");
  rows.push(
    ...listed(
      "available",
      addable.map((backend) => `lair engine install ${backend}`),
    ),
  );
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, text]) => `${label.padEnd(width)}   ${text}`);
}

function listed(label: string, texts: readonly string[]): [string, string][] {
  return texts.map((text, index) => [index === 0 ? label : "", text]);
}

function ownGpuProblem({ loaded }: Report): string[] {
  return loaded === null || loaded.gpuProblem === null ? [] : [loaded.gpuProblem];
}

function packageText(entry: Report["packages"][number], { wanted }: Report): string {
  const place = entry.place === "npm" ? "by npm" : "by lair engine install";
  const stale =
    entry.version === wanted ? "" : `, but this program wants ${wanted}: lair engine install ${entry.backend}`;
  return `${entry.name} ${entry.version ?? "of unknown version"} ${place}${entry.place === "data" ? stale : ""}`;
}

function deviceText(device: NonNullable<Report["loaded"]>["devices"][number]): string {
  const { name, description, freeBytes, totalBytes } = device;
  return `${name}: ${description.trim()}, ${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} free`;
}

function gpuHint(addition: Addition, problem: string): string {
  if (/lib(cudart|cublas)|(cudart|cublas)64/.test(problem)) {
    return addition === "cuda"
      ? "Install the CUDA 13 runtime and cuBLAS, or, where CUDA 12 is installed, run lair engine install cuda12."
      : "Install the CUDA 12 or 13 runtime and cuBLAS.";
  }
  if (/libvulkan|vulkan-1/.test(problem))
    return "Install the Vulkan loader (package libvulkan1 or vulkan-loader) and the GPU's driver.";
  return "Install or update the GPU's driver.";
}

/** How far a download is: one line that is written over for a person, now and then a line for a file. */
class ProgressLines {
  readonly #terminal: Terminal;
  #said = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(bytes: number): void {
    const step = this.#terminal.interactive ? 10e6 : 100e6;
    if (bytes < this.#said + step) return;
    this.#said = bytes;
    this.#terminal.print(`  ${formatBytes(bytes)}`);
  }
}
