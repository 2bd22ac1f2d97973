import { expect, test } from "vitest";
import { decodeRequest } from "../../src/dialects/openai-chat/request.ts";
import { decodeCompletion } from "../../src/dialects/openai-completions.ts";

const ask = { messages: [{ role: "user", content: "hello" }] };

test.each([[{ service_tier: "flex" }], [{ priority: 1 }], [{ priority: "background" }]])(
  "%j may wait for others, in chats and completions",
  (field) => {
    expect(decodeRequest({ ...ask, ...field }, "m", {}).priority).toBe("background");
    expect(decodeCompletion({ prompt: "x", ...field }, "m").requests[0]?.priority).toBe("background");
  },
);

test.each([[{}], [{ service_tier: "auto" }], [{ priority: 0 }], [{ priority: -1 }], [{ priority: "high" }]])(
  "%j waits for nobody",
  (field) => {
    expect(decodeRequest({ ...ask, ...field }, "m", {}).priority).toBeUndefined();
  },
);
