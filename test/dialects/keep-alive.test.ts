import { describe, expect, test } from "vitest";
import { decodeKeepAlive } from "../../src/dialects/keep-alive.ts";
import { decodeRequest, encodeRequest } from "../../src/dialects/openai-chat/request.ts";
import { decodeCompletion } from "../../src/dialects/openai-completions.ts";

const messages = [{ role: "user", content: "Hi" }];

describe("keep_alive", () => {
  test.each([
    [300, 300],
    [0, 0],
    [-1, -1],
    [-0.5, -1],
    ["300", 300],
    ["0", 0],
    ["5m", 300],
    ["1h30m", 5400],
    ["1.5s", 1.5],
    ["250ms", 0.25],
    ["-1m", -1],
    [null, undefined],
  ])("%j is %j seconds", (value, seconds) => {
    expect(decodeKeepAlive({ keep_alive: value })).toBe(seconds);
  });

  test.each(["", "soon", "5 m", "1m;", "m", "1e9h", "9".repeat(400), true, ["5m"]])(
    "%j is refused, and the field named",
    (value) => {
      expect(() => decodeKeepAlive({ keep_alive: value })).toThrow(expect.objectContaining({ param: "keep_alive" }));
    },
  );

  test("comes with chats and completions, and goes on to another server", () => {
    const chat = decodeRequest({ messages, keep_alive: "10m" }, "m", {});
    expect([chat.keepAlive, chat.extra]).toEqual([600, {}]);
    expect(encodeRequest(chat)).toMatchObject({ keep_alive: 600 });
    expect(decodeCompletion({ prompt: "Hi", keep_alive: 0 }, "m").requests[0]?.keepAlive).toBe(0);
  });
});
