import { describe, expect, test } from "vitest";
import { access } from "../../src/access/access.ts";
import { Call, type Handler, jsonReply, type Reply } from "../../src/core/call.ts";
import { ApiError } from "../../src/core/errors.ts";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { parseJson } from "../../src/core/parse-json.ts";
import { type Log, silent } from "../../src/core/log.ts";
import { chatModel, type Model } from "../../src/core/model.ts";
import type { Provider } from "../../src/core/provider.ts";
import { health, ready } from "../../src/admin/status.ts";
import { Catalog } from "../../src/pipeline/catalog.ts";
import { compose } from "../../src/pipeline/compose.ts";
import { errors } from "../../src/pipeline/errors.ts";
import { cors, guard } from "../../src/pipeline/guard.ts";
import { limits } from "../../src/pipeline/limits.ts";
import { routes } from "../../src/pipeline/routes.ts";
import { expectValid } from "../support/openai-spec.ts";

interface Setup {
  providers?: Provider[];
  keys?: string[];
  origins?: string[];
  hosts?: string[];
  listenHost?: string;
  concurrent?: number;
  log?: Log;
  defaultProvider?: string;
}

const model = (id: string, more: Partial<Model> = {}): Model => ({
  id,
  capabilities: chatModel,
  state: "available",
  ...more,
});

/** A provider that answers with the call it got. */
function mirror(name: string, models: Model[] = [], more: Partial<Provider> = {}): Provider {
  return {
    name,
    kind: "mirror",
    speaks: new Set(),
    handle: (call) =>
      Promise.resolve(
        jsonReply(200, {
          provider: name,
          path: call.path,
          model: call.target?.model,
          requested: call.target?.requested,
        }),
      ),
    models: () => Promise.resolve(models),
    health: () => Promise.resolve({ ok: true }),
    close: () => Promise.resolve(),
    ...more,
  };
}

function server(setup: Setup = {}): Handler {
  const providers = setup.providers ?? [mirror("home")];
  const catalog = new Catalog(providers, { defaultProvider: setup.defaultProvider ?? "home", probeTimeout: 50 });
  const settings = {
    listenHost: setup.listenHost ?? "127.0.0.1",
    hosts: setup.hosts ?? [],
    origins: setup.origins ?? [],
  };
  return compose(
    [
      cors(settings),
      errors(setup.log ?? silent),
      guard(settings),
      access({ tokens: setup.keys ?? [], adminTokens: [], callerLimits: {}, log: silent }),
      limits(setup.concurrent ?? 0),
    ],
    routes(catalog, { "/health": health, "/ready": ready(providers, 50) }),
  );
}

interface Ask {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Buffer | JsonObject;
}

async function ask(
  handler: Handler,
  path: string,
  { method, headers = {}, body }: Ask = {},
): Promise<{ status: number; json: JsonObject; reply: Reply }> {
  const bytes =
    body === undefined
      ? null
      : Buffer.isBuffer(body)
        ? body
        : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  const reply = await handler(
    new Call({
      id: "test",
      method: method ?? (body === undefined ? "GET" : "POST"),
      path,
      headers: {
        host: "localhost:18080",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      signal: new AbortController().signal,
      body: bytes,
    }),
  );
  const text = typeof reply.body === "string" ? reply.body : "null";
  const json = parseJson(Buffer.from(text));
  return { status: reply.status, json: isObject(json) ? json : {}, reply };
}

const errorOf = (json: JsonObject): JsonObject => json.error as JsonObject;
const chat = (name: unknown): Ask => ({ body: { model: name as string, messages: [] } });

describe("model names", () => {
  const providers = [mirror("home"), mirror("vllm"), mirror("ollama")];
  test.each([
    ["vllm:Qwen/Qwen3-8B", "vllm", "Qwen/Qwen3-8B"],
    ["ollama:qwen3:8b", "ollama", "qwen3:8b"],
    ["qwen3:8b", "home", "qwen3:8b"],
    ["a/b:c", "home", "a/b:c"],
    ["vllm:", "home", "vllm:"],
    ["home:x", "home", "x"],
  ])("%s is %s's %s", async (name, provider, id) => {
    const { json } = await ask(server({ providers }), "/v1/chat/completions", chat(name));
    expect(json).toMatchObject({ provider, model: id, requested: name });
  });

  test("every listed name is accepted as it stands, also one that looks prefixed", async () => {
    const handler = server({
      providers: [mirror("home", [model("m:1"), model("vllm:trap"), model("a/b")]), mirror("vllm", [model("x:y/z")])],
    });
    const { json } = await ask(handler, "/v1/models");
    const names = (json.data as JsonObject[]).map((one) => one.id as string);
    expect(names).toEqual(["m:1", "home:vllm:trap", "a/b", "vllm:x:y/z"]);
    for (const name of names) {
      expect((await ask(handler, `/v1/models/${name}`)).json.id).toBe(name);
      expect((await ask(handler, `/v1/models/${encodeURIComponent(name)}`)).json.id).toBe(name);
      const { provider, model: id } = (await ask(handler, "/v1/chat/completions", chat(name))).json;
      expect(names).toContain(provider === "home" && id !== "vllm:trap" ? id : `${String(provider)}:${String(id)}`);
    }
  });

  test("an unknown model is 404 with the nearest names, whoever says so", async () => {
    const gone = mirror("home", [model("qwen3:8b"), model("llama3")], {
      handle: () => Promise.reject(new ApiError("model_not_found", "no")),
    });
    const handler = server({ providers: [gone] });
    for (const path of ["/v1/chat/completions"]) {
      const { status, json } = await ask(handler, path, chat("qwen3:8x"));
      expect(status).toBe(404);
      expect(errorOf(json)).toMatchObject({ code: "model_not_found", param: "model" });
      expect(errorOf(json).message).toContain("'qwen3:8b'");
    }
    expect((await ask(handler, "/v1/models/qwen3:8x")).status).toBe(404);
    expect((await ask(server({ defaultProvider: "absent" }), "/v1/chat/completions", chat("x"))).status).toBe(404);
  });
});

describe("GET /v1/models", () => {
  test("is valid for OpenAI's clients and tells limits under every name that clients read", async () => {
    const { json } = await ask(
      server({ providers: [mirror("home", [model("m", { contextLength: 4096, maxOutput: 512 })])] }),
      "/v1/models",
    );
    expectValid("ListModelsResponse", json);
    expect((json.data as JsonObject[])[0]).toMatchObject({
      context_length: 4096,
      max_model_len: 4096,
      max_context_length: 4096,
      context_window: 4096,
      max_output_tokens: 512,
      state: "available",
      capabilities: { tools: true },
    });
  });

  test("a provider that fails or never answers adds what it listed last and breaks nothing", async () => {
    let mood: "well" | "dead" | "mute" = "well";
    const moody = mirror("moody", [], {
      models: () =>
        mood === "well"
          ? Promise.resolve([model("old")])
          : mood === "dead"
            ? Promise.reject(new Error("down"))
            : new Promise(() => undefined),
    });
    const never = mirror("never", [], { models: () => new Promise(() => undefined) });
    const handler = server({ providers: [mirror("home", [model("m")]), moody, never] });
    for (mood of ["well", "dead", "mute"] as const) {
      const { json } = await ask(handler, "/v1/models");
      expect((json.data as JsonObject[]).map((one) => one.id)).toEqual(["m", "moody:old"]);
    }
  });
});

describe("bad requests get OpenAI's envelope", () => {
  test.each<[string, string, Ask, number, string]>([
    ["broken JSON", "/v1/chat/completions", { body: '{"model":' }, 400, "invalid_json"],
    ["an empty body", "/v1/chat/completions", { body: "" }, 400, "invalid_json"],
    [
      "bytes that are no UTF-8",
      "/v1/chat/completions",
      { body: Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]) },
      400,
      "invalid_json",
    ],
    [
      "deep nesting",
      "/v1/chat/completions",
      { body: `${"[".repeat(100_000)}1${"]".repeat(100_000)}` },
      400,
      "invalid_json",
    ],
    ["an array", "/v1/chat/completions", { body: "[]" }, 400, "invalid_type"],
    ["no model", "/v1/embeddings", { body: {} }, 400, "missing_required_parameter"],
    ["a model that is a number", "/v1/completions", chat(3), 400, "invalid_type"],
    ["an empty model", "/v1/completions", chat(""), 400, "invalid_value"],
    ["an unknown path", "/v1/nothing", {}, 404, "unknown_url"],
    ["a prototype's name as path", "constructor", {}, 404, "unknown_url"],
    ["the wrong method", "/v1/chat/completions", { method: "PUT" }, 405, "method_not_allowed"],
    [
      "a form",
      "/v1/chat/completions",
      { body: "a=b", headers: { "content-type": "application/x-www-form-urlencoded" } },
      415,
      "unsupported_media_type",
    ],
    [
      "text",
      "/v1/chat/completions",
      { body: "{}", headers: { "content-type": "text/plain" } },
      415,
      "unsupported_media_type",
    ],
    ["broken percent-encoding", "/v1/models/%E0%A4%A", {}, 400, "invalid_value"],
  ])("%s", async (_name, path, question, status, code) => {
    const answer = await ask(server(), path, question);
    expect(answer.status).toBe(status);
    expect(Object.keys(errorOf(answer.json))).toEqual(["message", "type", "param", "code"]);
    expect(errorOf(answer.json).code).toBe(code);
    expectValid("ErrorResponse", answer.json);
    // opencode takes these digits in a 4xx text for a failure that passes by itself.
    expect(errorOf(answer.json).message).not.toMatch(/429|500|502|503|504|524/);
  });

  test("a body of real nesting passes, U+FFFD in a text too", async () => {
    let deep: JsonObject = { type: "string" };
    for (let level = 0; level < 60; level++) deep = { type: "object", properties: { x: deep } };
    expect((await ask(server(), "/v1/chat/completions", { body: { model: "m", text: "\ufffd", deep } })).status).toBe(
      200,
    );
  });

  test("a wrong method names the right ones", async () => {
    const { reply } = await ask(server(), "/v1/models", { method: "DELETE" });
    expect(reply.headers.allow).toBe("GET");
  });

  test("a bug is a bare 500: its text goes to the log, not to the caller", async () => {
    const lines: object[] = [];
    const log: Log = { ...silent, error: (fields) => void lines.push(fields) };
    const broken = mirror("home", [], { handle: () => Promise.reject(new TypeError("secret is undefined")) });
    const { status, json } = await ask(server({ providers: [broken], log }), "/v1/chat/completions", chat("m"));
    expect(status).toBe(500);
    expect(JSON.stringify(json)).not.toContain("secret");
    expect(JSON.stringify(lines)).toContain("secret is undefined");
  });

  test("a failure that may pass says when to come again", async () => {
    const full = mirror("home", [], {
      handle: () => Promise.reject(new ApiError("rate_limit_exceeded", "slow", { retryAfter: 7, provider: "home" })),
    });
    const { reply, json } = await ask(server({ providers: [full] }), "/v1/chat/completions", chat("m"));
    expect(reply.headers["retry-after"]).toBe("7");
    expect(json.provider).toBe("home");
  });
});

describe("a conversation that does not fit", () => {
  const tools = [{ type: "function", function: { name: "read", description: "d".repeat(4000), parameters: {} } }];
  const say = (role: string, length: number): JsonObject => ({ role, content: "x".repeat(length) });
  const overflowing = (message: string): Handler =>
    server({
      providers: [
        mirror("home", [], { handle: () => Promise.reject(new ApiError("context_length_exceeded", message)) }),
      ],
    });
  const told = "This model's maximum context length is 1000 tokens. However, your messages resulted in 2000 tokens.";

  test.each<[string, string, JsonObject[], string]>([
    [
      "because of what was said: clients may compact it",
      told,
      [say("system", 400), say("user", 9000)],
      "context_length_exceeded",
    ],
    [
      "because of its instructions: no client can mend it",
      told,
      [say("system", 4000), say("user", 20)],
      "unsupported_capability",
    ],
    [
      "and no count is told",
      "This model's maximum context length is 1000 tokens.",
      [say("user", 20)],
      "unsupported_capability",
    ],
    ["and no window is told", "too long", [say("system", 4000)], "context_length_exceeded"],
  ])("%s", async (_name, message, messages, code) => {
    const { status, json } = await ask(overflowing(message), "/v1/chat/completions", {
      body: { model: "m", messages, tools },
    });
    expect([status, errorOf(json).code]).toEqual([400, code]);
    // The words by which opencode knows an overflow.
    if (code !== "context_length_exceeded") {
      expect(errorOf(json).message).not.toMatch(
        /429|50[0234]|context length|context window|prompt is too long|too many tokens|exceeds/i,
      );
    }
  });
});

describe("keys", () => {
  const handler = server({ keys: ["k-one", "k-two"] });
  test.each([
    [{ authorization: "Bearer k-two" }, 200],
    [{ authorization: "bearer k-one" }, 200],
    [{ "api-key": "k-one" }, 200],
    [{ "x-api-key": "k-one" }, 200],
    [{ "x-api-key": "k-one", authorization: "Bearer k-one" }, 200],
    [{ "x-api-key": "k-one", authorization: "Bearer k-two" }, 400],
    [{ authorization: "Bearer k-three" }, 401],
    [{ authorization: "Basic k-one" }, 401],
    [{ authorization: "Bearer " }, 401],
    [{}, 401],
  ])("%j is %i", async (headers, status) => {
    const { status: got, json, reply } = await ask(handler, "/v1/models", { headers });
    expect(got).toBe(status);
    expect(JSON.stringify(json)).not.toMatch(/k-(one|two|three)/);
    if (status === 401) expect(reply.headers["www-authenticate"]).toBe("Bearer");
  });

  test("guard every path but those that load balancers ask, unknown ones too", async () => {
    expect((await ask(handler, "/health")).status).toBe(200);
    expect((await ask(handler, "/ready")).status).toBe(200);
    expect((await ask(handler, "/v1/nothing")).status).toBe(401);
    expect((await ask(handler, "/v1/chat/completions", chat("m"))).status).toBe(401);
  });
});

describe("the guard of a server on this machine", () => {
  test.each(["localhost:18080", "127.0.0.1:18080", "127.1.2.3", "[::1]:18080", "app.localhost", "my.name:1"])(
    "is known as %s",
    async (host) => {
      expect((await ask(server({ hosts: ["my.name"] }), "/health", { headers: { host } })).status).toBe(200);
    },
  );
  test.each(["evil.example:18080", "localhost.evil.example", "127.0.0.1.evil.example", "", "192.168.1.2"])(
    "refuses to be called %s",
    async (host) => {
      const { status, json } = await ask(server(), "/v1/models", { headers: { host } });
      expect(status).toBe(403);
      expect(errorOf(json).code).toBe("forbidden_host");
    },
  );
  test("is not asked for a name when it listens for others", async () => {
    expect((await ask(server({ listenHost: "0.0.0.0" }), "/health", { headers: { host: "box.lan" } })).status).toBe(
      200,
    );
  });

  test("a page of another origin gets no answer and no permission, one of this machine does", async () => {
    const handler = server({ origins: ["https://chat.example"] });
    expect((await ask(handler, "/v1/models", { headers: { origin: "https://evil.example" } })).status).toBe(403);
    expect((await ask(handler, "/v1/models", { headers: { origin: "null" } })).status).toBe(403);
    for (const origin of ["http://localhost:3000", "http://127.0.0.1:5173", "https://chat.example"]) {
      const { reply } = await ask(handler, "/v1/models", { headers: { origin } });
      expect(reply.headers["access-control-allow-origin"]).toBe(origin);
    }
    const preflight = {
      method: "OPTIONS",
      headers: { origin: "https://evil.example", "access-control-request-method": "POST" },
    };
    expect(
      (await ask(handler, "/v1/chat/completions", preflight)).reply.headers["access-control-allow-origin"],
    ).toBeUndefined();
    const asked = {
      method: "OPTIONS",
      headers: {
        origin: "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
      },
    };
    const { status, reply } = await ask(server({ keys: ["k"], origins: ["*"] }), "/v1/chat/completions", asked);
    expect(status).toBe(204);
    expect(reply.headers["access-control-allow-headers"]).toBe("authorization");
  });

  test("a page of an allowed origin can read an error too", async () => {
    const { reply } = await ask(server(), "/v1/nothing", { headers: { origin: "http://localhost:3000" } });
    expect(reply.status).toBe(404);
    expect(reply.headers["access-control-allow-origin"]).toBe("http://localhost:3000");
  });
});

describe("limits", () => {
  test("a call beyond the limit is 429 with Retry-After, and a place is free again when one ends", async () => {
    let finish!: () => void;
    const slow = mirror("home", [], {
      handle: () => new Promise((resolve) => (finish = () => resolve(jsonReply(200, {})))),
    });
    const handler = server({ providers: [slow], concurrent: 1 });
    const first = ask(handler, "/v1/chat/completions", chat("m"));
    await Promise.resolve();
    const second = await ask(handler, "/v1/chat/completions", chat("m"));
    expect(second.status).toBe(429);
    expect(second.reply.headers["retry-after"]).toBe("1");
    finish();
    await first;
    const third = ask(handler, "/v1/chat/completions", chat("m"));
    await new Promise((resolve) => setImmediate(resolve));
    finish();
    expect((await third).status).toBe(200);
  });
});

describe("/ready", () => {
  test("is 503 when no provider answers, and says of each why", async () => {
    const dead = mirror("dead", [], { health: () => Promise.resolve({ ok: false, detail: "refused" }) });
    const mute = mirror("mute", [], { health: () => new Promise(() => undefined) });
    const none = await ask(server({ providers: [dead, mute] }), "/ready");
    expect(none.status).toBe(503);
    expect(JSON.stringify(none.json)).toContain("refused");
    expect((await ask(server({ providers: [dead, mirror("home")] }), "/ready")).status).toBe(200);
  });
});
