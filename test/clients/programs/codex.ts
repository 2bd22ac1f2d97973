import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Target } from "../ways.ts";
import type { Task } from "../workplace.ts";
import { jsonLines, type Program, type Start } from "./program.ts";

interface CodexEvent {
  readonly type: string;
  readonly item?: { readonly type: string; readonly text?: string; readonly command?: string };
}

/** Codex, which has one tool for everything: a shell. */
export const codex: Program = {
  name: "codex",
  dialect: "responses",
  requests: 3,
  part({ input, output, token }) {
    const write =
      process.platform === "win32"
        ? `Set-Content -Path '${output}' -Value '${token}'`
        : `printf '%s\\n' '${token}' > '${output}'`;
    return {
      first: { name: "exec_command", arguments: { cmd: `cat '${input}'` } },
      second: { name: "exec_command", arguments: { cmd: write } },
      last: `DONE ${token}`,
    };
  },
  configure: (task, target, hasty = false) =>
    configureCodex(task, target, hasty ? { provider: ["stream_idle_timeout_ms = 3000"] } : {}),
  shown: {
    tools: ({ stdout }) => itemsOf(stdout, "command_execution").map(() => "exec_command"),
    text: ({ stdout }) => itemsOf(stdout, "agent_message").at(-1)?.text,
  },
};

/** Lines of `config.toml`: at its top, and of the provider. */
export interface CodexLines {
  readonly top?: readonly string[];
  readonly provider?: readonly string[];
}

/** A configuration of one provider, with further lines. */
export function configureCodex(task: Task, { url, key, model }: Target, more: CodexLines = {}): Start {
  const home = path.join(task.home, ".codex");
  mkdirSync(home, { recursive: true });
  const lines = [
    `model = ${JSON.stringify(model)}`,
    'model_provider = "local"',
    "model_context_window = 65536",
    'web_search = "disabled"',
    ...(more.top ?? []),
    "[model_providers.local]",
    'name = "Local runtime"',
    `base_url = "${url}/v1"`,
    'wire_api = "responses"',
    'env_key = "LOCAL_API_KEY"',
    ...(more.provider ?? []),
  ];
  writeFileSync(path.join(home, "config.toml"), `${lines.join("\n")}\n`);
  return {
    // Its own sandbox does not run in every container; the task's folder is a temporary one.
    args: ["exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", task.prompt],
    env: { CODEX_HOME: home, LOCAL_API_KEY: key },
  };
}

function itemsOf(stdout: string, type: string): NonNullable<CodexEvent["item"]>[] {
  const events = jsonLines(stdout) as unknown as CodexEvent[];
  return events.flatMap(({ type: event, item }) => (event === "item.completed" && item?.type === type ? [item] : []));
}
