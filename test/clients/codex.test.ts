import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect } from "vitest";
import { isObject, type Json } from "../../src/core/json.ts";
import { openCountingLine } from "./counting-line.ts";
import { expectCopied, tryCopying, tryProgram } from "./copying.ts";
import { codex, configureCodex } from "./programs/codex.ts";
import { served } from "./rows.ts";
import { openScene } from "./scenes.ts";
import { tryTroubles } from "./troubles.ts";
import { openTarget } from "./ways.ts";

describe("Codex reads a file and writes another", () => {
  for (const way of served) tryCopying(codex, way);

  tryProgram("codex", "by a patch, which is a tool that takes text and no JSON", async (trial) => {
    const { task } = trial;
    const patch = `*** Begin Patch\n*** Add File: output.txt\n+${task.token}\n*** End Patch\n`;
    const part = { ...codex.part(task), second: { name: "apply_patch", arguments: { input: patch } } };
    const scene = await openScene("vllm", part);
    const target = await openTarget(scene, task);
    trial.after(() => target.close());
    const catalogue = path.join(task.home, "catalogue.json");
    writeFileSync(catalogue, JSON.stringify(catalogueWithPatches(target.model)));

    const run = await trial.run(
      configureCodex(task, target, { top: [`model_catalog_json = ${JSON.stringify(catalogue)}`] }),
      target,
    );

    const shown = { ...codex.shown, tools: () => [part.first.name, part.second.name] };
    expectCopied({ program: { ...codex, shown }, task, part, target }, run);
    const offered = scene.asked().map(({ tools }) => (tools as Json[]).map(nameOf));
    expect(offered.every((names) => names.includes("apply_patch"))).toBe(true);
  });

  tryProgram("codex", "over a WebSocket, with one connection for all its turns", async (trial) => {
    const { task } = trial;
    const part = codex.part(task);
    const target = await openTarget(await openScene("ollama", part), task);
    trial.after(() => target.close());
    const line = await openCountingLine(target.url, /^HTTP\/1\.1 \d+/gm);
    trial.after(() => line.close());
    const start = configureCodex(task, { ...target, url: line.url }, { provider: ["supports_websockets = true"] });

    const run = await trial.run(start, target);

    expectCopied({ program: codex, task, part, target }, run);
    // The switch to the WebSocket is the one answer in HTTP.
    expect(line.count).toBe(1);
  });
});

describe("Codex in trouble", () => {
  tryTroubles(codex, {
    overflow: { says: /ran out of room/, times: 1 },
    cramped: { says: /instructions and tools of this request need|ran out of room/, times: 1 },
    missing: { says: /openrouter:nothing/, times: 1 },
  });
});

function nameOf(tool: Json): Json | undefined {
  return isObject(tool) && isObject(tool.function) ? tool.function.name : undefined;
}

/** What Codex knows of a model for which it has patches. It reads every field. */
function catalogueWithPatches(slug: string): object {
  const none = {
    availability_nux: null,
    upgrade: null,
    model_messages: null,
    default_reasoning_level: null,
    default_verbosity: null,
    auto_compact_token_limit: null,
  };
  const model = {
    ...none,
    slug,
    display_name: slug,
    description: "local",
    supported_reasoning_levels: [],
    shell_type: "default",
    visibility: "list",
    supported_in_api: true,
    priority: 0,
    additional_speed_tiers: [],
    base_instructions: "You are a coding agent.",
    supports_reasoning_summaries: false,
    default_reasoning_summary: "auto",
    support_verbosity: false,
    apply_patch_tool_type: "freeform",
    web_search_tool_type: "text",
    truncation_policy: { mode: "bytes", limit: 10000 },
    supports_parallel_tool_calls: false,
    supports_image_detail_original: false,
    context_window: 65536,
    max_context_window: 65536,
    effective_context_window_percent: 95,
    experimental_supported_tools: [],
    input_modalities: ["text"],
    supports_search_tool: false,
  };
  return { models: [model] };
}
