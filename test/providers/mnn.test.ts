import { expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import type { Provider } from "../../src/core/provider.ts";
import { type FakeMnn, type FakeMnnOptions, startFakeMnn } from "../support/fake-mnn.ts";
import { gate } from "../support/fake-server.ts";
import { closedAfterEach, framesOf, jsonOf, post, providerOf, readChat } from "./calls.ts";
import { upstreamContract } from "./contract.ts";

upstreamContract("mnn", {
  model: "default",
  chatPath: "/v1/chat/completions",
  startServer: (reply) => startFakeMnn(reply === undefined ? {} : { reply }),
  provider: (urls) => providerOf("mnn", urls),
  servesAnyModel: true,
  cannotAbort: true,
  silentLimit: true,
  callSteps: (name, args) => [
    { text: "<tool" },
    { text: `_call>\n${JSON.stringify({ name, arguments: args })}\n</tool_` },
    { text: "call>" },
    { finish: "stop" },
  ],
});

const open = closedAfterEach();

async function over(options: FakeMnnOptions = {}): Promise<{
  server: FakeMnn;
  provider: Provider;
  chat: (body?: JsonObject, signal?: AbortSignal) => ReturnType<typeof post>;
}> {
  const server = await startFakeMnn(options);
  const provider = providerOf("mnn", [server.url], { aliases: { qwen: "default" } });
  open.push(
    () => provider.close(),
    () => server.close(),
  );
  return {
    server,
    provider,
    chat: (body = {}, signal) =>
      post(
        provider,
        "/v1/chat/completions",
        { model: "default", messages: [{ role: "user", content: "Hi" }], ...body },
        signal,
      ),
  };
}

test("its list is a constant: its model is called default, and by an alias", async () => {
  const { provider } = await over();
  expect((await provider.models()).map((model) => model.id)).toEqual(["qwen", "default"]);
  expect(
    (await post(provider, "/v1/chat/completions", { model: "qwen", messages: [{ role: "user", content: "Hi" }] }))
      .status,
  ).toBe(200);
});

test("content goes as one string, and always as a stream", async () => {
  const { server, chat } = await over();
  await jsonOf(
    await chat({
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "a" },
            { type: "text", text: "b" },
          ],
        },
      ],
    }),
  );
  expect((await server.next("/v1/chat/completions")).body).toMatchObject({
    stream: true,
    messages: [{ role: "user", content: "a\nb" }],
  });
});

test("a server without /v1 is found at its path", async () => {
  const { server, chat } = await over({ mls: true });
  expect((await jsonOf(await chat())).choices).toMatchObject([{ message: { content: "Hello" } }]);
  await jsonOf(await chat());
  expect(server.to("/v1/chat/completions")).toHaveLength(1);
  expect(server.to("/chat/completions")).toHaveLength(2);
});

test("thinking in the text is told apart, wherever the packets cut its tags", async () => {
  const { chat } = await over({
    reply: [
      { text: "<thi" },
      { text: "nk>\nIt is " },
      { text: "so.</th" },
      { text: "ink>\n\nYes, a<b." },
      { finish: "stop" },
    ],
  });
  const said = await readChat(await chat({ stream: true }));
  expect([said.reasoning, said.text]).toEqual(["It is so.", "Yes, a<b."]);
});

test("stop strings and max_tokens are kept, and the answer is over at once for the client", async () => {
  const { opened, open: letOn } = gate();
  const { chat, server } = await over({
    reply: [
      { text: "one" },
      { text: " two" },
      { text: " three" },
      { wait: opened },
      { text: " four" },
      { finish: "stop" },
    ],
  });
  const stopped = await readChat(await chat({ stream: true, stop: [" two"] }));
  expect([stopped.text, stopped.finish]).toEqual(["one", "stop"]);
  letOn();
  const limited = await readChat(await chat({ stream: true, max_tokens: 2 }));
  expect([limited.text, limited.finish, limited.usage?.completion_tokens]).toEqual(["one two", "length", 2]);
  expect(server.busiest()).toBe(1);
});

test("one call at a time: the next one waits until the server is done, also with an answer that nobody reads", async () => {
  const { opened, open: letOn } = gate();
  const { server, provider, chat } = await over({
    reply: (_, turn) =>
      turn === 0
        ? [{ text: "first" }, { wait: opened }, { text: " more" }, { finish: "stop" }]
        : [{ text: "second" }, { finish: "stop" }],
  });
  const client = new AbortController();
  const frames = framesOf(await chat({ stream: true }, client.signal));
  await frames.next();
  client.abort();
  await frames.return(undefined);
  const waiting = chat();
  // Two round trips: a request that does not wait has arrived by then.
  await provider.health();
  await provider.health();
  expect(server.to("/v1/chat/completions")).toHaveLength(1);
  letOn();
  expect((await jsonOf(await waiting)).choices).toMatchObject([{ message: { content: "second" } }]);
  expect([server.busiest(), server.finished()]).toEqual([1, 2]);
});

test("a client who leaves the queue gives up its place", async () => {
  const { opened, open: letOn } = gate();
  const { server, chat } = await over({ reply: [{ wait: opened }, { text: "x" }, { finish: "stop" }] });
  const first = chat();
  await server.next("/v1/chat/completions");
  const client = new AbortController();
  const second = chat({}, client.signal);
  const third = chat();
  client.abort();
  await expect(second).rejects.toMatchObject({ code: "client_closed_request" });
  letOn();
  await Promise.all([first, third]);
  expect(server.to("/v1/chat/completions")).toHaveLength(2);
});

test("a call that is none stays text", async () => {
  const { chat } = await over({ reply: [{ text: '<tool_call>{"name": 5}</tool_call>' }, { finish: "stop" }] });
  const said = await readChat(
    await chat({ stream: true, tools: [{ type: "function", function: { name: "f", parameters: {} } }] }),
  );
  expect([said.calls, said.text, said.finish]).toEqual([[], '<tool_call>{"name": 5}</tool_call>', "stop"]);
});

test("several calls in one answer, the last without its closing tag", async () => {
  const { chat } = await over({
    reply: [
      {
        text: 'Sure.<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>\n<tool_call>\n{"name": "f", "arguments": {}}',
      },
      { finish: "stop" },
    ],
  });
  const said = await readChat(
    await chat({ stream: true, tools: [{ type: "function", function: { name: "f", parameters: {} } }] }),
  );
  expect(said.text).toBe("Sure.");
  expect(said.calls).toMatchObject([
    { name: "f", arguments: '{"a": 1}' },
    { name: "f", arguments: "{}" },
  ]);
  expect(said.finish).toBe("tool_calls");
});

test.each<[string, JsonObject, string]>([
  [
    "images",
    {
      messages: [
        { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } }] },
      ],
    },
    "unsupported_capability",
  ],
  ["formats", { response_format: { type: "json_object" } }, "unsupported_parameter"],
  ["log probabilities", { logprobs: true }, "unsupported_parameter"],
])("%s are refused rather than lost", async (_, body, code) => {
  const { chat, server } = await over();
  await expect(chat(body)).rejects.toMatchObject({ status: 400, code });
  expect(server.requests).toEqual([]);
});
