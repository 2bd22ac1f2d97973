import { describe, expect, test } from "vitest";
import type { ChatRequest } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { openaiCompaction } from "../../src/dialects/openai-compaction.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";
import { asChoice, finish, reasoning, replyHead, text } from "../support/chat.ts";
import { expectValid, expectValidOpen } from "../support/openai-spec.ts";

const head = { ...replyHead, id: "resp_req1" };
const ls: JsonObject = { type: "function", name: "ls", parameters: { type: "object" } };
const said = (role: string, content: string): JsonObject => ({ type: "message", role, content });
const history: JsonObject[] = [
  said("developer", "Answer in verse."),
  said("user", "What is in src?"),
  { type: "function_call", call_id: "c", name: "ls", arguments: "{}" },
  { type: "function_call_output", call_id: "c", output: "a.ts" },
  { type: "message", role: "assistant", content: [{ type: "output_text", text: "Only a.ts." }] },
  { ...said("user", "Delete it."), id: "msg_mine" },
];

async function compact(body: JsonObject, summary = "The user looks at src; a.ts is there."): Promise<JsonObject[]> {
  const request = openaiCompaction.decodeRequest(body, "m", {});
  const events = asChoice([reasoning("hm"), text(`${summary}\n`), finish()]);
  const reply = (await openaiCompaction.encodeReply(events, request, body, head)) as { output: JsonObject[] };
  expectValid("CompactResource", reply);
  expectValidOpen("CompactResource", reply);
  expect(reply).toMatchObject({ object: "response.compaction", usage: { total_tokens: 10 } });
  return reply.output;
}

const decode = (input: JsonObject[]): ChatRequest => openaiResponses.decodeRequest({ input }, "m", {});

describe("compacting a conversation", () => {
  test("asks the model for a summary of it, with its tools in the prompt and none to call, bounded, not streamed", () => {
    const request = openaiCompaction.decodeRequest({ input: history, tools: [ls], stream: true }, "m", {});
    expect(request).toMatchObject({ stream: false, toolChoice: "none", tools: [{ name: "ls" }], maxTokens: 8192 });
    expect(request.messages.slice(0, -1)).toEqual(decode(history).messages);
    expect(request.messages.at(-1)).toMatchObject({ role: "user", content: [{ type: "text" }] });
  });

  test("keeps instructions and the user's words, and puts a summary in the place of all else", async () => {
    const output = await compact({ input: history });
    expect(output.map(({ type, role = null }) => [type, role])).toEqual([
      ["message", "developer"],
      ["message", "user"],
      ["message", "user"],
      ["compaction", null],
    ]);
    expect(output[2]).toMatchObject({ id: "msg_mine", content: [{ type: "input_text", text: "Delete it." }] });
    expect(JSON.stringify(output)).not.toContain("Only a.ts");
  });

  test("gives a window from which the next call goes on", async () => {
    const { messages } = decode([...(await compact({ input: history })), said("user", "And now?")]);
    expect(messages.map(({ role }) => role)).toEqual(["developer", "user", "user", "user", "user"]);
    expect(JSON.stringify(messages[3])).toContain("The user looks at src; a.ts is there.");
  });

  test("can be done again: the first summary is what the second is made of, and does not pile up", async () => {
    const once = await compact({ input: history });
    const request = openaiCompaction.decodeRequest({ input: once }, "m", {});
    expect(JSON.stringify(request.messages)).toContain("a.ts is there");
    const twice = await compact({ input: once }, "Nothing is left.");
    expect(twice.filter(({ type }) => type === "compaction")).toHaveLength(1);
    expect(JSON.stringify(decode(twice).messages)).not.toContain("a.ts is there");
  });

  test("keeps of very long messages only the latest that have room", async () => {
    const pages = [1, 2, 3, 4].map((page) => said("user", `${page} ${"x".repeat(7000)}`));
    const kept = (await compact({ input: pages })).filter(({ type }) => type === "message");
    expect(kept.map(({ content }) => JSON.stringify(content).match(/"text":"(\d)/)?.[1])).toEqual(["3", "4"]);
  });

  test("takes a mere text too", async () => {
    expect(await compact({ input: "hello" })).toMatchObject([{ role: "user" }, { type: "compaction" }]);
  });

  test("fails rather than lose a conversation to an empty summary", async () => {
    await expect(compact({ input: history }, " ")).rejects.toMatchObject({ code: "upstream_error" });
  });

  test("by another server is told to the model, for nobody else can read it", () => {
    const { messages } = decode([{ type: "compaction", encrypted_content: "gAAAA" }, said("user", "hi")]);
    expect(JSON.stringify(messages[0])).toContain("cannot be read here");
  });
});
