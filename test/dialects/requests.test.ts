import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Headers } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { anthropicMessages } from "../../src/dialects/anthropic-messages.ts";
import { openaiChat } from "../../src/dialects/openai-chat.ts";
import { openaiResponses } from "../../src/dialects/openai-responses.ts";

const dialects = {
  "anthropic-messages": anthropicMessages,
  "openai-chat": openaiChat,
  "openai-responses": openaiResponses,
};

/** Requests as the real programs sent them, redacted and shortened; what we made of them was read by people once. */
describe.each(Object.entries(dialects))("%s", (name, dialect) => {
  const folder = new URL(`./fixtures/${name}/`, import.meta.url);
  const cases = readdirSync(folder).filter((file) => file.endsWith(".request.json"));

  test.each(cases)("the request of %s is understood as it was", async (file) => {
    const { headers, body } = JSON.parse(readFileSync(new URL(file, folder), "utf8")) as {
      headers: Headers;
      body: JsonObject;
    };
    const decoded = dialect.decodeRequest(body, "qwen2.5:latest", headers);
    await expect(`${JSON.stringify(decoded, null, 2)}\n`).toMatchFileSnapshot(
      `./fixtures/${name}/${file.replace("request", "decoded")}`,
    );
  });

  test.each(cases)("the request of %s says the same after it went on as a chat", (file) => {
    const { headers, body } = JSON.parse(readFileSync(new URL(file, folder), "utf8")) as {
      headers: Headers;
      body: JsonObject;
    };
    const encoded = openaiChat.encodeRequest(dialect.decodeRequest(body, "m", headers));
    expect(openaiChat.encodeRequest(openaiChat.decodeRequest(encoded, "m", headers))).toEqual(encoded);
  });
});
