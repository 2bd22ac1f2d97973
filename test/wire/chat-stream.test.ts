import { describe, expect, test } from "vitest";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { ApiError } from "../../src/core/errors.ts";
import { isObject } from "../../src/core/json.ts";
import { ChatStream } from "../../src/wire/chat-stream.ts";

/** A source that a test pushes by hand, and a sink that keeps what it got. */
class Line implements ByteStream, ByteSink {
  to!: ByteSink;
  text = "";
  outcome: "open" | "ended" | Error = "open";
  cancelled = false;
  room = true;
  resumed = 0;
  start(sink: ByteSink): void {
    this.to = sink;
  }
  resume(): void {
    this.resumed++;
  }
  cancel(): void {
    this.cancelled = true;
  }
  write(chunk: Uint8Array | string): boolean {
    this.text += Buffer.from(chunk as Uint8Array).toString();
    return this.room;
  }
  end(problem?: Error): void {
    this.outcome = problem ?? "ended";
  }
  fail(error: Error): void {
    this.outcome = error;
  }
}

function open(model = "vllm:Qwen/Qwen3"): { line: Line; stream: ChatStream } {
  const line = new Line();
  const stream = new ChatStream(line, {
    provider: "vllm",
    model,
    promptEstimate: 7,
    heartbeat: 0,
    toError: (event) =>
      isObject(event) && isObject(event.error)
        ? new ApiError("upstream_error", `said ${String(event.error.message)}`)
        : undefined,
  });
  stream.start(line);
  return { line, stream };
}

const chunk = (delta: object, finish: string | null = null, more: object = {}): string =>
  `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "Qwen/Qwen3", choices: [{ index: 0, delta, finish_reason: finish }], ...more })}\n\n`;
const usage = `data: ${JSON.stringify({ id: "c", model: "Qwen/Qwen3", choices: [], usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 } })}\n\n`;
const done = "data: [DONE]\n\n";
const whole =
  chunk({ role: "assistant", content: "" }) +
  chunk({ content: 'say "model":"Qwen/Qwen3" é 日' }) +
  chunk({}, "stop") +
  usage +
  done;

function events(text: string): {
  model?: string;
  error?: { code: string; message: string };
  usage?: object;
  choices?: { delta: Record<string, unknown>; finish_reason: string | null }[];
}[] {
  return text
    .split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice(6)));
}

describe("ChatStream", () => {
  test("names the model as the client did, in every chunk, and leaves the text alone", () => {
    const { line } = open('vllm:$&"日');
    line.to.write(Buffer.from(whole));
    line.to.end();
    expect(events(line.text).map((event) => event.model)).toEqual(Array(4).fill('vllm:$&"日'));
    expect(events(line.text)[1]?.choices?.[0]?.delta.content).toBe('say "model":"Qwen/Qwen3" é 日');
    expect(line.text.endsWith(done)).toBe(true);
    expect(line.outcome).toBe("ended");
  });

  test("gives the same text however the bytes are cut, with either line end", () => {
    const plain = open();
    plain.line.to.write(Buffer.from(whole));
    plain.line.to.end();
    for (const text of [whole, whole.replaceAll("\n", "\r\n")]) {
      const bytes = Buffer.from(text);
      for (let size = 1; size < 40; size++) {
        const { line } = open();
        for (let at = 0; at < bytes.length; at += size) line.to.write(bytes.subarray(at, at + size));
        line.to.end();
        expect(line.text).toBe(plain.line.text);
      }
    }
  });

  test.each([
    ["reasoning", "reasoning_content"],
    ["reasoning_content", "reasoning"],
  ])("doubles %s as %s", (name, twin) => {
    const { line } = open();
    line.to.write(Buffer.from(chunk({ [name]: 'so "it" \\ is' }) + chunk({ [name]: "" }) + chunk({}, "stop")));
    expect(events(line.text)[0]?.choices?.[0]?.delta).toEqual({ [name]: 'so "it" \\ is', [twin]: 'so "it" \\ is' });
    expect(events(line.text)[1]?.choices?.[0]?.delta).toEqual({ [name]: "", [twin]: "" });
  });

  test("reports an end without a finish reason as an error, never as an end", () => {
    for (const last of ["", done]) {
      const { line } = open();
      line.to.write(Buffer.from(chunk({ content: "half" }) + chunk({ content: " an answer" }, "") + last));
      line.to.end();
      expect(events(line.text)[1]?.choices?.[0]?.delta.content).toBe(" an answer");
      expect(events(line.text).at(-1)?.error?.code).toBe("upstream_error");
      expect(line.text).not.toContain('"finish_reason":"');
    }
  });

  test("reports a broken connection, unless all of the answer had come", () => {
    const half = open();
    half.line.to.write(Buffer.from(chunk({ content: "half" })));
    half.line.to.fail(new Error("ECONNRESET"));
    expect(events(half.line.text).at(-1)?.error?.code).toBe("upstream_error");
    expect(half.line.text).not.toContain("ECONNRESET");
    const full = open();
    full.line.to.write(Buffer.from(chunk({ content: "all" }) + chunk({}, "stop")));
    full.line.to.fail(new Error("ECONNRESET"));
    expect(events(full.line.text).at(-1)?.error).toBeUndefined();
    expect(full.line.text.endsWith(done)).toBe(true);
  });

  test("passes what came before an error event, reports it in our form and gives the upstream up", () => {
    const { line } = open();
    line.to.write(
      Buffer.from(
        `${chunk({ content: 'an "error" in text' })}data: {"error":{"message":"out of memory","code":500}}\n\n${done}`,
      ),
    );
    line.to.end();
    expect(events(line.text)[0]?.choices?.[0]?.delta.content).toBe('an "error" in text');
    expect(events(line.text).at(-1)?.error?.message).toBe("said out of memory");
    expect(line.cancelled).toBe(true);
  });

  test("adds usage where the server sent none, and only there", () => {
    const without = open();
    without.line.to.write(Buffer.from(chunk({ content: "a" }) + chunk({}, "stop") + done));
    expect(events(without.line.text).at(-1)?.usage).toEqual({
      prompt_tokens: 7,
      completion_tokens: 1,
      total_tokens: 8,
    });
    const within = open();
    within.line.to.write(Buffer.from(whole));
    expect(events(within.line.text).filter((event) => event.usage !== undefined)).toHaveLength(1);
  });

  test("hands backpressure through in both directions", () => {
    const { line, stream } = open();
    line.room = false;
    expect(line.to.write(Buffer.from(chunk({ content: "a" })))).toBe(false);
    stream.resume();
    expect(line.resumed).toBe(1);
  });

  test("gives up on an event without end", () => {
    const { line } = open();
    const flood = Buffer.alloc(6 * 1024 * 1024, "x");
    for (let round = 0; round < 3; round++) line.to.write(flood);
    expect(events(line.text).at(-1)?.error?.message).toContain("16 MB");
    expect(line.cancelled).toBe(true);
  });

  test("says nothing more after its reader has gone", () => {
    const { line, stream } = open();
    stream.cancel();
    expect(line.cancelled).toBe(true);
    line.to.write(Buffer.from(whole));
    line.to.fail(new Error("late"));
    expect(line.text).toBe("");
    expect(line.outcome).toBe("open");
  });
});
