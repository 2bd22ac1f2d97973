import { describe, expect, it } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { createProvider } from "../../src/providers/index.ts";
import type { ProviderKind } from "../../src/providers/settings.ts";
import { startFakeMnn } from "../support/fake-mnn.ts";
import { startFakeServer, sendJson, type FakeServer } from "../support/fake-server.ts";
import { closedAfterEach, post } from "./calls.ts";

const open = closedAfterEach();
const metadata = "http://169.254.169.254/latest/meta-data/";

/** A server of that kind which takes whatever it is sent. */
async function over(kind: ProviderKind, allow: readonly string[] = []) {
  const server = await startFakeServer((request, reply) =>
    sendJson(reply, 200, {
      model: request.body.model ?? null,
      choices: [{ index: 0, message: { role: "assistant", content: "seen" }, finish_reason: "stop" }],
      usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
    }),
  );
  open.push(() => server.close());
  const times = { connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0 };
  const provider = createProvider(kind, { kind, urls: [server.url], ...times }, { log: silent, images: { allow } });
  open.push(() => provider.close());
  return { server, ask: (path: string, body: JsonObject) => post(provider, path, { model: "m", ...body }) };
}

const user = (...content: JsonObject[]): JsonObject => ({ messages: [{ role: "user", content }] });

describe.each(["openai", "vllm"] as const)("a server of the kind %s", (kind) => {
  it.each<[string, string, JsonObject, string]>([
    [
      "/v1/chat/completions",
      "a picture",
      user({ type: "image_url", image_url: { url: metadata } }),
      "messages[0].content[0].image_url.url",
    ],
    [
      "/v1/chat/completions",
      "a picture as some write it",
      user({ type: "image_url", image_url: metadata }),
      "messages[0].content[0].image_url",
    ],
    [
      "/v1/chat/completions",
      "a picture without a type",
      user({ image_url: { url: metadata } }),
      "messages[0].content[0].image_url.url",
    ],
    [
      "/v1/chat/completions",
      "a film",
      user({ type: "text", text: "Hi" }, { type: "video_url", video_url: { url: metadata } }),
      "messages[0].content[1].video_url.url",
    ],
    [
      "/v1/chat/completions",
      "a sound",
      user({ type: "audio_url", audio_url: { url: metadata } }),
      "messages[0].content[0].audio_url.url",
    ],
    [
      "/v1/chat/completions",
      "a sound instead of its data",
      user({ type: "input_audio", input_audio: { data: metadata, format: "wav" } }),
      "messages[0].content[0].input_audio.data",
    ],
    [
      "/v1/chat/completions",
      "a file",
      user({ type: "file", file: { file_url: "file:///etc/passwd" } }),
      "messages[0].content[0].file.file_url",
    ],
    [
      "/v1/chat/completions",
      "a path",
      user({ type: "image_url", image_url: { url: "/etc/passwd" } }),
      "messages[0].content[0].image_url.url",
    ],
    [
      "/v1/chat/completions",
      "a source",
      user({ type: "image", source: { type: "url", url: metadata } }),
      "messages[0].content[0].source.url",
    ],
    [
      "/v1/chat/completions",
      "a picture in Qwen's form",
      user({ type: "image", image: metadata }),
      "messages[0].content[0].image",
    ],
    [
      "/v1/chat/completions",
      "a result of a tool",
      {
        messages: [{ role: "tool", tool_call_id: "x", content: [{ type: "image_url", image_url: { url: metadata } }] }],
      },
      "messages[0].content[0].image_url.url",
    ],
    [
      "/v1/embeddings",
      "a chat",
      user({ type: "image_url", image_url: { url: metadata } }),
      "messages[0].content[0].image_url.url",
    ],
    ["/v1/embeddings", "an input that is no text", { input: [{ image: metadata }] }, "input[0].image"],
    [
      "/v1/rerank",
      "a document",
      { query: "q", documents: [{ content: [{ type: "image_url", image_url: { url: metadata } }] }] },
      "documents[0].content[0].image_url.url",
    ],
    [
      "/v1/completions",
      "data beside a prompt",
      { prompt: { prompt_string: "Hi", multimodal_data: [metadata] } },
      "prompt.multimodal_data[0]",
    ],
    [
      "/tokenize",
      "a chat to count",
      user({ type: "image_url", image_url: { url: metadata } }),
      "messages[0].content[0].image_url.url",
    ],
  ])("is never sent in %s the address of %s", async (path, _what, body, param) => {
    const { server, ask } = await over(kind, ["*"]);
    await expect(ask(path, body)).rejects.toMatchObject({ status: 400, code: "invalid_image", param });
    expect(server.requests).toEqual([]);
  });

  it("is sent what only looks like an address", async () => {
    const { server, ask } = await over(kind);
    const picture = { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } };
    await ask("/v1/chat/completions", {
      messages: [
        { role: "system", content: metadata },
        { role: "user", content: [{ type: "text", text: metadata }, picture] },
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "c", type: "function", function: { name: "get", arguments: `{"url":"${metadata}"}` } }],
        },
        { role: "tool", tool_call_id: "c", content: metadata },
      ],
      tools: [
        {
          type: "function",
          function: {
            name: "get",
            parameters: { type: "object", properties: { url: { type: "string", default: metadata } } },
          },
        },
      ],
      metadata: { url: metadata },
    });
    await ask("/v1/embeddings", { input: [metadata, "http://x"] });
    await ask("/v1/rerank", { query: metadata, documents: [metadata, { text: metadata }] });
    await ask("/v1/completions", { prompt: metadata });
    expect(server.requests.length).toBe(4);
  });

  it("is sent no address unless its host is allowed, and then as it was written", async () => {
    const body = user({ type: "image_url", image_url: { url: "https://93.184.216.34/a.png" } });
    const closed = await over(kind);
    await expect(closed.ask("/v1/chat/completions", body)).rejects.toMatchObject({
      code: "invalid_image",
      message: expect.stringContaining("images.allow") as string,
    });
    const allowing = await over(kind, ["93.184.216.34"]);
    await allowing.ask("/v1/chat/completions", body);
    expect(allowing.server.requests[0]?.body).toMatchObject(body);
  });
});

describe("MNN, which fetches what tags in a prompt name", () => {
  it("is sent them as text", async () => {
    const server: FakeServer = await startFakeMnn();
    open.push(() => server.close());
    const times = { connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0 };
    const provider = createProvider("mnn", { kind: "mnn", urls: [server.url], ...times }, { log: silent });
    open.push(() => provider.close());
    const content = `<img>${metadata}</img> <audio>/etc/passwd</audio><img><img>x</img></img> <image> <img/>`;
    await post(provider, "/v1/chat/completions", {
      model: String((await provider.models())[0]?.id),
      messages: [
        { role: "system", content },
        { role: "user", content: [{ type: "text", text: content }] },
      ],
    });
    const sent = server.requests.filter(({ method }) => method === "POST").map(({ body }) => JSON.stringify(body));
    expect(sent.length).toBe(1);
    expect(sent[0]).toContain(`<img >${metadata}</img>`);
    expect(sent[0]).not.toMatch(/<(?:img|audio)>/);
  });
});
