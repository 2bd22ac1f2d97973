import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { ChatEvent } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import { decodeReply, decodeStream } from "../../src/dialects/openai-chat/client.ts";
import { arriving, drain, inPieces, seeded } from "../support/bytes.ts";
import { chatRequest, finish, text } from "../support/chat.ts";

const folder = new URL("./fixtures/openai-chat/", import.meta.url);
const streams = readdirSync(folder).filter((file) => file.endsWith(".sse") && !file.startsWith("ours-"));
const read = (bytes: AsyncIterable<Uint8Array>) => drain(decodeStream(bytes, chatRequest()));
const chunk = (choice: object): string => `data: ${JSON.stringify({ choices: [{ index: 0, ...choice }] })}\n\n`;
const hello = chunk({ delta: { content: "Hi" } });

describe("servers as they are", () => {
  test.each(streams)("%s", async (file) => {
    const { items, error } = await read(arriving(readFileSync(new URL(file, folder))));
    expect(error).toBeUndefined();
    await expect(`${items.map((event) => JSON.stringify(event)).join("\n")}\n`).toMatchFileSnapshot(
      `./fixtures/openai-chat/${file.replace(".sse", ".events.ndjson")}`,
    );
  });

  test.each(streams)("%s says the same however its bytes are cut", async (file) => {
    const whole = await read(arriving(readFileSync(new URL(file, folder))));
    for (let seed = 0; seed < 20; seed++) {
      const cut = await read(inPieces(readFileSync(new URL(file, folder), "utf8"), seeded(seed), 1 + seed * 3));
      expect(cut).toEqual(whole);
    }
  });
});

describe("an answer that is not whole is never taken for one", () => {
  test.each<[string, string]>([
    ["a clean end after text", hello],
    ["[DONE] without a finish", `${hello}data: [DONE]\n\n`],
    ["finish_reason null to the end", `${hello}${chunk({ delta: {}, finish_reason: null })}data: [DONE]\n\n`],
    ["nothing at all", ""],
    ["only a usage", 'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}\n\ndata: [DONE]\n\n'],
    ["abort (LMDeploy)", hello + chunk({ delta: {}, finish_reason: "abort" })],
    ["error (LMDeploy)", hello + chunk({ delta: {}, finish_reason: "error" })],
    ["a frame cut in two", `${hello}data: {"choices":[{"del`],
    [
      "a nested error",
      `${hello}data: {"error":{"message":"out of slots","type":"server_error","code":500}}\n\ndata: [DONE]\n\n`,
    ],
    [
      "LMDeploy's flat error in the envelope",
      `${hello}data: {"error":{"message":"x","type":"internal_error","code":500,"param":null,"object":"error"}}\n\n`,
    ],
    ["a flat error", `${hello}data: {"message":"x","object":"error","code":500}\n\n`],
    ["an error that is a string", `${hello}data: {"error":"llama runner process has terminated"}\n\n`],
    ["an error event", `${hello}event: error\ndata: {"error":{"message":"x"}}\n\n`],
    [
      "the raw line of LMDeploy's proxy",
      `${hello}{"error_code":10402,"text":"Failed to get response after a period of time"}\n`,
    ],
    ["a page", "<html>Bad Gateway</html>\n"],
    [
      "a tool call without a name",
      chunk({
        delta: { tool_calls: [{ index: 0, id: "a", function: { arguments: "{}" } }] },
        finish_reason: "tool_calls",
      }),
    ],
  ])("%s", async (_, body) => {
    const { items, error } = await read(arriving(body));
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: "upstream_error" });
    expect(items.some((event) => event.type === "finish")).toBe(false);
  });
});

test("a connection that breaks after the finish loses nothing, one that breaks before is a failure", async () => {
  const breaking = async function* (body: string): AsyncGenerator<Uint8Array> {
    yield Buffer.from(body);
    throw new ApiError("upstream_error", "reset");
  };
  const after = await read(breaking(hello + chunk({ delta: {}, finish_reason: "stop" })));
  expect(after).toMatchObject({ error: undefined, items: [text("Hi"), { type: "finish", reason: "stop" }] });
  const failed = `data: ${JSON.stringify({ error: "late" })}\n\n`;
  expect(await read(breaking(hello + chunk({ delta: {}, finish_reason: "stop" }) + failed))).toMatchObject({
    error: { code: "upstream_error" },
  });
  expect(await read(breaking(hello))).toMatchObject({ error: { message: "reset" }, items: [text("Hi")] });
});

test("a provider may say what a missing finish means, but only for an answer", async () => {
  const asLength = (body: string) => drain(decodeStream(arriving(body), chatRequest(), { missingFinish: "length" }));
  expect((await asLength(`${hello}data: [DONE]\n\n`)).items.at(-1)).toMatchObject({ type: "finish", reason: "length" });
  expect((await asLength("data: [DONE]\n\n")).error).toMatchObject({ code: "upstream_error" });
});

test("a provider may read failures its own way", async () => {
  const failureIn = () => new ApiError("context_length_exceeded", "too long");
  const { error } = await drain(decodeStream(arriving(hello), chatRequest(), { failureIn }));
  expect(error).toMatchObject({ code: "context_length_exceeded" });
});

test("usage that a server does not count is estimated, never 0", async () => {
  const { items } = await read(arriving(hello + chunk({ delta: {}, finish_reason: "stop" })));
  const { usage } = items.at(-1) as Extract<ChatEvent, { type: "finish" }>;
  expect(usage.promptTokens).toBeGreaterThan(0);
  expect(usage.completionTokens).toBeGreaterThan(0);
});

test("of usage in every chunk the last counts", async () => {
  const counted = (completion: number, choice: object): string =>
    `data: ${JSON.stringify({ choices: [{ index: 0, ...choice }], usage: { prompt_tokens: 4, completion_tokens: completion } })}\n\n`;
  const { items } = await read(
    arriving(counted(1, { delta: { content: "a" } }), counted(2, { delta: {}, finish_reason: "stop" })),
  );
  expect(items.at(-1)).toMatchObject({ usage: { promptTokens: 4, completionTokens: 2 } });
});

test("other choices than the first are left out", async () => {
  const other = 'data: {"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":"stop"}]}\n\n';
  expect((await read(arriving(hello, other, chunk({ delta: {}, finish_reason: "stop" })))).items).toMatchObject([
    text("Hi"),
    { type: "finish" },
  ]);
});

test("the reader of the events may leave: the bytes are let go", async () => {
  let left = false;
  const endless = async function* (): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield Buffer.from(hello);
    } finally {
      left = true;
    }
  };
  for await (const event of decodeStream(endless(), chatRequest())) if (event.type === "text") break;
  expect(left).toBe(true);
});

test("a whole reply gives the same events as a stream", () => {
  const message = {
    role: "assistant",
    content: "Hi",
    reasoning_content: "hm",
    tool_calls: [
      { id: "a", type: "function", function: { name: "f", arguments: "{}" } },
      { id: "b", type: "function", function: { name: "f", arguments: '{"x":1}' } },
    ],
  };
  const json = {
    object: "chat.completion",
    choices: [{ index: 0, message, finish_reason: "stop" }],
    usage: { prompt_tokens: 7, completion_tokens: 3 },
  };
  expect(decodeReply(json, chatRequest())).toEqual([
    { type: "reasoning", text: "hm" },
    text("Hi"),
    { type: "tool-call", index: 0, id: "a", name: "f", arguments: "{}" },
    { type: "tool-call", index: 1, id: "b", name: "f", arguments: '{"x":1}' },
    finish("tool-calls"),
  ]);
  expect(() => decodeReply({ error_code: 10401, text: "Service unavailable" }, chatRequest())).toThrow(
    "Service unavailable",
  );
  expect(() => decodeReply({}, chatRequest())).toThrow("ended early");
});
