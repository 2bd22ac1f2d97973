import type { JsonObject } from "../../src/core/json.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";

/** What a scripted model says: where no tools are offered, and after each number of tool results. */
export interface Play {
  readonly title: string;
  readonly turns: readonly string[];
}

/**
 * Writes a GGUF that plays a task of several turns: its chat template, which writes everything as Qwen's does, ends the
 * prompt with another token for each number of tool results, and that token is what its answer depends on.
 */
export function writePlay(file: string, { title, turns }: Play): void {
  const cue = (turn: number): string => `<|turn${turn}|>`;
  const scripts = [{ after: "<|title|>", say: title }, ...turns.map((say, turn) => ({ after: cue(turn), say }))];
  writeGguf(
    file,
    scriptedModel({
      name: "play",
      specials: ["<|title|>", ...turns.map((_, turn) => cue(turn))],
      scripts,
      template: chatTemplate,
      contextLength: 65_536,
    }),
  );
}

/** A tool call in the words of Hermes and Qwen. */
export function toolCall(name: string, parameters: JsonObject): string {
  return `<tool_call>\n${JSON.stringify({ name, arguments: parameters })}\n</tool_call>`;
}

const chatTemplate = `{%- set ns = namespace(results=0) -%}
{{- '<|im_start|>system\\n' -}}
{%- if messages[0].role == 'system' -%}{{- messages[0].content -}}{%- endif -%}
{%- if tools -%}
  {{- '\\n\\n# Tools\\n\\n<tools>' -}}
  {%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
  {{- '\\n</tools>\\n\\nFor each call, return within <tool_call></tool_call> tags {"name": ..., "arguments": ...}' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for message in messages -%}
  {%- if message.role == 'tool' -%}
    {%- set ns.results = ns.results + 1 -%}
    {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' -}}
  {%- elif message.role != 'system' or not loop.first -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content -}}
    {%- for call in message.tool_calls or [] -%}
      {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\\n' + ('<|turn' + ns.results | string + '|>' if tools else '<|title|>') -}}`;
