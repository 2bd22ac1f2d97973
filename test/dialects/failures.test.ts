import { describe, expect, test } from "vitest";
import type { Reply } from "../../src/core/call.ts";
import { ApiError, type ApiErrorOptions, type ErrorCode } from "../../src/core/errors.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { encodeBrokenStream, encodeWaiting } from "../../src/dialects/error-events.ts";
import { encodeFailure } from "../../src/dialects/failures.ts";
import { hopelessOverflow } from "../../src/dialects/overflow.ts";
import { readSetback, remedy } from "../../src/routing/setback.ts";
import { LateStream } from "../../src/wire/late-stream.ts";
import { expectAnthropic, readEvents } from "../support/anthropic-spec.ts";

const fail = (path: string, code: ErrorCode, message = "it failed", options: ApiErrorOptions = {}): Reply =>
  encodeFailure({ id: "req-1", path, headers: {} }, new ApiError(code, message, options));
const jsonOf = ({ body }: Reply): JsonObject => JSON.parse(String(body)) as JsonObject;

describe("a failure of Messages", () => {
  test.each([
    ["invalid_value", 400, "invalid_request_error", "false"],
    ["invalid_api_key", 401, "authentication_error", "false"],
    ["insufficient_scope", 403, "permission_error", "false"],
    ["model_not_found", 404, "not_found_error", "false"],
    ["rate_limit_exceeded", 429, "rate_limit_error", undefined],
    ["insufficient_quota", 429, "rate_limit_error", "false"],
    ["internal_error", 500, "api_error", undefined],
    ["upstream_error", 502, "api_error", undefined],
    ["upstream_auth_failed", 502, "api_error", "false"],
    ["model_loading", 529, "overloaded_error", undefined],
    ["upstream_timeout", 504, "timeout_error", undefined],
  ] as [ErrorCode, number, string, string | undefined][])("%s is %i %s", (code, status, type, retry) => {
    const reply = fail("/v1/messages", code);
    expect(reply.status).toBe(status);
    expectAnthropic("ErrorResponse", jsonOf(reply));
    expect(jsonOf(reply)).toMatchObject({ type: "error", error: { type, message: "it failed" }, request_id: "req-1" });
    expect(reply.headers["x-should-retry"]).toBe(retry);
    expect(reply.headers["request-id"]).toBe("req-1");
    if (status === 429 || status === 529) expect(reply.headers["retry-after"]).toBe("1");
  });

  test.each([
    [8192, 9000, "prompt is too long: 9000 tokens > 8192 maximum"],
    // It fits, but leaves no room for an answer.
    [8192, 8192, "prompt is too long: 8192 tokens > 8191 maximum"],
  ])("is told in Claude Code's words where %i tokens do not hold %i", (limit, prompt, words) => {
    const message = `This model's maximum context length is ${limit} tokens. However, your messages resulted in ${prompt} tokens.`;
    const reply = fail("/v1/messages", "context_length_exceeded", message);
    expect(jsonOf(reply)).toMatchObject({ error: { type: "invalid_request_error", message: words } });
    // A server of ours further away has said it already.
    expect(jsonOf(fail("/v1/messages", "context_length_exceeded", words))).toMatchObject({ error: { message: words } });
  });

  test("says that a prompt is too long where nobody knows by how much", () => {
    const { error } = jsonOf(fail("/v1/messages", "context_length_exceeded", "the input exceeds the context"));
    expect((error as JsonObject).message).toBe("prompt is too long: the input exceeds the context");
  });

  test("is no invitation to compact where the instructions alone do not fit", () => {
    const message =
      "This model's maximum context length is 100 tokens. However, your messages resulted in 1000 tokens.";
    const overflow = new ApiError("context_length_exceeded", message);
    const body = { system: "s".repeat(4000), messages: [{ role: "user", content: "hi" }] };
    expect(hopelessOverflow(overflow, body)?.code).toBe("unsupported_capability");
    expect(
      hopelessOverflow(overflow, { system: "s", messages: [{ role: "user", content: "h".repeat(4000) }] }),
    ).toBeUndefined();
  });
});

describe("a failure", () => {
  test("of Ollama's API is a text, of OpenAI's an object", () => {
    expect(jsonOf(fail("/api/chat", "model_not_found"))).toEqual({ error: "it failed" });
    expect(jsonOf(fail("/v1/chat/completions", "model_not_found"))).toEqual({
      error: { message: "it failed", type: "invalid_request_error", param: null, code: "model_not_found" },
    });
  });

  test("of /v1/models is in Anthropic's form for those who send its header", () => {
    const call = { id: "1", path: "/v1/models/x", headers: { "anthropic-version": "2023-06-01" } };
    expectAnthropic("ErrorResponse", jsonOf(encodeFailure(call, new ApiError("model_not_found", "no"))));
    expect(jsonOf(encodeFailure({ ...call, headers: {} }, new ApiError("model_not_found", "no")))).not.toHaveProperty(
      "type",
    );
  });

  test.each(["/v1/messages", "/api/chat", "/v1/chat/completions"])(
    "of %s is understood by the gateway before, which asks another target where that may do better",
    (path) => {
      const lost = readSetback(fail(path, "model_not_found"));
      expect(lost).toMatchObject({ code: "model_not_found", message: "it failed", elsewhere: false });
      expect(remedy(lost!)).toBe("another");
      expect(remedy(readSetback(fail(path, "context_length_exceeded"))!)).toBe("abler");
      expect(remedy(readSetback(fail(path, "invalid_value"))!)).toBeUndefined();
      const remarked = lost!.toReply("; two targets were asked", {});
      expect(String(remarked.body)).toContain("it failed; two targets were asked");
    },
  );

  test("that a provider behind it had is not the server's own", () => {
    expect(readSetback(fail("/v1/messages", "upstream_error", "x", { provider: "vllm" }))?.elsewhere).toBe(true);
  });

  test.each(["/v1/messages", "/v1/chat/completions"])(
    "of %s keeps its code when it comes after the head",
    async (path) => {
      let told: ApiError | undefined;
      const stream = new LateStream(Promise.resolve(fail(path, "insufficient_memory", "no room")), {
        heartbeat: 60_000,
        comment: () => ": ping\n\n",
        encodeError: (error) => {
          told = error;
          return encodeBrokenStream(path, error);
        },
      });
      await new Promise<void>((resolve) => {
        stream.start({ write: () => true, end: () => resolve(), fail: () => resolve() });
      });
      expect(told).toMatchObject({ code: "insufficient_memory", message: "no room" });
    },
  );
});

describe("a stream whose answer has not begun", () => {
  test("keeps a client of Messages alive with an event, and others with a comment", () => {
    expect(encodeWaiting("/v1/chat/completions", "waiting")).toBe(": waiting\n\n");
    const waiting = encodeWaiting("/v1/messages", "waiting");
    expect(waiting.startsWith(": waiting\n\n")).toBe(true);
    expect(readEvents([waiting.slice(": waiting\n\n".length)])).toEqual([]);
    expect(waiting).toContain("event: ping\n");
  });
});
