import { existsSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { type Aim, type Client, keyVariable, openaiUrl, type Place } from "./client.ts";
import { editJson, readJson, readJsonFile } from "./json-file.ts";
import type { OfferedModel } from "./offered-models.ts";

/** opencode's name for us; a model is `lair/<id>` there, split at the first slash. */
const providerId = "lair";
/** Milliseconds between two bytes of an answer; ours come with heartbeats, so this is for a server that is gone. */
const chunkTimeout = 1_800_000;
const schema = "https://opencode.ai/config.json";

/** opencode takes a configuration from a variable and lays it over the user's and the project's own. */
export const opencode: Client = {
  name: "opencode",
  title: "opencode",
  command: "opencode",
  package: "opencode-ai",
  tested: "1.18.33",
  // Its own prompt and tools take 7,000 tokens.
  context: { least: 16_384, sensible: 32_768 },
  async configure(aim, place) {
    const given = readJson(place.env[contentVariable] ?? "", contentVariable);
    const enabled = given["enabled_providers"] ?? (await findEnabled(place));
    const content = {
      ...given,
      $schema: schema,
      ...toConfig(aim),
      provider: { ...(isObject(given["provider"]) ? given["provider"] : {}), [providerId]: toProvider(aim) },
      // A list of the user's that is not ours would hide this provider.
      ...(Array.isArray(enabled) ? { enabled_providers: [...new Set([...enabled, providerId])] } : {}),
    };
    return {
      env: { [contentVariable]: JSON.stringify(content) },
      keyVariables: aim.keyed ? [keyVariable] : [],
      unset: [],
      args: [],
      files: [],
    };
  },
  save(aim, place) {
    const path = usersFile(place);
    const edit = (text: string): string => {
      const known = readJson(text, path);
      return editJson(text, path, [
        ...(text.trim() === "" ? [{ at: ["$schema"], value: schema }] : []),
        { at: ["provider", providerId], value: toProvider(aim) },
        ...Object.entries(toConfig(aim)).flatMap(([name, value]) =>
          known[name] === undefined || isOurs(known[name]) ? [{ at: [name], value }] : [],
        ),
      ]);
    };
    const hints = [
      `opencode -m ${providerId}/${aim.model.id} takes this model, where another one is the default`,
      "Models that come later are not in the file: repeat this command, or use lair launch opencode, which asks each time.",
    ];
    return Promise.resolve({ edits: [{ path, change: edit }], files: [], hints });
  },
};

const contentVariable = "OPENCODE_CONFIG_CONTENT";

/** The defaults of opencode's own that are ours to set; titles are made by the same model, for another would push it out of memory. */
export function toConfig({ model }: Aim): Record<string, string> {
  return { model: `${providerId}/${model.id}`, small_model: `${providerId}/${model.id}` };
}

/** The entry below `provider`. */
export function toProvider(aim: Aim): JsonObject {
  return {
    npm: "@ai-sdk/openai-compatible",
    name: "Local AI Runtime",
    options: {
      baseURL: openaiUrl(aim),
      ...(aim.keyed ? { apiKey: `{env:${keyVariable}}` } : {}),
      headerTimeout: false,
      chunkTimeout,
    },
    models: Object.fromEntries(aim.models.map((model) => [model.id, toEntry(model)])),
  };
}

/** Without `limit` opencode never compacts a conversation, and asks for 32,000 tokens each time. */
function toEntry({ id, context, output, tools, vision, reasoning }: OfferedModel): JsonObject {
  return {
    name: id,
    tool_call: tools,
    reasoning,
    attachment: vision,
    temperature: true,
    limit: { context, output },
    modalities: { input: vision ? ["text", "image"] : ["text"], output: ["text"] },
  };
}

function isOurs(value: Json | undefined): boolean {
  return typeof value === "string" && value.startsWith(`${providerId}/`);
}

/** The providers to which the project, else the user, has limited opencode; the nearest file counts. */
async function findEnabled(place: Place): Promise<Json | undefined> {
  for (const path of [...projectFiles(place.folder), usersFile(place)]) {
    const { enabled_providers: enabled } = await readJsonFile(path);
    if (enabled !== undefined) return enabled;
  }
  return undefined;
}

/** From a folder up to the root of its repository. */
function projectFiles(folder: string): string[] {
  const names = ["opencode.jsonc", "opencode.json"].flatMap((name) => [join(".opencode", name), name]);
  const here = names.map((name) => join(folder, name));
  const above = dirname(folder);
  return above === folder || existsSync(join(folder, ".git")) ? here : [...here, ...projectFiles(above)];
}

/** `opencode.jsonc` or `opencode.json` in the folder of its user, on Windows too. */
function usersFile({ env, home }: Place): string {
  const xdg = env["XDG_CONFIG_HOME"] ?? "";
  const folder = join(isAbsolute(xdg) ? xdg : join(home, ".config"), "opencode");
  const commented = join(folder, "opencode.jsonc");
  return existsSync(commented) ? commented : join(folder, "opencode.json");
}
