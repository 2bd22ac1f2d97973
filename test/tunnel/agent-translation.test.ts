import { afterEach, describe, expect, it } from "vitest";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer } from "../support/fake-server.ts";
import { type Answer, ask } from "../support/tunnel-caller.ts";
import { asCaller, type Chain, startChain } from "../support/tunnel-chain.ts";
import { SteeredRuntime } from "../support/tunnel-runtime.ts";

// An agent may stand before any server that speaks OpenAI's chat: the other formats are made of it at the agent.

const closing: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function chainBefore(url: string, env: Record<string, string> = {}): Promise<Chain> {
  const chain = await startChain({ runtime: url, agentEnv: env });
  closing.push(() => chain.close());
  return chain;
}

async function llamaServer(): Promise<FakeServer> {
  const reply = [{ text: "one " }, { text: "two" }, { finish: "stop", prompt: 7, completion: 2 }];
  const server = await startFakeOpenAi({ model: "small", reply });
  closing.push(() => server.close());
  return server;
}

const post = (chain: Chain, path: string, body: object): Promise<Answer> =>
  ask(`${chain.url}${path}`, { headers: asCaller, body: body as never });

const messages = [{ role: "user", content: "hi" }];
const questions: [path: string, body: object, said: RegExp, streamed: RegExp][] = [
  ["/v1/messages", { max_tokens: 9, messages }, /"text":"one two"/, /event: message_stop/],
  ["/v1/responses", { input: "hi" }, /"text":"one two"/, /event: response\.completed/],
  ["/api/chat", { messages, stream: false }, /"content":"one two"/, /"done":true/],
];

describe("an agent before a server that is none of ours", () => {
  it.each(questions)("answers %s, whole and streamed", async (path, body, said, streamed) => {
    const server = await llamaServer();
    const chain = await chainBefore(server.url);
    const whole = await post(chain, path, { ...body, model: "small" });
    expect([whole.status, whole.clean]).toEqual([200, true]);
    expect(whole.text).toMatch(said);
    const stream = await post(chain, path, { ...body, model: "small", stream: true });
    expect(stream.text).toMatch(streamed);
    expect(server.to(path)).toEqual([]);
    expect(server.to("/v1/chat/completions")).toHaveLength(2);
    // It is asked what it is once, not for every call.
    expect(server.to("/version")).toHaveLength(1);
  });

  it("passes its own chats on as they are, and asks nothing for them", async () => {
    const server = await llamaServer();
    const chain = await chainBefore(server.url);
    const answer = await post(chain, "/v1/chat/completions", { model: "small", messages, odd: 1 });
    expect(answer.status).toBe(200);
    expect(server.to("/v1/chat/completions")[0]?.body).toMatchObject({ odd: 1 });
    expect(server.to("/version")).toEqual([]);
  });

  it("shows the server the agent's key, never the caller's", async () => {
    const server = await startFakeOpenAi({ model: "small", key: "RUNTIME-KEY" });
    closing.push(() => server.close());
    const chain = await chainBefore(server.url, { LAIR_AGENT_OPENAI_KEY: "RUNTIME-KEY" });
    const answer = await post(chain, "/v1/messages", { model: "small", max_tokens: 9, messages });
    expect(answer.status).toBe(200);
    expect(server.to("/v1/chat/completions")[0]?.headers.authorization).toBe("Bearer RUNTIME-KEY");
  });

  it("tells of a failure in the words of the API that was asked, and of no address", async () => {
    const server = await startFakeOpenAi({ model: "small", reply: [{ status: 500, body: { error: "it is broken" } }] });
    closing.push(() => server.close());
    const chain = await chainBefore(server.url);
    const answer = await post(chain, "/v1/messages", { model: "small", max_tokens: 9, messages });
    expect(answer.status).toBeGreaterThanOrEqual(500);
    expect(JSON.parse(answer.text)).toMatchObject({ type: "error", error: { type: "api_error" } });
    expect(answer.text).not.toContain(new URL(server.url).port);
  });
});

describe("an agent before", () => {
  const question = '{"model":"demo",  "stream":false, "options":{"odd":1.50}}';
  const isLair = '{"name":"local-ai-runtime","version":"9.9.9"}';

  async function answersAs(path: string, versions: Record<string, string>): Promise<string[]> {
    const runtime = await SteeredRuntime.start(async ({ target, reply, body }) => {
      const said = target === path ? `{"heard" :${JSON.stringify((await body()).toString())}}` : versions[target];
      reply.writeHead(said === undefined ? 404 : 200, { "content-type": "application/json" });
      reply.end(said ?? "{}");
    });
    closing.push(() => runtime.close());
    const chain = await chainBefore(runtime.url);
    const answer = await ask(`${chain.url}${path}`, { headers: asCaller, body: question });
    expect(answer.text).toBe(`{"heard" :${JSON.stringify(question)}}`);
    return runtime.asked.map(({ target }) => target).filter((target) => target !== "/v1/models");
  }

  it.each(["/v1/messages", "/api/generate", "/api/chat"])(
    "a runtime of ours passes %s on byte for byte",
    async (path) => {
      expect(await answersAs(path, { "/version": isLair })).toEqual(["/version", path]);
    },
  );

  it.each(["/api/chat", "/api/embed"])("an Ollama passes %s on byte for byte", async (path) => {
    const asked = await answersAs(path, { "/api/version": '{"version":"0.32.0"}' });
    expect(asked).toEqual(["/version", "/api/version", path]);
  });
});
