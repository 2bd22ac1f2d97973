import type { JsonObject } from "../../core/json.ts";
import { toCatalogueFile, toProfile } from "./codex.ts";
import { toVariables } from "./claude.ts";
import { type Aim, keyVariable, openaiUrl, type Place } from "./client.ts";
import { toConfig, toProvider } from "./opencode.ts";
import { noKey, type Piece } from "./piece.ts";
import { quoteForPowerShell, quoteForSh } from "./quoting.ts";
import { sdkPieces } from "./sdk-pieces.ts";
import { toTomlFile } from "./toml-text.ts";

/** A program or library that can be connected by hand. */
export interface Connection {
  readonly name: string;
  readonly title: string;
  readonly pieces: (aim: Aim, place: Place) => readonly Piece[];
}

/** Every program and library of which `lair connect` knows the lines, in the order of its list. */
export const connections: readonly Connection[] = [
  { name: "opencode", title: "opencode (or: lair launch opencode)", pieces: opencodePieces },
  { name: "codex", title: "Codex CLI (or: lair launch codex)", pieces: codexPieces },
  { name: "claude", title: "Claude Code (or: lair launch claude)", pieces: claudePieces },
  { name: "continue", title: "Continue", pieces: continuePieces },
  { name: "cline", title: "Cline", pieces: clinePieces },
  { name: "aider", title: "aider", pieces: aiderPieces },
  { name: "zed", title: "Zed", pieces: zedPieces },
  { name: "open-webui", title: "Open WebUI", pieces: openWebuiPieces },
  { name: "openai-python", title: "OpenAI SDK, Python", pieces: sdkPieces["openai-python"] },
  { name: "openai-js", title: "OpenAI SDK, JavaScript", pieces: sdkPieces["openai-js"] },
  { name: "anthropic-python", title: "Anthropic SDK, Python", pieces: sdkPieces["anthropic-python"] },
  { name: "anthropic-js", title: "Anthropic SDK, JavaScript", pieces: sdkPieces["anthropic-js"] },
  { name: "ai-sdk", title: "AI SDK (Vercel)", pieces: sdkPieces["ai-sdk"] },
  { name: "langchain-python", title: "LangChain, Python", pieces: sdkPieces["langchain-python"] },
  { name: "langchain-js", title: "LangChain, JavaScript", pieces: sdkPieces["langchain-js"] },
  { name: "ollama-js", title: "ollama-js, and what else speaks Ollama's API", pieces: sdkPieces["ollama-js"] },
  { name: "curl", title: "curl", pieces: curlPieces },
];

function opencodePieces(aim: Aim): Piece[] {
  const config = { $schema: "https://opencode.ai/config.json", ...toConfig(aim), provider: { lair: toProvider(aim) } };
  return [{ where: "~/.config/opencode/opencode.json", text: json(config) }];
}

function codexPieces(aim: Aim, place: Place): Piece[] {
  const catalogue = toCatalogueFile(aim, place);
  return [
    {
      where: "~/.codex/lair.config.toml, then: codex --profile lair",
      text: toTomlFile(toProfile(aim, catalogue.path)).trimEnd(),
    },
    { where: catalogue.path, text: catalogue.text.trimEnd() },
  ];
}

function claudePieces(aim: Aim, { platform }: Place): Piece[] {
  const windows = platform === "win32";
  const token = aim.keyed ? (windows ? `$env:${keyVariable}` : `"$${keyVariable}"`) : noKey;
  const lines = Object.entries(toVariables(aim)).map(([name, value]) =>
    windows ? `$env:${name} = ${quoteForPowerShell(value)}` : `export ${name}=${quoteForSh(value)}`,
  );
  const last = windows
    ? `$env:ANTHROPIC_AUTH_TOKEN = ${aim.keyed ? token : quoteForPowerShell(token)}`
    : `export ANTHROPIC_AUTH_TOKEN=${token}`;
  const command = `claude --tools Read,Write,Edit,Bash`;
  return [{ where: windows ? "PowerShell" : "shell", text: [...lines, last, command].join("\n") }];
}

/** https://docs.continue.dev/reference */
function continuePieces(aim: Aim): Piece[] {
  const { id, tools, vision, context, output } = aim.model;
  const skills = [...(tools ? ["tool_use"] : []), ...(vision ? ["image_input"] : [])];
  const text = [
    "name: Local",
    "version: 0.0.1",
    "schema: v1",
    "models:",
    `  - name: ${yaml(id)}`,
    "    provider: openai",
    `    model: ${yaml(id)}`,
    `    apiBase: ${yaml(openaiUrl(aim))}`,
    `    apiKey: ${aim.keyed ? `\${{ secrets.${keyVariable} }}` : noKey}`,
    "    roles: [chat, edit, apply]",
    `    capabilities: [${skills.join(", ")}]`,
    "    defaultCompletionOptions:",
    `      contextLength: ${context}`,
    `      maxTokens: ${output}`,
  ].join("\n");
  const secret = { where: "~/.continue/.env", text: `${keyVariable}=…` };
  return [{ where: "~/.continue/config.yaml", text }, ...(aim.keyed ? [secret] : [])];
}

/** https://docs.cline.bot/provider-config/openai-compatible */
function clinePieces(aim: Aim): Piece[] {
  const { id, context, output, vision } = aim.model;
  const text = [
    "API Provider:       OpenAI Compatible",
    `Base URL:           ${openaiUrl(aim)}`,
    `API Key:            ${aim.keyed ? "the server's key" : noKey}`,
    `Model ID:           ${id}`,
    `Context Window:     ${context}`,
    `Max Output Tokens:  ${output}`,
    `Supports Images:    ${vision ? "yes" : "no"}`,
  ].join("\n");
  return [{ where: "Cline's settings", text }];
}

/** https://aider.chat/docs/llms/openai-compat.html, https://aider.chat/docs/config/adv-model-settings.html */
function aiderPieces(aim: Aim, { platform }: Place): Piece[] {
  const { id, context, output } = aim.model;
  const name = `openai/${id}`;
  const limits = { max_input_tokens: context, max_output_tokens: output, max_tokens: output };
  const entry = {
    ...limits,
    input_cost_per_token: 0,
    output_cost_per_token: 0,
    litellm_provider: "openai",
    mode: "chat",
  };
  return [
    {
      where: shellName(platform),
      text: [...openaiVariables(aim, platform, "OPENAI_API_BASE"), `aider --model ${word(name, platform)}`].join("\n"),
    },
    { where: "~/.aider.model.metadata.json", text: json({ [name]: entry }) },
  ];
}

/** https://zed.dev/docs/ai/llm-providers#openai-api-compatible */
function zedPieces(aim: Aim): Piece[] {
  const models = aim.models.map(({ id, context, output, tools, vision }) => ({
    name: id,
    display_name: id,
    max_tokens: context,
    max_output_tokens: output,
    capabilities: {
      tools,
      images: vision,
      parallel_tool_calls: false,
      prompt_cache_key: false,
    },
  }));
  const settings = {
    language_models: { openai_compatible: { lair: { api_url: openaiUrl(aim), available_models: models } } },
    agent: { default_model: { provider: "lair", model: aim.model.id } },
  };
  const key = { where: "the environment in which Zed starts", text: `LAIR_API_KEY=${aim.keyed ? "…" : noKey}` };
  return [{ where: "Zed's settings.json", text: json(settings) }, key];
}

/** https://docs.openwebui.com/getting-started/env-configuration */
function openWebuiPieces(aim: Aim): Piece[] {
  const { hostname, port, protocol } = new URL(aim.url);
  const own = /^(localhost|127\.|\[::1\])/.test(hostname);
  const base = own ? `${protocol}//host.docker.internal:${port}` : aim.url;
  const text = [
    "docker run -d -p 3000:8080 --add-host=host.docker.internal:host-gateway \\",
    `  -e ENABLE_OPENAI_API=True -e OPENAI_API_BASE_URL=${quoteForSh(`${base}/v1`)} \\`,
    `  -e OPENAI_API_KEY=${aim.keyed ? `"$${keyVariable}"` : noKey} \\`,
    "  -v open-webui:/app/backend/data --name open-webui ghcr.io/open-webui/open-webui:main",
  ].join("\n");
  const note = [
    "A container reaches this machine by another address than 127.0.0.1: start the server with",
    "  LLM_V1_PROXY_TOKEN=choose-a-long-one lair serve --host 0.0.0.0",
  ].join("\n");
  return [...(own ? [{ where: "first", text: note }] : []), { where: "shell", text }];
}

function curlPieces(aim: Aim): Piece[] {
  const body = JSON.stringify({ model: aim.model.id, messages: [{ role: "user", content: "Say hello." }] });
  const text = [
    `curl ${quoteForSh(`${openaiUrl(aim)}/chat/completions`)} -H 'content-type: application/json' \\`,
    ...(aim.keyed ? [`  -H "authorization: Bearer $${keyVariable}" \\`] : []),
    `  -d ${quoteForSh(body)}`,
  ].join("\n");
  return [{ where: "sh", text }];
}

/** Variables that programs on OpenAI's Python library read. */
function openaiVariables(aim: Aim, platform: NodeJS.Platform, base: string): string[] {
  const windows = platform === "win32";
  const set = (name: string, value: string): string =>
    windows ? `$env:${name} = ${value}` : `export ${name}=${value}`;
  const key = windows ? `$env:${keyVariable}` : `"$${keyVariable}"`;
  return [
    set(base, windows ? quoteForPowerShell(openaiUrl(aim)) : quoteForSh(openaiUrl(aim))),
    set("OPENAI_API_KEY", aim.keyed ? key : windows ? quoteForPowerShell(noKey) : noKey),
  ];
}

function shellName(platform: NodeJS.Platform): string {
  return platform === "win32" ? "PowerShell" : "shell";
}

function word(text: string, platform: NodeJS.Platform): string {
  return platform === "win32" ? quoteForPowerShell(text) : quoteForSh(text);
}

function json(value: JsonObject): string {
  return JSON.stringify(value, null, 2);
}

/** A text in YAML: plain where that cannot be misread, else as JSON, which is YAML too. */
function yaml(text: string): string {
  return /^[A-Za-z][\w./-]*(:[\w./-]+)*$/.test(text) ? text : JSON.stringify(text);
}
