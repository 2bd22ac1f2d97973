import { expect, test } from "vitest";
import { LineSplitter, parseSse } from "../../src/wire/sse.ts";
import { arriving, drain, inPieces, seeded } from "../support/bytes.ts";

const events = async (...chunks: (string | Uint8Array)[]) => (await drain(parseSse(arriving(...chunks)))).items;

test.each([
  ["LF", "data: a\n\ndata: b\n\n"],
  ["CRLF", "data: a\r\n\r\ndata: b\r\n\r\n"],
  ["CR", "data: a\r\rdata: b\r\r"],
  ["a mixture", "data: a\r\n\ndata: b\n\r\n"],
  ["no space after the colon", "data:a\n\ndata:b\n\n"],
  ["comments in between", ": ping\n\ndata: a\n: ping\n\n: ping\n\n\ndata: b\n\n"],
  ["ids and retry times", "id: 1\ndata: a\n\nretry: 3\nid\ndata: b\n\n"],
  ["a byte order mark", "\ufeffdata: a\n\ndata: b\n\n"],
  ["no end to the last event", "data: a\n\ndata: b"],
  ["a last line without the blank one", "data: a\n\ndata: b\n"],
])("two events are read with %s", async (_, text) => {
  expect(await events(text)).toEqual([{ data: "a" }, { data: "b" }]);
});

test("several data lines are one event", async () => {
  expect(await events("data: {\ndata:   1\ndata\ndata: }\n\n")).toEqual([{ data: "{\n  1\n\n}" }]);
});

test("the event's name belongs to its event only", async () => {
  expect(await events("event: ping\n\nevent: error\ndata: x\n\ndata: y\n\n")).toEqual([
    { event: "error", data: "x" },
    { data: "y" },
  ]);
});

test("a CR at the end of a chunk and the LF of the next are one line end", async () => {
  expect(await events("data: a\r", "\ndata: b\r", "\n\r", "\n")).toEqual([{ data: "a\nb" }]);
});

test("a raw line in the body is handed on, and disturbs no event", async () => {
  const line = '{"error_code":10402,"text":"Failed to get response after a period of time"}';
  expect(await events(`data: a\n\n${line}\n\ndata: b\n\n`)).toEqual([
    { data: "a" },
    { data: "", stray: line },
    { data: "b" },
  ]);
});

test("any split of the bytes gives the same events", async () => {
  const text =
    '\ufeffdata: {"content":"Grüße 你好 🦙"}\r\n\r\n: ping\r\revent: x\ndata: 🦙\ndata: é\n\n{"error_code":1}\ndata: [DONE]';
  const whole = await events(text);
  expect(whole).toHaveLength(4);
  for (let seed = 0; seed < 200; seed++) {
    expect((await drain(parseSse(inPieces(text, seeded(seed), 1 + (seed % 7))))).items).toEqual(whole);
  }
});

test("events before a line that is too long still arrive", async () => {
  const { items, error } = await drain(
    parseSse(arriving("data: a\n\ndata: ", "x".repeat(200), "x".repeat(200), "\n\n"), 100),
  );
  expect(items).toEqual([{ data: "a" }]);
  expect(error).toMatchObject({ code: "upstream_error" });
});

test("an event of many lines is bounded too", async () => {
  const { error } = await drain(parseSse(arriving("data: 0123456789\n".repeat(20)), 100));
  expect(error).toMatchObject({ code: "upstream_error" });
});

test("a failure of the bytes is passed on after the events before it", async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from("data: a\n\ndata: b");
    throw new Error("reset");
  }
  const { items, error } = await drain(parseSse(broken()));
  expect(items).toEqual([{ data: "a" }]);
  expect(error).toMatchObject({ message: "reset" });
});

test("a broken last character becomes a replacement character, not a loss", () => {
  const lines = new LineSplitter();
  lines.push(Buffer.from([0x61, 0xe4, 0xbd]));
  expect(lines.end()).toEqual(["a\ufffd"]);
});
