import { expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { findMisfit } from "../../src/dialects/tool-schema.ts";
import { fromEngine } from "../../src/dialects/translate.ts";
import { chatmlTemplate, scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { post, readChat } from "../providers/calls.ts";
import { startEngine, writeModel } from "../support/llama.ts";

const parameters: JsonObject = {
  type: "object",
  properties: { path: { type: "string", maxLength: 8 }, line: { type: "integer" } },
  required: ["path", "line"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "read", parameters } }];
const template = `{#- <tool_call> -#}${chatmlTemplate}`;

/** A model of the hermes family that says just this, over every wire format. */
function speaking(name: string, say: string): (body?: JsonObject) => ReturnType<typeof post> {
  const specials = ["<tool_call>", "</tool_call>"];
  const model = scriptedModel({ template, scripts: [{ after: "\n", say: toPieces(say, specials) }], specials });
  const provider = fromEngine(startEngine({ model: writeModel(`${name}.gguf`, model) }));
  const messages = [{ role: "user", content: "Hi" }];
  return (body = {}) =>
    post(provider, "/v1/chat/completions", { model: name, messages, tools, stream: true, max_tokens: 48, ...body });
}

/** Control tokens, and pieces of a few letters of which none comes twice. */
function toPieces(text: string, specials: readonly string[]): string[] {
  const pieces: string[] = [];
  for (const part of text.split(/(<\/?tool_call>)/).filter((found) => found !== "")) {
    if (specials.includes(part)) pieces.push(part);
    else {
      for (let at = 0, size = 0; at < part.length; at += size) {
        for (size = 4; pieces.includes(part.slice(at, at + size));) size++;
        if (part.length - at - size < 2) size = part.length - at;
        pieces.push(part.slice(at, at + size));
      }
    }
  }
  return pieces;
}

const sound = '<tool_call>\n{"name": "read", "arguments": {"path": "ab", "line": 12}}\n</tool_call>';

test.each([
  ["a-number-as-a-text", sound.replace("12", '"12"')],
  ["an-object-not-closed", sound.replace("}}", "\n")],
  ["another-tool", sound.replace('"read"', '"delete"')],
  ["a-parameter-left-out", sound.replace(', "line": 12', "")],
])("a model of the embedded engine cannot write %s: what it ends fits, what is cut says so", async (name, say) => {
  const said = await readChat(await speaking(name, say)());
  const ended = said.finish === "length" ? said.calls.slice(0, -1) : said.calls;
  expect(said.error).toBeUndefined();
  expect(said.calls.map((call) => call.name)).toEqual(said.calls.map(() => "read"));
  for (const call of ended) expect(findMisfit(JSON.parse(call.arguments) as JsonObject, parameters)).toBeUndefined();
  expect(said.calls.length + said.text.length).toBeGreaterThan(0);
});

test("its arguments are told as they come, for they are held to the schema already", async () => {
  const said = await readChat(await speaking("sound", sound)());
  expect(said.calls).toMatchObject([{ name: "read", arguments: '{"path": "ab", "line": 12}' }]);
  expect(said.chunks.filter((chunk) => JSON.stringify(chunk).includes('"tool_calls":[')).length).toBeGreaterThan(3);
});

test("it takes a history that broke off in the middle of a call", async () => {
  const ask = speaking("history", "Hello");
  const call = { id: "", type: "function", function: { name: "read", arguments: '{"path": "x' } };
  const messages = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: null, tool_calls: [call, call] },
    { role: "tool", content: "one" },
    { role: "user", content: "go on" },
    { role: "tool", tool_call_id: "lost", content: "two" },
  ];
  expect((await readChat(await ask({ messages }))).text).toBe("Hello");
});
