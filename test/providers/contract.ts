import { describe, expect, test, vi } from "vitest";
import type { Json, JsonObject } from "../../src/core/json.ts";
import type { Provider } from "../../src/core/provider.ts";
import { type FakeServer, gate, type Script } from "../support/fake-server.ts";
import { expectValid } from "../support/openai-spec.ts";
import { chunksOf, closedAfterEach, framesOf, jsonOf, post, readChat, requestedName } from "./calls.ts";

/** A provider whose model answers "Hello" to everything. */
export interface ProviderSetup {
  readonly model: string;
  /** Called for each test; the suite closes what it gives. */
  start(): Promise<{ provider: Provider; close?: () => Promise<unknown> }>;
  /** Whatever model is named is served (MNN, llama-server). */
  readonly servesAnyModel?: boolean;
  /** A prompt that is too long for the model; absent where the server does not tell. */
  readonly tooLong?: string;
}

/** What the suite needs to know of a kind of upstream and its fake. */
export interface UpstreamSetup extends Omit<ProviderSetup, "start"> {
  /** Path of chats at the server. */
  readonly chatPath: string;
  startServer(reply?: Script): Promise<FakeServer>;
  provider(urls: string[]): Provider;
  /** The server cannot be told to stop: it stays busy until it is done (MNN). */
  readonly cannotAbort?: boolean;
  /** At its length limit the server ends the stream and says nothing (MNN). */
  readonly silentLimit?: boolean;
  /** What makes the model write a tool call, in the server's own way. */
  readonly callSteps: (name: string, args: JsonObject) => Script;
}

const tools = ["weather", "time"].map((name) => ({
  type: "function",
  function: {
    name,
    description: `tells the ${name}`,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}));

/** What every kind of provider keeps, embedded or not. */
export function providerContract(name: string, setup: ProviderSetup): void {
  describe(`${name} keeps the contract of providers:`, () => {
    const open = closedAfterEach();

    const begin = async (): Promise<{ provider: Provider; ask: (body?: JsonObject) => ReturnType<typeof post> }> => {
      const { provider, close } = await setup.start();
      open.push(() => provider.close());
      if (close !== undefined) open.push(close);
      const base = { model: setup.model, messages: [{ role: "user", content: "Hi" }] };
      return { provider, ask: (body = {}) => post(provider, "/v1/chat/completions", { ...base, ...body }) };
    };

    test("a chat is answered as OpenAI's JSON, under the name that the client used", async () => {
      const { provider, ask } = await begin();
      const reply = await ask();
      const json = (await jsonOf(reply)) as JsonObject & {
        choices: { message: JsonObject; finish_reason: string }[];
        usage: JsonObject;
      };
      expect(reply.status).toBe(200);
      expectValid("CreateChatCompletionResponse", json);
      expect(json.model).toBe(requestedName(provider, setup.model));
      expect(json.choices[0]?.message.content).toBe("Hello");
      expect(json.choices[0]?.finish_reason).toBe("stop");
      expect(json.usage.prompt_tokens).toBeGreaterThan(0);
      expect(json.usage.completion_tokens).toBeGreaterThan(0);
    });

    test("a chat is streamed as OpenAI's chunks, with a finish reason, usage and [DONE]", async () => {
      const { provider, ask } = await begin();
      const said = await readChat(await ask({ stream: true }));
      for (const chunk of said.chunks) expectValid("CreateChatCompletionStreamResponse", chunk);
      expect([said.text, said.finish, said.error, said.done]).toEqual(["Hello", "stop", undefined, true]);
      expect(said.usage?.prompt_tokens).toBeGreaterThan(0);
      expect([...said.models]).toEqual([requestedName(provider, setup.model)]);
    });

    test("unknown fields of a request do no harm", async () => {
      const { ask } = await begin();
      const reply = await ask({
        store: false,
        metadata: { a: "b" },
        prompt_cache_key: "x",
        verbosity: "low",
        service_tier: "auto",
      });
      expect(reply.status).toBe(200);
    });

    test.each<[string, JsonObject]>([
      ["without messages", { messages: undefined }],
      [
        "with an image that is none",
        {
          messages: [
            { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,!!!" } }] },
          ],
        },
      ],
    ])("a request %s is the client's fault", async (_, body) => {
      const { ask } = await begin();
      expect(await refusal(ask(body))).toMatchObject({ status: 400 });
    });

    test.each<[string, Json | undefined, string, string]>([
      ["no messages", undefined, "missing_required_parameter", "messages"],
      ["messages that are a text", "hi", "invalid_type", "messages"],
      ["a message that is a text", ["hi"], "invalid_type", "messages[0]"],
      ["a message without a role", [{ content: "hi" }], "missing_required_parameter", "messages[0].role"],
    ])("%s: the answer names the field", async (_, messages, code, param) => {
      const { ask } = await begin();
      for (const stream of [false, true]) {
        expect(await refusal(ask({ messages, stream }))).toMatchObject({ status: 400, code, param });
      }
    });

    test("the server's models are listed", async () => {
      const { provider } = await begin();
      expect((await provider.models()).map((model) => model.id)).toContain(setup.model);
      expect(await provider.health()).toMatchObject({ ok: true });
    });

    test.runIf(setup.servesAnyModel !== true)("a model that the server does not have is not found", async () => {
      const { ask } = await begin();
      expect(await refusal(ask({ model: "no/such:model" }))).toMatchObject({
        status: 404,
        code: "model_not_found",
        provider: name,
      });
    });

    test.runIf(setup.tooLong !== undefined)(
      "a prompt that is too long is refused before the stream, in the words that clients know",
      async () => {
        const { ask } = await begin();
        const error = (await refusal(
          ask({ stream: true, messages: [{ role: "user", content: setup.tooLong ?? "" }] }),
        )) as Error;
        expect(error).toMatchObject({ status: 400, code: "context_length_exceeded", param: "messages" });
        expect(error.message).toMatch(
          /^This model's maximum context length is \d+ tokens\. However, your messages resulted in \d+ tokens\.$/,
        );
      },
    );
  });
}

/** The failure of a call that must fail. */
async function refusal(reply: Promise<unknown>): Promise<unknown> {
  return reply.then(
    () => "no failure",
    (error: unknown) => error,
  );
}

/** What every kind of upstream keeps besides, whatever its server does. */
export function upstreamContract(name: string, setup: UpstreamSetup): void {
  providerContract(name, {
    ...setup,
    start: async () => {
      const server = await setup.startServer();
      return { provider: setup.provider([server.url]), close: () => server.close() };
    },
  });
  describe(`${name} keeps the contract of upstreams:`, () => {
    const open = closedAfterEach();

    const over = async (
      reply?: Script,
    ): Promise<{
      provider: Provider;
      server: FakeServer;
      ask: (body?: JsonObject, signal?: AbortSignal) => ReturnType<typeof post>;
    }> => {
      const server = await setup.startServer(reply);
      const provider = setup.provider([server.url]);
      open.push(
        () => provider.close(),
        () => server.close(),
      );
      const ask = (body: JsonObject = {}, signal?: AbortSignal): ReturnType<typeof post> =>
        post(
          provider,
          "/v1/chat/completions",
          { model: setup.model, messages: [{ role: "user", content: "Hi" }], ...body },
          signal,
        );
      return { provider, server, ask };
    };

    test("a stream comes as it is generated", async () => {
      const { opened, open: letOn } = gate();
      const { ask } = await over([{ text: "first" }, { wait: opened }, { text: " second" }, { finish: "stop" }]);
      const reply = await ask({ stream: true });
      let text = "";
      for await (const frame of framesOf(reply)) {
        text += (frame as { choices?: { delta?: { content?: string } }[] }).choices?.[0]?.delta?.content ?? "";
        if (text === "first") letOn();
      }
      expect(text).toBe("first second");
    });

    test("characters that the server's packets cut in two arrive whole", async () => {
      const { ask } = await over([{ text: "naïve 你好 " }, { text: "🙂🙃" }, { finish: "stop" }]);
      expect((await readChat(await ask({ stream: true }))).text).toBe("naïve 你好 🙂🙃");
    });

    test("reasoning is told apart, under both of its names", async () => {
      const { ask } = await over([{ reasoning: "hmm" }, { text: "Hi" }, { finish: "stop" }]);
      const said = await readChat(await ask({ stream: true }));
      expect([said.reasoning, said.text]).toEqual(["hmm", "Hi"]);
      const delta = said.chunks
        .flatMap((chunk) => (chunk.choices as { delta: JsonObject }[]).map((choice) => choice.delta))
        .find((one) => one.reasoning_content !== undefined);
      expect(delta).toMatchObject({ reasoning_content: "hmm", reasoning: "hmm" });
    });

    test("a prompt that is read for six minutes is waited for, and the client's stream kept alive", async () => {
      const { opened, open: letOn } = gate();
      const { server, ask } = await over([{ wait: opened }, { text: "at last" }, { finish: "stop" }]);
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
      try {
        const asked = ask({ stream: true });
        await server.next(setup.chatPath);
        await vi.advanceTimersByTimeAsync(20_000);
        const frames = chunksOf(await asked);
        const first = await frames.next();
        await vi.advanceTimersByTimeAsync(360_000);
        letOn();
        let rest = String(first.value);
        for await (const chunk of frames) rest += chunk;
        expect(rest.match(/^: ping$/gm)?.length).toBeGreaterThan(10);
        expect(rest).toContain("at last");
        expect(rest).toContain('"finish_reason":"stop"');
      } finally {
        vi.useRealTimers();
      }
    });

    test("a failure before the first token is a status, also of a stream", async () => {
      const { ask } = await over([{ status: 500, body: { error: "CUDA error: device lost" } }]);
      expect(await refusal(ask({ stream: true }))).toMatchObject({
        status: 502,
        code: "upstream_error",
        provider: name,
      });
    });

    test("a busy server is a 503 with Retry-After", async () => {
      const { ask } = await over([
        {
          status: 503,
          body: { error: "server busy, please try again.  maximum pending requests exceeded" },
          headers: { "retry-after": "4" },
        },
      ]);
      expect(await refusal(ask())).toMatchObject({ status: 503, retryAfter: 4 });
    });

    test("a refused key is our fault, not the client's", async () => {
      const { ask } = await over([{ status: 401, body: { error: "Unauthorized" } }]);
      expect(await refusal(ask())).toMatchObject({ status: 502, code: "upstream_auth_failed" });
    });

    test("a failure after the first token is an error frame, and no finish", async () => {
      const { ask } = await over([{ text: "a" }, { text: "b" }, { text: "c" }, { error: "CUDA out of luck" }]);
      const said = await readChat(await ask({ stream: true }));
      expect(said.text).toBe("abc");
      expect(said.finish).toBeUndefined();
      expect(said.error).toMatchObject({
        type: "server_error",
        param: null,
        message: expect.stringContaining("CUDA out of luck") as string,
      });
      expect(typeof said.error?.code).toBe("string");
    });

    test("a connection that breaks in mid-stream never looks like an end", async () => {
      const { ask } = await over([{ text: "a" }, { text: "b" }, { die: true }]);
      const said = await readChat(await ask({ stream: true }));
      expect([said.text, said.finish]).toEqual(["ab", undefined]);
      expect(said.error).toMatchObject({ code: "upstream_error", type: "server_error" });
    });

    test("a stream that ends without saying why is no complete answer", async () => {
      const { ask } = await over([{ text: "a" }, { text: "b" }]);
      const said = await readChat(await ask({ stream: true }));
      expect(said.text).toBe("ab");
      if (setup.silentLimit === true) expect([said.finish, said.error]).toEqual(["length", undefined]);
      else expect([said.finish, said.error?.code]).toEqual([undefined, "upstream_error"]);
    });

    test("a connection that breaks in mid-answer is a 502 for who wants JSON", async () => {
      const { ask } = await over([{ text: "a" }, { die: true }]);
      expect(await refusal(ask())).toMatchObject({ status: 502 });
    });

    test("a client who leaves in mid-stream stops the work", async () => {
      const { opened, open: letOn } = gate();
      const { server, ask } = await over([{ text: "first" }, { wait: opened }, { text: "never" }, { finish: "stop" }]);
      const client = new AbortController();
      const reply = await ask({ stream: true }, client.signal);
      const asked = await server.next(setup.chatPath);
      const frames = framesOf(reply);
      await frames.next();
      client.abort();
      await frames.return(undefined);
      if (setup.cannotAbort !== true) await asked.left;
      letOn();
    });

    test("a client who leaves before the first byte stops the work", async () => {
      const { opened, open: letOn } = gate();
      const { server, ask } = await over([{ wait: opened }, { text: "never" }, { finish: "stop" }]);
      const client = new AbortController();
      const failed = refusal(ask({}, client.signal));
      const asked = await server.next(setup.chatPath);
      client.abort();
      expect(await failed).toMatchObject({ code: "client_closed_request" });
      if (setup.cannotAbort !== true) await asked.left;
      letOn();
    });

    test("of two hosts, the dead one is skipped", async () => {
      const { server } = await over();
      const dead = await setup.startServer();
      await dead.close();
      const provider = setup.provider([dead.url, server.url]);
      open.push(() => provider.close());
      for (let turn = 0; turn < 3; turn++) {
        const reply = await post(provider, "/v1/chat/completions", {
          model: setup.model,
          messages: [{ role: "user", content: "Hi" }],
        });
        expect(reply.status).toBe(200);
        await jsonOf(reply);
      }
    });

    test("a server that is not there is a clear 502, and its health says so", async () => {
      const dead = await setup.startServer();
      await dead.close();
      const provider = setup.provider([dead.url]);
      open.push(() => provider.close());
      const asked = post(provider, "/v1/chat/completions", {
        model: setup.model,
        messages: [{ role: "user", content: "Hi" }],
      });
      const error = (await refusal(asked)) as Error;
      expect(error).toMatchObject({ status: 502, code: "upstream_unreachable", provider: name });
      expect(error.message).toContain(dead.url);
      expect(await provider.health()).toMatchObject({ ok: false });
    });

    describe("tools", () => {
      test("a call arrives with an id, a name and arguments, and the finish reason tool_calls", async () => {
        const { ask } = await over(setup.callSteps("weather", { city: "Kyiv" }));
        const said = await readChat(await ask({ stream: true, tools }));
        expect(said.calls).toMatchObject([{ name: "weather", arguments: expect.stringContaining("Kyiv") }]);
        expect(said.calls[0]?.id).not.toBe("");
        expect(said.finish).toBe("tool_calls");
      });

      test("a conversation with calls and results goes on", async () => {
        const { ask } = await over();
        const messages = [
          { role: "developer", content: [{ type: "text", text: "Be brief." }] },
          { role: "user", content: [{ type: "text", text: "Weather?" }] },
          {
            role: "assistant",
            content: null,
            reasoning_content: "hm",
            tool_calls: [
              { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Kyiv"}' } },
            ],
          },
          { role: "tool", tool_call_id: "call_1", content: "sunny" },
        ];
        const reply = await ask({ messages, tools });
        expect(((await jsonOf(reply)).choices as { message: JsonObject }[])[0]?.message.content).toBe("Hello");
      });

      test("tool_choice none: the server is shown no tools", async () => {
        const { server, ask } = await over();
        await jsonOf(await ask({ tools, tool_choice: "none" }));
        const { body } = await server.next(setup.chatPath);
        expect(JSON.stringify(body)).not.toContain("tells the weather");
      });

      test("tool_choice required and named are kept, whatever the server makes of them", async () => {
        const obstinate: Script = (body) => {
          // Obeys a schema or an instruction to write JSON, but no tool_choice.
          if (JSON.stringify(body.messages).includes("call one of these functions"))
            return [{ text: '{"name": "time", "argu' }, { text: 'ments": {"city": "Rome"}}' }, { finish: "stop" }];
          return body.tool_choice === "required" && name === "vllm"
            ? [{ call: { name: "time", arguments: { city: "Rome" } } }, { finish: "tool_calls" }]
            : [{ text: "I would rather talk." }, { finish: "stop" }];
        };
        const { ask } = await over(obstinate);
        for (const choice of name === "vllm"
          ? ["required"]
          : ["required", { type: "function", function: { name: "time" } }]) {
          const said = await readChat(await ask({ stream: true, tools, tool_choice: choice }));
          expect(said.calls).toMatchObject([{ name: "time", arguments: JSON.stringify({ city: "Rome" }) }]);
          expect([said.text, said.finish]).toEqual(["", "tool_calls"]);
        }
      });
    });
  });
}
