import { describe, expect, it } from "vitest";
import { type ByteSink, type ByteStream, toIterable } from "../../src/core/bytes.ts";
import type { Reply } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { keepReply, type Keeping } from "../../src/responses/keep-reply.ts";
import { inPieces, seeded } from "../support/bytes.ts";

const response = (status: string, output: JsonObject[] = []): JsonObject => ({
  id: "resp_inner",
  object: "response",
  status,
  store: false,
  previous_response_id: null,
  output,
});
const item: JsonObject = {
  id: "msg_1",
  type: "message",
  content: [{ type: "output_text", text: '"response": 模型\n\n' }],
};
const written = (event: JsonObject, end = "\n"): string =>
  `event: ${String(event.type)}${end}data: ${JSON.stringify(event)}${end}${end}`;
const untouched: JsonObject[] = [
  { type: "response.output_text.delta", delta: 'he said "response": \n\n 模型', sequence_number: 2 },
  { type: "response.output_item.done", item: { type: "function_call", name: "response", arguments: "{}" } },
  { type: "response.output_item.done", item },
];

/** The stream that a server writes with these line ends, and what its client is to get. */
function exchange(end: string): { sent: string; told: string } {
  const lifecycle = (type: string, id: string, more: JsonObject = {}): JsonObject => ({
    type,
    response: { ...response(type === "response.completed" ? "completed" : "in_progress", [item]), id, ...more },
  });
  const between = `: ping${end}${end}${untouched.map((event) => written(event, end)).join("")}`;
  const stored = { store: true };
  return {
    sent: `${written(lifecycle("response.created", "resp_inner"), end)}${between}${written(lifecycle("response.completed", "resp_inner"), end)}: bye${end}${end}`,
    told: `${written(lifecycle("response.created", "resp_own", stored))}${between}${written(lifecycle("response.completed", "resp_own", stored))}: bye${end}${end}`,
  };
}

/** Bytes pushed as they come, each in a turn of its own, as from a socket. */
function pushed(chunks: AsyncIterable<Uint8Array>): ByteStream {
  let wake = (): void => undefined;
  const run = async (sink: ByteSink): Promise<void> => {
    for await (const chunk of chunks) {
      const resumed = new Promise<void>((resolve) => (wake = resolve));
      if (!sink.write(chunk)) await resumed;
    }
    sink.end();
  };
  return { start: (sink) => void run(sink), resume: () => wake(), cancel: () => undefined };
}

const streamed = (body: ByteStream): Reply => ({ status: 200, headers: { "content-type": "text/event-stream" }, body });

async function textOf({ body }: Reply): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of toIterable(body as ByteStream)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

function keeping(): Keeping & { readonly kept: JsonObject[] } {
  const kept: JsonObject[] = [];
  return {
    kept,
    rewrite: (one) => ({ ...one, id: "resp_own", store: true }),
    finish: async (one) => {
      await new Promise((resolve) => setImmediate(resolve));
      kept.push(one);
      return one;
    },
  };
}

describe("a stream whose response is kept", () => {
  it.each(["\n", "\r\n"])("is the same however its bytes are cut (lines end in %j)", async (end) => {
    const { sent, told } = exchange(end);
    const random = seeded(7);
    for (const longest of [1, 2, 3, 7, 50, 400, 10_000])
      for (let round = 0; round < 5; round++) {
        const one = keeping();
        const reply = await keepReply(streamed(pushed(inPieces(sent, random, longest))), one);
        expect(await textOf(reply)).toBe(told);
        expect(one.kept).toEqual([{ ...response("completed", [item]), id: "resp_own", store: true }]);
      }
  });

  it("ends as it broke, with all that came, and nothing is kept", async () => {
    const { sent, told } = exchange("\n");
    const half = sent.slice(0, sent.indexOf("event: response.completed") + 40);
    const one = keeping();
    const failing: ByteStream = {
      start: (sink) => {
        sink.write(half);
        sink.fail(new Error("it broke"));
      },
      resume: () => undefined,
      cancel: () => undefined,
    };
    const reply = await keepReply(streamed(failing), one);
    const pieces: Uint8Array[] = [];
    const read = async (): Promise<void> => {
      for await (const piece of toIterable(reply.body as ByteStream)) pieces.push(piece);
    };
    await expect(read()).rejects.toThrow("it broke");
    expect(Buffer.concat(pieces).toString()).toBe(told.slice(0, told.indexOf("event: response.completed") + 40));
    expect(one.kept).toEqual([]);
  });

  it("gives its last event only when the response is kept", async () => {
    const order: string[] = [];
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const one: Keeping = {
      rewrite: (it) => it,
      finish: async (it) => {
        await gate;
        order.push("kept");
        return it;
      },
    };
    const { sent } = exchange("\n");
    const reply = await keepReply(streamed(pushed(inPieces(sent, seeded(1), 10_000))), one);
    (reply.body as ByteStream).start({
      write: (chunk) => {
        if (Buffer.from(chunk as Uint8Array).includes("response.completed")) order.push("told");
        else order.push("before");
        setImmediate(open);
        return true;
      },
      end: () => order.push("end"),
      fail: () => undefined,
    });
    while (order.at(-1) !== "end") await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual(["before", "kept", "told", "end"]);
  });
});

describe("a whole reply", () => {
  it("is kept where it is a response, and passes as it is where it is none", async () => {
    const one = keeping();
    const json = (status: number, body: unknown): Reply => ({
      status,
      headers: { "content-type": "application/json", "content-length": "5", "x-lair-target": "a/b" },
      body: JSON.stringify(body),
    });
    const kept = await keepReply(json(200, response("completed")), one);
    expect(JSON.parse(kept.body as string)).toMatchObject({ id: "resp_own", store: true });
    expect(kept.headers).toEqual({ "content-type": "application/json", "x-lair-target": "a/b" });
    expect(one.kept).toHaveLength(1);
    const failure = json(400, { error: { message: "no" } });
    expect(await keepReply(failure, one)).toBe(failure);
    const other = await keepReply(json(200, { object: "list" }), one);
    expect(String(other.body)).toBe('{"object":"list"}');
    expect(one.kept).toHaveLength(1);
  });
});
