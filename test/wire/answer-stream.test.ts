import { expect, test } from "vitest";
import type { ByteSink } from "../../src/core/bytes.ts";
import { ApiError } from "../../src/core/errors.ts";
import { AnswerStream } from "../../src/wire/answer-stream.ts";

/** What a reader gets of an answer of this type that breaks after these pieces. */
function broken(type: string, pieces: readonly string[], headers = {}): { text: string; error: Error | undefined } {
  const got: { text: string; error: Error | undefined } = { text: "", error: undefined };
  const sink: ByteSink = {
    write: (chunk) => {
      got.text += Buffer.from(chunk as Uint8Array).toString();
      return true;
    },
    end: () => expect.unreachable("it ended as if it were complete"),
    fail: (error) => (got.error = error),
  };
  const source = {
    start: (to: ByteSink) => {
      for (const piece of pieces) to.write(Buffer.from(piece));
      to.fail(new Error("reset"));
    },
    resume: () => undefined,
    cancel: () => undefined,
  };
  const told = { error: new ApiError("agent_lost", "gone"), events: "[told]" };
  new AnswerStream({ "content-type": type, ...headers }, source, { renamer: undefined, toTold: () => told }).start(
    sink,
  );
  return got;
}

test.each([
  ["a line of JSON", "application/x-ndjson", ['{"a":1}\n', '{"b"', ":2}\n"]],
  ["an event", "text/event-stream; charset=utf-8", ["data: 1\n", "\n"]],
  ["nothing at all", "application/x-ndjson", []],
])("an answer that breaks behind %s says so in its own form, and is cut", (_, type, pieces) => {
  const { text, error } = broken(type, pieces);
  expect(text).toBe(`${pieces.join("")}[told]`);
  expect(error).toMatchObject({ code: "agent_lost" });
});

test.each([
  ["a line", "application/x-ndjson", ['{"a":1}\n{"b"']],
  ["an event", "text/event-stream", ["data: 1\n"]],
  ["a text of another kind", "application/json", ["{}\n"]],
])("an answer that breaks inside of %s is only cut", (_, type, pieces) => {
  const { text, error } = broken(type, pieces);
  expect([text, error?.message]).toEqual([pieces.join(""), "gone"]);
});

test("a compressed answer gets nothing between its bytes", () => {
  expect(broken("application/x-ndjson", ["\n"], { "content-encoding": "gzip" }).text).toBe("\n");
});
