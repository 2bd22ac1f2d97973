import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { JsonObject } from "../../../src/core/json.ts";
import type { Dialect } from "../rows.ts";
import type { Target } from "../ways.ts";
import type { Task } from "../workplace.ts";
import { jsonLines, type Program, type Run, type Start } from "./program.ts";

/** What `opencode run` has shown. */
export interface Shown {
  /** The model's words. */
  readonly texts: readonly string[];
  readonly tools: readonly { name: string; status: string; input: JsonObject }[];
  /** How it understood the end of each answer. */
  readonly steps: readonly { reason: string; promptTokens: number; cachedTokens: number; completionTokens: number }[];
  /** Errors that it showed, and what is no information in its own log. */
  readonly complaints: readonly string[];
}

interface OpencodeEvent {
  readonly type: string;
  readonly error?: unknown;
  readonly part?: {
    readonly text?: string;
    readonly tool?: string;
    readonly state?: { readonly status: string; readonly input: JsonObject };
    readonly reason?: string;
    readonly tokens?: { readonly input: number; readonly output: number; readonly cache: { readonly read: number } };
  };
}

const example = fileURLToPath(new URL("../../../examples/opencode/opencode.json", import.meta.url));

/** opencode, by the package that it loads for each dialect. */
export const opencodes: readonly Program[] = (
  [
    ["chat", "@ai-sdk/openai-compatible"],
    ["responses", "@ai-sdk/openai"],
    ["messages", "@ai-sdk/anthropic"],
  ] as const
).map(([dialect, npm]) => opencode(dialect, npm));

function opencode(dialect: Dialect, npm: string): Program {
  return {
    name: "opencode",
    dialect,
    // The title is one of them.
    requests: 4,
    part: ({ input, output, token }) => ({
      first: { name: "read", arguments: { filePath: input } },
      second: { name: "write", arguments: { filePath: output, content: `${token}\n` } },
      last: `DONE ${token}`,
    }),
    configure: (task, target, hasty = false) =>
      configureOpencode(task, target, { npm, options: hasty ? { chunkTimeout: 3000, headerTimeout: 3000 } : {} }),
    shown: {
      tools: (run) => shownBy(run).tools.map(({ name }) => name),
      text: (run) => shownBy(run).texts.at(-1),
    },
  };
}

/** The example's configuration in the repository, and what is laid over it: the address and what else a test wants. */
function configureOpencode(task: Task, { url, key, model }: Target, local: JsonObject): Start {
  copyFileSync(example, path.join(task.repository, "opencode.json"));
  const models = { [model]: { tool_call: true, limit: { context: 65536, output: 4096 } } };
  const options = { baseURL: `${url}/v1`, ...(local["options"] as JsonObject) };
  const config = { small_model: `local/${model}`, provider: { local: { models, ...local, options } } };
  return {
    args: ["run", "--format", "json", "--model", `local/${model}`, task.prompt],
    env: {
      OPENCODE_DISABLE_MODELS_FETCH: "1",
      OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
      OPENCODE_CONFIG_CONTENT: JSON.stringify(config),
      LOCAL_API_KEY: key,
    },
  };
}

/** Reads a run's output; with its home, its log too. */
export function shownBy({ stdout, stderr }: Run, home?: string): Shown {
  const events = jsonLines(stdout) as unknown as OpencodeEvent[];
  const parts = (type: string): NonNullable<OpencodeEvent["part"]>[] =>
    events.flatMap((event) => (event.type === type && event.part !== undefined ? [event.part] : []));
  const complaints = [...errorsOf(events), ...stderr.split("\n"), ...(home === undefined ? [] : logged(home))];
  return {
    texts: parts("text").map(({ text }) => text ?? ""),
    tools: parts("tool_use").map(({ tool, state }) => ({
      name: tool ?? "",
      status: state?.status ?? "",
      input: state?.input ?? {},
    })),
    steps: parts("step_finish").map(({ reason, tokens }) => ({
      reason: reason ?? "",
      promptTokens: (tokens?.input ?? 0) + (tokens?.cache.read ?? 0),
      cachedTokens: tokens?.cache.read ?? 0,
      completionTokens: tokens?.output ?? 0,
    })),
    complaints: complaints.filter((line) => line.trim() !== ""),
  };
}

function errorsOf(events: OpencodeEvent[]): string[] {
  return events.filter(({ type }) => type === "error").map(({ error }) => JSON.stringify(error));
}

function logged(home: string): string[] {
  const folder = path.join(home, "data/opencode/log");
  if (!existsSync(folder)) return [];
  const lines = readdirSync(folder).flatMap((name) => readFileSync(path.join(folder, name), "utf8").split("\n"));
  // It looks for a newer package of its own at the registry, which is out of reach here.
  return lines.filter((line) => !line.includes("level=INFO") && !line.includes("background dependency install failed"));
}
