import { describe, expect, test } from "vitest";
import { checkModel, withAllowedModels } from "../../src/access/allowed-models.ts";
import { Call, jsonReply, type Reply } from "../../src/core/call.ts";
import { Departure } from "../../src/core/departure.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { Json } from "../../src/core/json.ts";
import { parseJson } from "../../src/core/parse-json.ts";
import type { Principal } from "../../src/core/access.ts";

const principal: Principal = {
  id: "k",
  name: "n",
  roles: new Set(["inference"]),
  allows: (model) => model.startsWith("a"),
  limits: {},
};

async function ask(
  path: string,
  body: Json | undefined,
  reply: Reply,
  who: Principal | null = principal,
): Promise<Reply | ApiError> {
  const call = new Call({
    id: "id",
    method: body === undefined ? "GET" : "POST",
    path,
    signal: new Departure(),
    ...(body === undefined ? {} : { body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)) }),
  });
  call.principal = who ?? undefined;
  try {
    return await withAllowedModels(call, () => Promise.resolve(reply));
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
}

const fine = jsonReply(200, {});
const code = (answer: Reply | ApiError): string | number => (answer instanceof ApiError ? answer.code : answer.status);

describe("a key for certain models", () => {
  test.each<[string, Json, string | number]>([
    ["/v1/chat/completions", { model: "a1" }, 200],
    ["/v1/chat/completions", { model: "b" }, "model_not_found"],
    ["/v1/chat/completions", {}, "missing_required_parameter"],
    ["/v1/chat/completions", { name: "a1" }, "missing_required_parameter"],
    ["/v1/embeddings", { model: 5 }, "missing_required_parameter"],
    ["/tokenize", [], "missing_required_parameter"],
    ["/v1/messages", { model: "b" }, "model_not_found"],
    ["/api/chat", { model: "b" }, "model_not_found"],
    ["/api/show", { name: "a1" }, 200],
    ["/api/show", { name: "b" }, "model_not_found"],
    ["/api/generate", { model: "b", name: "a1" }, "model_not_found"],
    // Servers in Go do not tell small letters from capitals.
    ["/v1/chat/completions", { model: "a1", Model: "b" }, "invalid_value"],
    ["/v1/messages", { MODEL: "b", model: "a1" }, "invalid_value"],
    ["/api/show", { name: "a1", Name: "b" }, "invalid_value"],
    ["/v1/chat/completions", { model: "a1", name: "x", Name: "y", metadata: { Model: "b" } }, 200],
  ])("may ask %s of %j: %s", async (path, body, expected) => {
    expect(code(await ask(path, body, fine))).toBe(expected);
  });

  test.each([
    '{"model":"a1","model":"b"}',
    '{"model":"b","model":"a1"}',
    '{"mod\\u0065l":"b","model":"a1"}',
    '{"model":"a1","messages":[{"model":"b"}],"\\u006dodel":"b"}',
  ])("names one, not two of which readers may choose: %s", async (body) => {
    expect(code(await ask("/v1/chat/completions", body, fine))).toBe("invalid_value");
  });

  test("sees no others in any list", async () => {
    const data = [{ id: "a1", x: 1 }, { id: "b" }, {}, "a"];
    const list = jsonReply(200, { object: "list", data }, { "content-length": "99", "x-own": "1" });
    for (const path of ["/v1/models", "/v1/models/"]) {
      const answer = (await ask(path, undefined, list)) as Reply;
      expect(parseJson(Buffer.from(answer.body as string))).toEqual({ object: "list", data: [{ id: "a1", x: 1 }] });
      expect(answer.headers).toEqual({ "content-type": "application/json", "x-own": "1" });
    }
    const tags = { models: [{ name: "a", model: "a" }, { name: "a", model: "b" }, { name: "b" }] };
    const bytes = { ...jsonReply(200, {}), body: Buffer.from(JSON.stringify(tags)) };
    const answer = (await ask("/api/tags", undefined, bytes)) as Reply;
    expect(parseJson(Buffer.from(answer.body as string))).toEqual({ models: [{ name: "a", model: "a" }] });
  });

  test("sees the list of a server far away, whose reply comes in pieces", async () => {
    const text = JSON.stringify({ data: [{ id: "a" }, { id: "b" }] });
    const streamed: Reply = {
      status: 200,
      headers: {},
      body: {
        start: (sink) => {
          sink.write(text.slice(0, 5));
          sink.write(text.slice(5));
          sink.end();
        },
        resume: () => undefined,
        cancel: () => undefined,
      },
    };
    const answer = (await ask("/v1/models", undefined, streamed)) as Reply;
    expect(answer.body).toBe('{"data":[{"id":"a"}]}');
    expect(code(await ask("/v1/models", undefined, jsonReply(200, { data: 5 })))).toBe("upstream_error");
    expect(code(await ask("/v1/models", undefined, jsonReply(503, {})))).toBe(503);
  });

  test("learns nothing of a single model that it may not use", async () => {
    expect(code(await ask("/v1/models/a%2F1", undefined, fine))).toBe(200);
    expect(code(await ask("/v1/models/b", undefined, fine))).toBe("model_not_found");
    expect(code(await ask("/v1/models/%62", undefined, fine))).toBe("model_not_found");
    expect(code(await ask("/v1/models/%zz", undefined, fine))).toBe("model_not_found");
  });

  test("is told the same of models that there are and that there are not", () => {
    const told = (name: string): string => {
      try {
        checkModel(principal, name);
        return "";
      } catch (error) {
        return error instanceof ApiError ? `${error.status} ${error.message}` : "";
      }
    };
    expect(told("b")).toMatch(/^404 the model 'b' does not exist, or this key may not use it/);
    expect(told("a")).toBe("");
    expect(told("")).toMatch(/^400 /);
  });
});

test("a key for all models is not looked at, nor is who needs none", async () => {
  const list = jsonReply(200, { data: [{ id: "b" }] });
  const { allows: _, ...rest } = principal;
  for (const who of [rest, null]) {
    expect(await ask("/v1/models", undefined, list, who)).toBe(list);
    expect(await ask("/v1/chat/completions", {}, fine, who)).toBe(fine);
    expect(() => checkModel(who ?? undefined, "b")).not.toThrow();
  }
});
