import { isObject } from "../../../src/core/json.ts";
import type { Target } from "../ways.ts";
import type { Task } from "../workplace.ts";
import { jsonLines, type Program, type Start } from "./program.ts";

/** Claude Code with two of its tools. */
export const claude: Program = {
  name: "claude",
  dialect: "messages",
  requests: 3,
  part: ({ input, output, token }) => ({
    first: { name: "Read", arguments: { file_path: input } },
    second: { name: "Write", arguments: { file_path: output, content: `${token}\n` } },
    last: `DONE ${token}`,
  }),
  configure: (task, target, hasty = false) => configureClaude(task, target, hasty ? { API_TIMEOUT_MS: "3000" } : {}),
  shown: {
    tools: ({ stdout }) => contentOf(stdout, "assistant", "tool_use").map(({ name }) => String(name)),
    text: ({ stdout }) => {
      const result = jsonLines(stdout).find(({ type }) => type === "result");
      return typeof result?.["result"] === "string" ? result["result"] : undefined;
    },
  },
};

export function configureClaude(task: Task, { url, key, model }: Target, env: Readonly<Record<string, string>>): Start {
  const tools = ["--tools", "Read,Write", "--allowedTools", "Read,Write"];
  return {
    args: ["-p", task.prompt, "--model", model, ...tools, "--output-format", "stream-json", "--verbose"],
    env: {
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_AUTH_TOKEN: key,
      ANTHROPIC_MODEL: model,
      ANTHROPIC_DEFAULT_OPUS_MODEL: model,
      ANTHROPIC_DEFAULT_SONNET_MODEL: model,
      ANTHROPIC_DEFAULT_HAIKU_MODEL: model,
      CLAUDE_CODE_SUBAGENT_MODEL: model,
      CLAUDE_CODE_MAX_CONTEXT_TOKENS: "65536",
      CLAUDE_CODE_MAX_OUTPUT_TOKENS: "4096",
      CLAUDE_CODE_ATTRIBUTION_HEADER: "0",
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      ...env,
    },
  };
}

function contentOf(stdout: string, role: string, type: string): Record<string, unknown>[] {
  return jsonLines(stdout).flatMap((event) => {
    const message = event["type"] === role && isObject(event["message"] as never) ? event["message"] : undefined;
    const content = (message as { content?: unknown } | undefined)?.content;
    return Array.isArray(content) ? content.filter((part: { type?: string }) => part.type === type) : [];
  });
}
