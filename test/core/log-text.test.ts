import { expect, test } from "vitest";
import { logText } from "../../src/core/log-text.ts";

test.each([
  ["/v1/models;api_key=hunter2-hunter2", "/v1/models;api_key=***"],
  ["/v1/models&API-KEY=hunter2?x", "/v1/models&API-KEY=***?x"],
  ["/v1/models%3Fapi-key%3Dhunter2", "/v1/models%3Fapi-key%3D***"],
  [`/admin/keys/lair_kabc_${"x".repeat(43)}/revoke`, "/admin/keys/***/revoke"],
  [
    `there is nothing at GET /lair_kabc_${"x-".repeat(21)}; this answers /v1`,
    "there is nothing at GET /***; this answers /v1",
  ],
  ["/v1/models/token-of=x", "/v1/models/token-of=x"],
  ["/v1/chat/completions", "/v1/chat/completions"],
])("%s stands in a log as %s", (text, shown) => {
  expect(logText(text)).toBe(shown);
});

test("what callers make up does not fill a log", () => {
  expect(logText(`/${"a=".repeat(10_000)}`).length).toBe(501);
});
