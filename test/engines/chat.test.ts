import { describe, expect, test } from "vitest";
import { scriptedModel } from "../../src/engines/llama/scripted-model.ts";
import { chatRequest, readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;

describe("a chat with the embedded llama.cpp", () => {
  test("says what the model says, piece by piece, and counts its tokens", async () => {
    const model = writeModel("talker.gguf", scriptedModel({ scripts: [{ after: "\n", say: ["Hello", " to", " you."] }] }));
    const engine = startEngine({ model });
    const answer = await readAnswer(engine.chat(chatRequest("talker", "Hi"), never));
    expect(answer.events.filter((event) => event.type === "text").map((event) => event.text)).toEqual(["Hello", " to", " you."]);
    expect(answer.reason).toBe("stop");
    // "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n": 3 control tokens and a token for each of 18 characters; 3 pieces and the end.
    expect(answer.usage).toEqual({ promptTokens: 21, completionTokens: 4, cachedTokens: 0 });
  });
});
