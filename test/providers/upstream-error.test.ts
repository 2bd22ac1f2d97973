import { expect, test } from "vitest";
import type { Json } from "../../src/core/json.ts";
import { errorInReply, overflowIn, upstreamError } from "../../src/providers/upstream-error.ts";

const of = (status: number, body: Json | string, headers = {}) =>
  upstreamError("box", status, typeof body === "string" ? body : JSON.stringify(body), headers);

test.each<[string, number, Json | string, string, number]>([
  [
    "OpenAI's envelope",
    400,
    { error: { message: "bad temperature", type: "invalid_request_error", param: "temperature", code: null } },
    "invalid_request",
    400,
  ],
  [
    "LMDeploy's flat error",
    404,
    { message: "The model 'x' does not exist.", type: "not_found_error", code: 404, param: null, object: "error" },
    "model_not_found",
    404,
  ],
  [
    "vLLM's unknown model",
    404,
    { error: { message: "The model `x` does not exist.", type: "NotFoundError", param: "model", code: 404 } },
    "model_not_found",
    404,
  ],
  ["Ollama's error string", 404, { error: "model 'x' not found" }, "model_not_found", 404],
  [
    "llama-server's router",
    400,
    { error: { code: 400, message: "model 'x' not found", type: "invalid_request_error" } },
    "model_not_found",
    404,
  ],
  ["an unknown route", 404, { detail: "Not Found" }, "unknown_url", 404],
  ["vLLM's key error", 401, { error: "Unauthorized" }, "upstream_auth_failed", 502],
  ["Ollama's empty refusal", 403, "", "upstream_auth_failed", 502],
  ["a rate limit", 429, { error: { message: "slow down" } }, "rate_limit_exceeded", 429],
  ["a spent quota", 429, { error: { message: "pay", code: "insufficient_quota" } }, "insufficient_quota", 429],
  [
    "Ollama's full queue",
    503,
    { error: "server busy, please try again.  maximum pending requests exceeded" },
    "service_unavailable",
    503,
  ],
  [
    "llama-server's loading",
    503,
    { error: { code: 503, message: "Loading model", type: "unavailable_error" } },
    "model_loading",
    503,
  ],
  [
    "Ollama without memory",
    500,
    { error: "model requires more system memory (9.1 GiB) than is available (3.2 GiB)" },
    "insufficient_memory",
    503,
  ],
  [
    "a bad history at llama-server",
    500,
    { error: { code: 500, message: "Failed to parse tool call arguments as JSON", type: "server_error" } },
    "invalid_request",
    400,
  ],
  [
    "an image without eyes",
    500,
    { error: { code: 500, message: "image input is not supported - hint: mmproj", type: "server_error" } },
    "unsupported_capability",
    400,
  ],
  ["a bad image", 500, { error: "Failed to load image or audio file" }, "invalid_image", 400],
  ["a model without tools", 400, { error: "x does not support tools" }, "unsupported_capability", 400],
  [
    "LMDeploy without a parser",
    400,
    { message: "Please launch the api_server with --tool-call-parser if you want to use tools.", object: "error" },
    "unsupported_capability",
    400,
  ],
  [
    "embeddings not switched on",
    501,
    {
      error: {
        message: "This server does not support embeddings. Start it with `--embeddings`",
        type: "not_supported_error",
      },
    },
    "unsupported_capability",
    400,
  ],
  [
    "FastAPI's validation",
    422,
    { detail: [{ loc: ["body", "messages"], msg: "Field required" }] },
    "invalid_request",
    400,
  ],
  ["a broken server", 500, "Internal Server Error", "upstream_error", 502],
  [
    "a proxy's page",
    502,
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>",
    "upstream_error",
    502,
  ],
  ["a proxy's patience", 504, "<html></html>", "upstream_timeout", 504],
  ["a body that is too large", 413, "", "request_too_large", 413],
  ["NDJSON", 500, '{"error":"llama runner process has terminated"}\n', "upstream_error", 502],
  ["nothing", 500, "", "upstream_error", 502],
  ["a redirection", 307, "", "upstream_error", 502],
])("%s becomes our error", (_, status, body, code, ours) => {
  const error = of(status, body);
  expect([error.code, error.status, error.provider]).toEqual([code, ours, "box"]);
  expect(error.message).not.toBe("");
});

test.each<[string, number, Json, string]>([
  [
    "llama-server",
    400,
    {
      error: {
        code: 400,
        message: "request (9001 tokens) exceeds the available context size (4096 tokens), try increasing it",
        type: "exceed_context_size_error",
        n_prompt_tokens: 9001,
        n_ctx: 4096,
      },
    },
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 9001 tokens.",
  ],
  [
    "Ollama, handing on llama-server's JSON",
    500,
    {
      error:
        'llama-server: {"error":{"code":400,"message":"too big","type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":4096}}',
    },
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 9001 tokens.",
  ],
  [
    "LMDeploy",
    400,
    {
      message: "Input length (9001) must be smaller than the model context length (4096).",
      code: 400,
      object: "error",
    },
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 9001 tokens.",
  ],
  [
    "vLLM, with the answer counted in",
    400,
    {
      error: {
        message:
          "This model's maximum context length is 4096 tokens. However, you requested 4000 output tokens and your prompt contains at least 1000 input tokens, for a total of at least 5000 tokens.",
        type: "BadRequestError",
        code: 400,
      },
    },
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.",
  ],
  [
    "vLLM, the prompt alone",
    400,
    {
      error: {
        message: "Input length (9001) exceeds model's maximum context length (4096).",
        type: "BadRequestError",
        code: 400,
      },
    },
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 9001 tokens.",
  ],
  [
    "LM Studio",
    400,
    {
      error:
        "Trying to keep the first 9001 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens",
    },
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 9001 tokens.",
  ],
  [
    "Ollama's embeddings",
    400,
    { error: "the input length exceeds the context length" },
    "input length exceeds the context length",
  ],
])("an overflow at %s is told as every client knows it", (_, status, body, message) => {
  const error = of(status, body);
  expect([error.status, error.code, error.param]).toEqual([400, "context_length_exceeded", "messages"]);
  expect(error.message).toContain(message);
});

test("vLLM's figures are there for a second attempt with a smaller max_tokens", () => {
  const text =
    "This model's maximum context length is 4096 tokens. However, you requested 4000 output tokens and your prompt contains 1000 input tokens";
  expect(overflowIn(text)).toEqual({ contextLength: 4096, outputTokens: 4000, promptTokens: 1000 });
});

test("no other 400 is taken for an overflow", () => {
  expect(overflowIn("max_tokens must be at least 1, got 0 (context length 4096)")).toBeUndefined();
});

test("what the caller did wrong never reads as a reason to repeat: opencode would", () => {
  const { message } = of(400, {
    error: {
      message: "max_tokens may be at most 1500, got 429; please try again later. Server error, overloaded, timed out",
    },
  });
  expect(message).not.toMatch(/429|500|502|503|504|524|try again|server error|overloaded|timed out/i);
  expect(message.replaceAll("\u202f", "")).toContain("at most 1500, got 429");
});

test("Retry-After is handed on in whole seconds, and is there when the server gave none", () => {
  expect(of(503, "", { "retry-after": "7.2" }).retryAfter).toBe(8);
  expect(of(429, "", { "retry-after": new Date(Date.now() + 60_000).toUTCString() }).retryAfter).toBeGreaterThan(50);
  expect(of(429, "").retryAfter).toBe(1);
});

test("a long reply is cut, and nothing that looks like a credential is repeated", () => {
  const { message } = of(
    500,
    `failed at http://me:hunter2@host/x with Bearer abcdefghijkl and api_key=topsecretvalue sk-aaaabbbbcccc ${"x".repeat(9000)}`,
  );
  expect(message.length).toBeLessThan(700);
  expect(message).not.toMatch(/hunter2|abcdefghijkl|topsecretvalue|sk-aaaa/);
});

test.each<[string, Json, string | undefined]>([
  ["LMDeploy's proxy", { message: "The model 'x' does not exist.", object: "error", code: 404 }, "model_not_found"],
  [
    "LMDeploy's proxy, when a node is slow",
    { error_code: 10402, text: "Failed to get response after a period of time" },
    "upstream_timeout",
  ],
  [
    "a frame of a stream",
    { error: { message: "CUDA error", type: "InternalServerError", code: 500 } },
    "upstream_error",
  ],
  ["Ollama's line", { error: "an unknown error was encountered while running the model" }, "upstream_error"],
  ["a normal reply", { object: "chat.completion", choices: [] }, undefined],
  ["a normal reply with a null error", { object: "response", error: null }, undefined],
])("an error in a reply of status 200 is found: %s", (_, body, code) => {
  expect(errorInReply("box", body)?.code).toBe(code);
});
