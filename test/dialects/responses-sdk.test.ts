import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI from "openai";
import type { ResponseInputItem, Tool } from "openai/resources/responses/responses";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toIterable } from "../../src/core/bytes.ts";
import { Call } from "../../src/core/call.ts";
import type { ChatEvent, ChatRequest } from "../../src/core/chat.ts";
import type { Engine } from "../../src/core/engine.ts";
import { fromEngine } from "../../src/dialects/translate.ts";
import { finish, reasoning, saying, text } from "../support/chat.ts";

/** Requests as the engine was given them, and what it answers next. */
let asked: ChatRequest[] = [];
let next: ChatEvent[] = [];

const engine: Engine = {
  name: "box",
  kind: "fake",
  chat(request) {
    asked.push(request);
    return saying(...next);
  },
  models: async () => [],
  health: async () => ({ ok: true }),
  close: async () => undefined,
};

let server: Server;
let client: OpenAI;

beforeAll(async () => {
  const provider = fromEngine(engine);
  let count = 0;
  server = createServer((request, response) => {
    const answer = async (): Promise<void> => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const signal = new AbortController().signal;
      const init = { method: "POST", path: request.url ?? "", signal, body: Buffer.concat(chunks) };
      const call = new Call({ id: `req${count++}`, ...init });
      call.target = { provider, model: "m", requested: "box:m" };
      const { status, headers, body } = await provider.handle(call);
      response.writeHead(status, headers);
      if (typeof body === "string" || body === null || Buffer.isBuffer(body)) response.end(body);
      else {
        for await (const chunk of toIterable(body)) response.write(chunk);
        response.end();
      }
    };
    answer().catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "none", maxRetries: 0 });
});

afterAll(() => new Promise((resolve) => server.close(resolve)));

const model = "box:m";
const patch: Tool = { type: "custom", name: "apply_patch", format: { type: "text" } };
const search: Tool = { type: "web_search" };

function answerWith(...events: ChatEvent[]): void {
  asked = [];
  next = events;
}

describe("the official OpenAI SDK", () => {
  test("calls a custom tool, streamed and whole, and goes on with its result", async () => {
    answerWith(
      { type: "tool-call", index: 0, id: "call_a", name: "apply_patch", arguments: '{"input":"*** Be' },
      { type: "tool-call", index: 0, arguments: 'gin\\n\\"x\\""}' },
      finish(),
    );
    const input: ResponseInputItem[] = [{ role: "user", content: "patch it" }];
    const stream = client.responses.stream({ model, input, tools: [patch], store: false });
    let typed = "";
    for await (const event of stream) if (event.type === "response.custom_tool_call_input.delta") typed += event.delta;
    const { output } = await stream.finalResponse();
    const whole = await client.responses.create({ model, input, tools: [patch] });
    expect(whole.output).toMatchObject([{ type: "custom_tool_call", input: '*** Begin\n"x"' }]);
    expect(output[0]).toMatchObject({ type: "custom_tool_call", name: "apply_patch", input: '*** Begin\n"x"' });
    expect(typed).toBe('*** Begin\n"x"');

    answerWith(text("Done."), finish());
    input.push(...(output as ResponseInputItem[]));
    input.push({ type: "custom_tool_call_output", call_id: "call_a", output: "ok" });
    expect((await client.responses.create({ model, input, tools: [patch] })).output_text).toBe("Done.");
    expect(asked[0]?.messages.map(({ role }) => role)).toEqual(["user", "assistant", "tool"]);
  });

  test("parses an answer that is held to a schema, streamed and whole", async () => {
    answerWith(text('{"city":'), text('"Bern"}'), finish());
    const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const format = { type: "json_schema" as const, name: "place", strict: true, schema };
    const request = { model, input: "where?", text: { format } };
    expect((await client.responses.parse(request)).output_parsed).toEqual({ city: "Bern" });
    expect((await client.responses.stream(request).finalResponse()).output_parsed).toEqual({ city: "Bern" });
    expect(asked[0]?.responseFormat).toEqual({ type: "json-schema", name: "place", schema, strict: true });
  });

  test("sees a summary of the thinking, and brings the thought back in encrypted_content", async () => {
    answerWith(reasoning("Let me "), reasoning("see."), text("Yes."), finish());
    const request = { model, store: false, reasoning: { summary: "auto" as const } };
    const include = ["reasoning.encrypted_content" as const];
    const stream = client.responses.stream({ ...request, include, input: "ok?" });
    let summary = "";
    for await (const event of stream)
      if (event.type === "response.reasoning_summary_text.delta") summary += event.delta;
    expect(summary).toBe("Let me see.");
    const { output } = await stream.finalResponse();
    expect(output[0]).toMatchObject({ type: "reasoning", summary: [{ text: "Let me see." }] });
    answerWith(text("Fine."), finish());
    await client.responses.create({
      ...request,
      input: [...(output as ResponseInputItem[]), { role: "user", content: "so?" }],
    });
    expect(asked[0]?.messages[0]).toMatchObject({ role: "assistant", reasoning: "Let me see." });
  });

  test("passes over the note on tools that were left out, and can read it", async () => {
    answerWith(text("Hi"), finish());
    const request = { model, input: "hi", tools: [search] };
    const streamed = await client.responses.stream(request).finalResponse();
    const whole = await client.responses.create(request);
    for (const response of [streamed, whole]) {
      expect(response.output_text).toBe("Hi");
      expect(response).toMatchObject({ lair: { notes: [expect.stringContaining("web_search")] } });
    }
  });

  test("is told that an answer was cut", async () => {
    answerWith(text("Hel"), finish("length"));
    const response = await client.responses.stream({ model, input: "hi", max_output_tokens: 16 }).finalResponse();
    expect(response).toMatchObject({ status: "incomplete", incomplete_details: { reason: "max_output_tokens" } });
  });

  test("compacts a conversation and goes on with the window", async () => {
    answerWith(text("They greeted."), finish());
    const compacted = await client.responses.compact({ model, input: [{ role: "user", content: "hello" }] });
    expect(compacted.object).toBe("response.compaction");
    answerWith(text("Hi again."), finish());
    const input = [...(compacted.output as ResponseInputItem[]), { role: "user" as const, content: "again" }];
    expect((await client.responses.create({ model, input })).output_text).toBe("Hi again.");
    expect(JSON.stringify(asked[0]?.messages)).toContain("They greeted.");
  });
});
