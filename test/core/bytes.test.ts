import { expect, test } from "vitest";
import { type ByteSink, type ByteStream, whenOver } from "../../src/core/bytes.ts";

/** A stream that a test drives by the sink it was given. */
function driven(): { stream: ByteStream; sink: () => ByteSink } {
  let given: ByteSink | undefined;
  const stream: ByteStream = { start: (sink) => void (given = sink), resume: () => undefined, cancel: () => undefined };
  return { stream, sink: () => given as ByteSink };
}

test.each<[string, (sink: ByteSink, watched: ByteStream) => void, unknown[]]>([
  ["ends", (sink) => sink.end(), ["end", undefined]],
  ["ends and tells of a failure", (sink) => sink.end(new Error("told")), ["end", "told"]],
  ["breaks", (sink) => sink.fail(new Error("broke")), ["fail", "broke"]],
  ["is given up, and then ends all the same", (sink, watched) => (watched.cancel(), sink.end()), ["end", undefined]],
])("a watched stream that %s says so once, and passes on how", (_what, finish, expected) => {
  let times = 0;
  let how: unknown[] = [];
  const { stream, sink } = driven();
  const watched = whenOver(stream, () => void times++);
  watched.start({
    write: () => true,
    end: (problem) => (how = ["end", problem?.message]),
    fail: (error) => (how = ["fail", error.message]),
  });
  finish(sink(), watched);
  expect([times, how]).toEqual([1, expected]);
});
