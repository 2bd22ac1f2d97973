import { describe, expect, test } from "vitest";
import { collect, type ByteSink, type ByteStream } from "../../src/core/bytes.ts";
import { Call } from "../../src/core/call.ts";
import type { ChatEvent } from "../../src/core/chat.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { CheckedStream } from "../../src/providers/checked-stream.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { gate, type Script, startFakeServer, type Step } from "../support/fake-server.ts";
import { chunksOf, closedAfterEach, jsonOf, post, providerOf, readChat } from "./calls.ts";

const model = "gemma-3-4b";
const tool = (name: string, ...required: string[]) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: { path: { type: "string" } }, required } },
});
const tools = [tool("read", "path"), tool("write")];
const open = closedAfterEach();

async function over(reply: Script) {
  const server = await startFakeOpenAi({ reply });
  const provider = providerOf("openai", [server.url]);
  open.push(
    () => provider.close(),
    () => server.close(),
  );
  const ask = (body: JsonObject = {}, signal?: AbortSignal) =>
    post(
      provider,
      "/v1/chat/completions",
      { model, messages: [{ role: "user", content: "Hi" }], tools, stream: true, ...body },
      signal,
    );
  return { server, ask };
}

/** One chunk of a stream, as a server of no care writes it. */
function chunk(delta: JsonObject, finish: string | null = null): Step {
  const choices = [{ index: 0, delta, finish_reason: finish }];
  return {
    raw: `data: ${JSON.stringify({ id: "x-1", object: "chat.completion.chunk", created: 5, model, choices })}\n\n`,
  };
}

const piece = (written: string, name?: string): Step =>
  chunk({ tool_calls: [{ function: { arguments: written, ...(name === undefined ? {} : { name }) } }] });
const done: Step[] = [chunk({}, "tool_calls"), { raw: "data: [DONE]\n\n" }, { end: true }];
/** What the model of opencode's recorded run wrote. */
const brokenRead = [piece('{"filePath": "/x.', "read")];

describe("the bytes of a stream", () => {
  test("without calls are those of one that nobody looks at", async () => {
    const words = [
      { reasoning: "Hm \u{1f600}" },
      { text: 'the word "tool_calls": [1]' },
      { text: "é" },
      { finish: "stop" },
    ];
    const { ask } = await over(words);
    const [watched, plain] = [await textOf(ask()), await textOf(ask({ tools: undefined }))];
    expect(watched).toBe(plain);
    expect(watched).toContain('\\"tool_calls\\": [1]');
  });

  test("pass untouched until a call begins, and the reply stays one reply", async () => {
    const odd =
      'data: {"choices":[{"delta":{"content":"I look.","odd":1},"index":0}],"id":"x-1","model":"m","created":5}\n\n';
    const { ask } = await over([{ raw: odd }, piece('{"path":"a"}', "read"), ...done]);
    const said = await textOf(ask());
    expect(said).toContain('{"content":"I look.","odd":1}');
    const chunks = said.split("\n\n").filter((event) => event.startsWith("data: {"));
    for (const event of chunks)
      expect(JSON.parse(event.slice(6))).toMatchObject({ id: "x-1", model: `openai:${model}`, created: 5 });
  });

  test("with a call get what clients break without: an id, an index and a type, usage, a reason and an end", async () => {
    const { ask } = await over([piece('{"pa', "read"), piece('th":"a"}'), ...done]);
    const reply = await readChat(await ask());
    const first = reply.chunks.flatMap(
      ({ choices }) => JSON.stringify(choices).match(/"tool_calls":\[.*?\}\}\]/) ?? [],
    );
    expect(first).toHaveLength(1);
    expect(first[0]).toMatch(/"index":0,"id":"call_[^"]+","type":"function"/);
    expect([reply.calls[0]?.arguments, reply.finish, reply.done]).toEqual(['{"path":"a"}', "tool_calls", true]);
    expect(reply.usage?.completion_tokens).toBeGreaterThan(0);
  });

  test("a list of calls that is null or empty in every chunk is none", async () => {
    const { ask } = await over([
      chunk({ content: "a", tool_calls: null }),
      chunk({ content: "b", tool_calls: [] }),
      ...done,
    ]);
    const said = await textOf(ask());
    expect(said).toContain('"tool_calls":null');
    expect(said).toContain('"tool_calls":[]');
  });
});

test("any cut of the bytes gives the same calls", async () => {
  const event = (delta: JsonObject, finish: string | null = null): string =>
    `data: ${JSON.stringify({ id: "c", created: 5, model: "m", choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
  const call = (written: string, more: JsonObject = {}): JsonObject => ({
    tool_calls: [{ index: 0, ...more, function: { arguments: written, ...more } }],
  });
  const bytes = Buffer.from(
    `${event({ content: "Né." })}${event(call('{"path":"', { id: "k", name: "read" }))}${event(call('a😀"}'))}${event({}, "tool_calls")}data: [DONE]\n\n`,
  );
  // The stream before it writes whole events in each piece; which ones come together is chance.
  const ends = [...bytes.toString("latin1").matchAll(/\n\n/g)].map(({ index }) => index + 2);
  const seen = new Set<string>();
  for (let mask = 0; mask < 2 ** (ends.length - 1); mask++) {
    const cuts = ends.filter((_, at) => at === ends.length - 1 || (mask >> at) % 2 === 1);
    const pieces = cuts.map((end, at) => bytes.subarray(cuts[at - 1] ?? 0, end));
    const stream = new CheckedStream(streamOf(pieces), checks());
    const said = (await collect(stream, 1e6, () => new Error("too large"))).toString();
    seen.add(
      JSON.stringify(
        [...said.matchAll(/"(?:content|arguments)":"((?:[^"\\]|\\.)*)"/g)]
          .map(([, found]) => found)
          .filter((found) => found !== ""),
      ),
    );
  }
  expect([...seen]).toEqual([JSON.stringify(["Né.", '{\\"path\\":\\"a😀\\"}'])]);
});

test("a server is not cut off behind its last word: the connection can serve again", async () => {
  const { opened, open: letOn } = gate();
  const ends: Promise<string>[] = [];
  const server = await startFakeServer(async (_request, reply) => {
    ends.push(
      new Promise((resolve) => reply.on("finish", () => resolve("finished")).on("close", () => resolve("cut"))),
    );
    reply.writeHead(200, { "content-type": "text/event-stream" });
    for (const step of [piece('{"path":"a"}', "read"), ...done]) if ("raw" in step) reply.write(step.raw);
    if (ends.length === 1) await opened;
    reply.end();
  });
  const provider = providerOf("openai", [server.url]);
  open.push(
    () => provider.close(),
    () => server.close(),
  );
  const body = { model, messages: [{ role: "user", content: "Hi" }], tools, stream: true };
  // By the time that the second is answered, the first one's cut would have arrived.
  for (const _ of [1, 2]) await readChat(await post(provider, "/v1/chat/completions", body));
  letOn();
  expect(await ends[0]).toBe("finished");
});

describe("when the call is broken", () => {
  test("the model is asked again, in the same stream, which is kept alive meanwhile", async () => {
    const { opened, open: letOn } = gate();
    const { ask, server } = await over((_body, turn) =>
      turn === 0
        ? [...brokenRead, ...done]
        : [{ wait: opened }, { call: { name: "read", arguments: { path: "a" } } }, { finish: "tool_calls" }],
    );
    const reading = readChat(await ask());
    const { body } = await server.next("/v1/chat/completions").then(() => server.next("/v1/chat/completions"));
    expect(JSON.stringify(body.messages)).toContain("not valid JSON");
    expect(JSON.stringify(body.messages)).toContain("_invalid");
    expect(body.tools).toHaveLength(2);
    letOn();
    const said = await reading;
    expect([said.calls, said.finish, said.done, said.error]).toEqual([
      [{ id: expect.any(String), name: "read", arguments: '{"path":"a"}' }],
      "tool_calls",
      true,
      undefined,
    ]);
  });

  test("and the server cannot answer again, it goes on as it is", async () => {
    const { ask } = await over((_body, turn) =>
      turn === 0 ? [...brokenRead, ...done] : [{ status: 503, body: { error: { message: "busy" } } }],
    );
    const said = await readChat(await ask());
    expect([said.calls[0]?.arguments, said.finish, said.error]).toEqual(['{"filePath": "/x.', "tool_calls", undefined]);
  });

  test("and the client leaves meanwhile, the server is told", async () => {
    const { opened, open: letOn } = gate();
    const { ask, server } = await over((_body, turn) => (turn === 0 ? [...brokenRead, ...done] : [{ wait: opened }]));
    const leaving = new AbortController();
    const reading = readChat(await ask({}, leaving.signal)).catch(() => undefined);
    await server.next("/v1/chat/completions");
    const second = await server.next("/v1/chat/completions");
    leaving.abort();
    await second.left;
    letOn();
    await reading;
  });

  test("by the upstream's end in the middle of it, there is an error and no call", async () => {
    const { ask } = await over([piece('{"path":"a', "read"), { die: true }]);
    const said = await readChat(await ask());
    expect([said.calls, said.finish, said.error?.code]).toEqual([[], undefined, "upstream_error"]);
  });

  test("in a whole reply, all else in the reply stays as the server wrote it", async () => {
    const { ask } = await over([
      { call: { name: "read", arguments: {}, written: '{"path":"a",}' } },
      { finish: "tool_calls" },
    ]);
    const json = await jsonOf(await ask({ stream: false }));
    expect(json).toMatchObject({ id: "chatcmpl-1", created: 1, model: `openai:${model}`, usage: { prompt_tokens: 7 } });
    expect(JSON.stringify(json)).toContain('"arguments":"{\\"path\\":\\"a\\"}"');
  });
});

test("a request that we cannot read is the server's to read: its calls pass as they are", async () => {
  const { ask } = await over([...brokenRead, ...done]);
  const custom = { type: "custom", custom: { name: "free" } };
  expect(await textOf(ask({ tools: [...tools, custom] }))).toContain('"arguments":"{\\"filePath\\": \\"/x."');
});

test("a sound history reaches the server as the client wrote it, with fields that we do not know", async () => {
  const { ask, server } = await over([{ text: "ok" }, { finish: "stop" }]);
  const call = {
    id: "a",
    type: "function",
    function: { name: "read", arguments: '{"path":"x"}' },
    extra_content: { thought: "s" },
  };
  const messages = [
    { role: "user", content: "Hi", cache_control: { type: "ephemeral" } },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "a", content: "x", is_error: false },
  ];
  await readChat(await ask({ messages }));
  expect((await server.next("/v1/chat/completions")).body.messages).toEqual(messages);
  await readChat(await ask({ messages: messages.slice(0, 2) }));
  const mended = (await server.next("/v1/chat/completions")).body.messages as JsonObject[];
  expect(mended.slice(0, 2)).toEqual(messages.slice(0, 2));
  expect(mended[2]).toMatchObject({ role: "tool", tool_call_id: "a" });
});

test("a template that takes one system message, at the head, is given one", async () => {
  const refusal = {
    status: 400,
    body: { error: { code: 400, message: "System message must be at the beginning.", type: "invalid_request_error" } },
  };
  const { ask, server } = await over((_body, turn) => (turn === 0 ? [refusal] : [{ text: "ok" }, { finish: "stop" }]));
  const messages = [
    { role: "system", content: "one" },
    { role: "developer", content: "two" },
    { role: "user", content: "Hi" },
    { role: "system", content: "three" },
  ];
  expect((await readChat(await ask({ messages }))).text).toBe("ok");
  await server.next("/v1/chat/completions");
  expect((await server.next("/v1/chat/completions")).body.messages).toEqual([
    { role: "system", content: "one\n\ntwo" },
    { role: "user", content: "Hi" },
    { role: "user", content: "three" },
  ]);
});

async function textOf(reply: ReturnType<typeof post>): Promise<string> {
  let text = "";
  for await (const said of chunksOf(await reply)) text += said;
  return text;
}

function streamOf(pieces: readonly Uint8Array[]): ByteStream {
  const start = (sink: ByteSink): void => {
    for (const bytes of pieces) sink.write(bytes);
    sink.end();
  };
  return { start, resume: () => undefined, cancel: () => undefined };
}

function checks(): ConstructorParameters<typeof CheckedStream>[1] {
  const body = { model: "m", messages: [{ role: "user", content: "Hi" }], tools, stream: true };
  const call = new Call({
    id: "t",
    method: "POST",
    path: "/v1/chat/completions",
    signal: new AbortController().signal,
  });
  const never = (): AsyncIterable<ChatEvent> => {
    throw new Error("nothing was wrong");
  };
  return { name: "openai", call, body, askAgain: never, heartbeat: 0 };
}
