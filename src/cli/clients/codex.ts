import { isAbsolute, join } from "node:path";
import { dataFolder } from "../../config/folders.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import { type Aim, type Client, fileNameOf, keyVariable, openaiUrl, type OwnFile, type Place } from "./client.ts";
import type { OfferedModel } from "./offered-models.ts";
import { toTomlFile, toTomlValue } from "./toml-text.ts";

const providerId = "lair";
/** Milliseconds without an event; on a slow machine a long prompt takes its time. */
const idleTimeout = 1_800_000;

/**
 * Codex is configured by overrides on its command line, which leave the user's login and settings alone, and a catalogue
 * of models: with one, its prompt is 2,000 tokens instead of 9,000.
 */
export const codex: Client = {
  name: "codex",
  title: "Codex",
  command: "codex",
  package: "@openai/codex",
  tested: "0.169.0",
  context: { least: 8192, sensible: 32_768 },
  configure(aim, place) {
    const catalogue = toCatalogueFile(aim, place);
    const overrides = toOverrides(toProfile(aim, catalogue.path));
    return Promise.resolve({
      env: {},
      keyVariables: aim.keyed ? [keyVariable] : [],
      unset: [],
      args: overrides.flatMap((override) => ["-c", override]),
      files: [catalogue],
    });
  },
  save(aim, place) {
    const catalogue = toCatalogueFile(aim, place);
    const path = join(codexFolder(place), `${providerId}.config.toml`);
    const text = toTomlFile(toProfile(aim, catalogue.path));
    const hints = [
      `codex --profile ${providerId} starts Codex with it; codex alone stays as it was`,
      "Models that come later are not in the catalogue: repeat this command, or use lair launch codex, which asks each time.",
    ];
    return Promise.resolve({ edits: [{ path, change: () => text }], files: [catalogue], hints });
  },
};

/** Codex's own configuration (`config.toml`) for the server. */
export function toProfile(aim: Aim, catalogue: string): JsonObject {
  return {
    model: aim.model.id,
    model_provider: providerId,
    model_catalog_json: catalogue,
    // A tool of OpenAI's servers.
    web_search: "disabled",
    features: { goals: false },
    agents: { enabled: false },
    model_providers: {
      [providerId]: {
        name: "Local AI Runtime",
        base_url: openaiUrl(aim),
        wire_api: "responses",
        ...(aim.keyed ? { env_key: keyVariable } : {}),
        stream_idle_timeout_ms: idleTimeout,
      },
    },
  };
}

/** The same as `key=value`, the keys dotted, the values TOML. */
function toOverrides(profile: JsonObject): string[] {
  return Object.entries(profile).flatMap(([key, value]) => {
    const inner = isObject(value) ? Object.entries(value).map(([name, one]) => [`${key}.${name}`, one] as const) : [];
    return (isObject(value) ? inner : [[key, value] as const]).map(
      ([path, one]) => `${path}=${toTomlValue(one ?? "")}`,
    );
  });
}

/** The catalogue of the server's models, in our data folder. */
export function toCatalogueFile(aim: Aim, { env, home, platform }: Place): OwnFile {
  const path = join(dataFolder({ env, home, platform }), "clients", `codex-${fileNameOf(aim.url)}.json`);
  return { path, text: `${JSON.stringify({ models: aim.models.map(toEntry) }, null, 2)}\n` };
}

const instructions = [
  "You are a coding agent in the user's terminal. You see and change files only through the tools.",
  "Read a file before you change it. Make the smallest change that does the task, and keep the style of the code around it.",
  "Run the project's own tests or the program when that shows whether it works. Never guess what a command printed.",
  "When the task is done, say in one or two sentences what you changed; when you cannot do it, say why.",
].join("\n");

/** Codex reads every field (codex-rs, `ModelInfo`); those that are null or empty switch off what only OpenAI's servers have. */
function toEntry({ id, context, output, vision }: OfferedModel, place: number): JsonObject {
  return {
    slug: id,
    display_name: id,
    description: "a model of Local AI Runtime",
    default_reasoning_level: null,
    supported_reasoning_levels: [],
    shell_type: "default",
    visibility: "list",
    supported_in_api: true,
    priority: place,
    additional_speed_tiers: [],
    availability_nux: null,
    upgrade: null,
    base_instructions: instructions,
    model_messages: null,
    supports_reasoning_summaries: false,
    default_reasoning_summary: "auto",
    support_verbosity: false,
    default_verbosity: null,
    apply_patch_tool_type: null,
    web_search_tool_type: "text",
    truncation_policy: { mode: "bytes", limit: 10_000 },
    supports_parallel_tool_calls: false,
    supports_image_detail_original: false,
    context_window: context,
    max_context_window: context,
    // Codex keeps no room for the answer itself.
    auto_compact_token_limit: context - output,
    effective_context_window_percent: 95,
    experimental_supported_tools: [],
    input_modalities: vision ? ["text", "image"] : ["text"],
    supports_search_tool: false,
  };
}

function codexFolder({ env, home }: Place): string {
  const own = env["CODEX_HOME"] ?? "";
  return isAbsolute(own) ? own : join(home, ".codex");
}
