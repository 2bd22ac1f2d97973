import { describe, expect, test } from "vitest";
import { endpoints } from "../../src/core/provider.ts";
import { allowedCall } from "../../src/tunnel/calls/paths.ts";

const codeOf = (method: string, path: string, search = ""): string | undefined =>
  allowedCall(method, path, search)?.code;

describe("what may pass the tunnel", () => {
  test("is everything that asks a model", () => {
    const posts = [...endpoints, "/rerank", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses/compact"];
    for (const path of [...posts, "/api/chat", "/api/generate", "/api/embed", "/api/show"])
      expect([path, codeOf("POST", path)]).toEqual([path, undefined]);
    for (const path of ["/v1/models", "/api/tags", "/api/version", "/api/ps"])
      for (const method of ["GET", "HEAD"]) expect([path, codeOf(method, path)]).toEqual([path, undefined]);
    expect(codeOf("GET", "/v1/responses/resp_1")).toBe(undefined);
    expect(codeOf("DELETE", "/v1/responses/resp_1")).toBe(undefined);
    expect(codeOf("GET", "/v1/responses/resp_1/input_items", "?limit=2&include[]=a")).toBe(undefined);
    expect(codeOf("POST", "/v1/responses/resp_1/cancel")).toBe(undefined);
  });

  test("is a model's name in a path, with slashes, colons and letters of any language", () => {
    for (const name of [
      "Qwen/Qwen3-8B",
      "ollama:qwen3:8b",
      "ollama%3Aqwen3%3A8b",
      "home/vllm:Qwen/Qwen3-8B",
      "%E6%A8%A1%E5%9E%8B",
      "a..b/c.gguf",
    ])
      expect([name, codeOf("GET", `/v1/models/${name}`)]).toEqual([name, undefined]);
  });

  test("is one slash at the end, as at the runtime", () => {
    expect(codeOf("POST", "/v1/chat/completions/")).toBe(undefined);
    expect(codeOf("POST", "/v1/chat/completions//")).toBe("invalid_request");
  });

  test("is no administration of the runtime or of anything beside it", () => {
    for (const path of [
      "/api/pull",
      "/api/push",
      "/api/create",
      "/api/copy",
      "/api/blobs/sha256:1",
      "/slots",
      "/metrics",
      "/admin",
      "/admin/agents",
      "/health",
      "/v1/internal/x",
      "/v1/models/x/../../admin",
      "/.lair/control",
      "/tunnel",
      "/",
      "",
      "*",
      "/constructor",
      "/__proto__",
    ])
      for (const method of ["GET", "POST"]) expect([path, codeOf(method, path)]).not.toEqual([path, undefined]);
    expect(codeOf("DELETE", "/api/delete")).toBe("unknown_url");
  });

  test("is no other method than the path has, and the answer names those that it has", () => {
    for (const method of ["GET", "PUT", "CONNECT", "OPTIONS", "TRACE", "post", ""])
      expect([method, codeOf(method, "/v1/chat/completions")]).toEqual([method, "method_not_allowed"]);
    expect(codeOf("DELETE", "/v1/models/x")).toBe("method_not_allowed");
    expect(allowedCall("PUT", "/v1/responses/x", "")?.headers).toEqual({ allow: "GET, DELETE" });
  });

  test("is no path that two readers could take for two different ones", () => {
    const paths = [
      "//evil.example/v1/models",
      "/v1//models",
      "/\\evil.example/v1/models",
      "/v1/models\\x",
      "http://169.254.169.254/v1/models",
      "v1/models",
      "/v1/%2e%2e/api/pull",
      "/v1/models/%2E%2E/%2e%2e/api/pull",
      "/v1/models/..%2f..%2fapi%2fpull",
      "/v1/models/%5C%5Cevil",
      "/v1/models/%5c",
      "/v1/models/%252e%252e/x",
      "/v1/models/%c0%ae%c0%ae/x",
      "/v1/models/./x",
      "/v1/models/..",
      "/v1/models/../chat",
      "/v1/models/x%00",
      "/v1/models/x%0d%0aHost:%20y",
      "/v1/models/x%7f",
      "/v1/models/x\r\nhost: y",
      "/v1/models/x y",
      "/v1/models/x\0",
      "/v1/models/x\u00e9",
      "/v1/models/x#y",
      "/v1/models/x?y",
      "/v1/models/x%",
      "/v1/models/{x}",
      "/v1/models/..;/slots",
      "/v1/models/x%zz",
      "/v1/models/x%e",
      `/v1/models/${"x".repeat(2000)}`,
    ];
    for (const path of paths) expect([path, codeOf("GET", path)]).toEqual([path, "invalid_request"]);
  });

  test("is no query with what does not belong into a request line", () => {
    for (const search of ["?a b", "?a\r\nx: y", "?a#b", "?a\\b", "?\u00e9", "a=b", `?${"x".repeat(5000)}`])
      expect([search, codeOf("GET", "/v1/models", search)]).toEqual([search, "invalid_request"]);
    expect(codeOf("GET", "/v1/models", "?a=%20b&c=d?")).toBe(undefined);
  });

  test("stays what it is however a URL parser reads it", () => {
    // Whatever is allowed must mean the same path to a parser that normalises.
    const pieces = [
      "/",
      "v1",
      "models",
      "..",
      ".",
      "%2e",
      "%2F",
      "\\",
      "x",
      "?",
      "#",
      "//",
      "%5C",
      "@",
      ":",
      ";",
      " ",
      "\t",
    ];
    let allowed = 0;
    let state = 7;
    const random = (): number => (state = (state * 48271) % 2147483647) / 2147483647;
    for (let round = 0; round < 20_000; round++) {
      let path = random() < 0.7 ? "/v1/models/" : "";
      for (let count = 1 + Math.floor(random() * 5); count > 0; count--)
        path += pieces[Math.floor(random() * pieces.length)];
      if (codeOf("GET", path) !== undefined) continue;
      allowed++;
      const url = new URL(path, "http://runtime");
      expect([path, url.host, url.pathname]).toEqual([path, "runtime", path]);
      expect(decodeURIComponent(url.pathname).startsWith("/v1/models")).toBe(true);
    }
    expect(allowed).toBeGreaterThan(200);
  });
});
