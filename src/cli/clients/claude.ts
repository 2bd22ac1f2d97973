import { isAbsolute, join } from "node:path";
import { dataFolder } from "../../config/folders.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import { type Aim, type Client, fileNameOf, keyVariable, type OwnFile, type Place } from "./client.ts";
import { noKey } from "./piece.ts";
import { editJson, readJson, readJsonFile } from "./json-file.ts";

/** Without any value, Claude Code wants its user to log in. */
const token = "ANTHROPIC_AUTH_TOKEN";
/** Credentials and addresses for elsewhere; Claude Code sends an API key beside a token. */
const foreign = [
  "ANTHROPIC_API_KEY",
  "ANTHROPIC_CUSTOM_HEADERS",
  "CLAUDE_CODE_OAUTH_TOKEN",
  "CLAUDE_CODE_USE_BEDROCK",
  "CLAUDE_CODE_USE_VERTEX",
  "CLAUDE_CODE_USE_FOUNDRY",
];
/** The tools without which it cannot work; with all of them its first question is 11,000 tokens, with these 4,000. */
const tools = "Read,Write,Edit,Bash";

/** Claude Code is configured by variables; what its user's settings file says against them is overruled on its command line. */
export const claude: Client = {
  name: "claude",
  title: "Claude Code",
  command: "claude",
  package: "@anthropic-ai/claude-code",
  tested: "2.1.330",
  context: { least: 8192, sensible: 32_768 },
  async configure(aim, place) {
    const env = toVariables(aim);
    const settings = await Promise.all(settingsFiles(place).map(readJsonFile));
    const overruling = overrule(settings, env, toHelper(aim, place));
    const files = overruling === undefined ? [] : [toSettingsFile(aim, place, overruling)];
    const helped = overruling?.["apiKeyHelper"] !== undefined;
    return {
      env: aim.keyed ? env : { ...env, [token]: noKey },
      keyVariables: aim.keyed ? [token, ...(helped ? [keyVariable] : [])] : [],
      unset: foreign,
      args: [
        ...files.flatMap(({ path }) => ["--settings", path]),
        // Takes words until the next flag.
        "--tools",
        tools,
        "--model",
        aim.model.id,
      ],
      files,
    };
  },
  save(aim, place) {
    const path = join(settingsFolder(place), "settings.json");
    const env = aim.keyed ? toVariables(aim) : { ...toVariables(aim), [token]: noKey };
    const change = (text: string): string => {
      const known = readJson(text, path);
      const set = isObject(known["env"]) ? Object.keys(known["env"]) : [];
      const credentials = set.filter((name) => !(name in env) && (name === token || foreign.includes(name)));
      const helped = aim.keyed || known["apiKeyHelper"] !== undefined;
      return editJson(text, path, [
        ...Object.entries(env).map(([name, value]) => ({ at: ["env", name], value })),
        ...credentials.map((name) => ({ at: ["env", name], value: "" })),
        { at: ["model"], value: aim.model.id },
        ...(helped ? [{ at: ["apiKeyHelper"], value: toHelper(aim, place) }] : []),
      ]);
    };
    const hints = [
      `Every claude of this user takes the model from now on; claude --tools ${tools} keeps its questions short`,
    ];
    return Promise.resolve({ edits: [{ path, change }], files: [], hints });
  },
};

/** The variables, without the key. */
export function toVariables({ url, model }: Aim): Record<string, string> {
  return {
    ANTHROPIC_BASE_URL: url,
    ANTHROPIC_MODEL: model.id,
    ANTHROPIC_DEFAULT_OPUS_MODEL: model.id,
    ANTHROPIC_DEFAULT_SONNET_MODEL: model.id,
    ANTHROPIC_DEFAULT_HAIKU_MODEL: model.id,
    CLAUDE_CODE_SUBAGENT_MODEL: model.id,
    // A model that it does not know, it takes for one of a million tokens.
    CLAUDE_CODE_MAX_CONTEXT_TOKENS: String(model.context),
    CLAUDE_CODE_MAX_OUTPUT_TOKENS: String(model.output),
    // A line that changes with each request would undo every prompt cache.
    CLAUDE_CODE_ATTRIBUTION_HEADER: "0",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    API_TIMEOUT_MS: "1800000",
    ...(model.reasoning ? {} : { MAX_THINKING_TOKENS: "0" }),
  };
}

/** A command that prints the key, as Claude Code runs it: by sh, on Windows by cmd.exe. */
function toHelper({ keyed }: Aim, { platform }: Place): string {
  if (!keyed) return `echo ${noKey}`;
  return platform === "win32" ? `echo %${keyVariable}%` : `printf %s "$${keyVariable}"`;
}

/**
 * Settings that undo those which would win over our variables, or would send a key for elsewhere to this server;
 * undefined: there are none. A token there needs a helper, for a key must not stand on a command line.
 */
function overrule(
  settings: readonly JsonObject[],
  env: Record<string, string>,
  helper: string,
): JsonObject | undefined {
  const set = settings.flatMap((one) => (isObject(one["env"]) ? Object.keys(one["env"]) : []));
  const against = new Set(set.filter((name) => name === token || name in env || foreign.includes(name)));
  const helped = against.has(token) || settings.some((one) => one["apiKeyHelper"] !== undefined);
  if (against.size === 0 && !helped) return undefined;
  const values = Object.fromEntries([...against].map((name) => [name, env[name] ?? ""]));
  return { env: values, ...(helped ? { apiKeyHelper: helper } : {}) };
}

function toSettingsFile({ url }: Aim, { env, home, platform }: Place, settings: JsonObject): OwnFile {
  const path = join(dataFolder({ env, home, platform }), "clients", `claude-${fileNameOf(url)}.json`);
  return { path, text: `${JSON.stringify(settings, null, 2)}\n` };
}

/** The user's and the project's. */
function settingsFiles(place: Place): string[] {
  const project = ["settings.json", "settings.local.json"].map((name) => join(place.folder, ".claude", name));
  return [join(settingsFolder(place), "settings.json"), ...project];
}

function settingsFolder({ env, home }: Place): string {
  const own = env["CLAUDE_CONFIG_DIR"] ?? "";
  return isAbsolute(own) ? own : join(home, ".claude");
}
