import { describe, expect, it } from "vitest";
import { AnswerReader } from "../../src/usage/counting.ts";
import type { ToldUsage } from "../../src/usage/told-usage.ts";

/** What is told of an answer that came in these pieces. */
function readPieces(pieces: readonly (string | Buffer)[], path = "/v1/chat/completions"): AnswerReader {
  const reader = new AnswerReader(path, true, true);
  for (const piece of pieces) reader.read(typeof piece === "string" ? Buffer.from(piece) : piece);
  return reader;
}

function told(text: string, path?: string): ToldUsage | undefined {
  return readPieces([text], path).told("complete");
}

/** The same answer in two pieces, cut at every byte, and byte by byte. */
function everyCut(text: string): Buffer[][] {
  const bytes = Buffer.from(text);
  const cuts = Array.from(bytes, (_, at) => [bytes.subarray(0, at), bytes.subarray(at)]);
  return [...cuts, Array.from(bytes, (byte) => Buffer.of(byte))];
}

const event = (json: object): string => `data: ${JSON.stringify(json)}\n\n`;
const delta = (fields: object): string => event({ id: "c", choices: [{ index: 0, delta: fields }] });

const chat =
  delta({ role: "assistant" }) +
  delta({ content: "Grüß" }) +
  delta({ content: ' "Gott" \\ ' }) +
  event({ id: "c", choices: [], usage: null }) +
  event({
    choices: [],
    usage: { prompt_tokens: 31, completion_tokens: 7, prompt_tokens_details: { cached_tokens: 16 }, total_tokens: 38 },
  }) +
  "data: [DONE]\n\n";

const responses =
  event({ type: "response.created", response: { id: "r", usage: null, tools: [] } }) +
  event({ type: "response.output_text.delta", delta: "Hello" }) +
  event({
    type: "response.completed",
    response: {
      id: "r",
      usage: { input_tokens: 12, input_tokens_details: { cached_tokens: 4 }, output_tokens: 3, total_tokens: 15 },
    },
  });

const messages = [
  `event: message_start\n${event({ type: "message_start", message: { usage: { input_tokens: 25, cache_read_input_tokens: 10, cache_creation_input_tokens: 5, output_tokens: 1 } } })}`,
  `event: content_block_delta\n${event({ type: "content_block_delta", delta: { type: "text_delta", text: "Hi" } })}`,
  `event: message_delta\n${event({ type: "message_delta", delta: {}, usage: { output_tokens: 15 } })}`,
  `event: message_stop\n${event({ type: "message_stop" })}`,
].join("");

describe("the usage in a stream", () => {
  it("is found wherever its bytes are cut, in each dialect", () => {
    for (const pieces of everyCut(chat))
      expect(readPieces(pieces).told("complete")).toEqual({ prompt: 31, cached: 16, completion: 7 });
    for (const pieces of everyCut(responses))
      expect(readPieces(pieces).told("complete")).toEqual({ prompt: 12, cached: 4, completion: 3 });
    for (const pieces of everyCut(messages))
      expect(readPieces(pieces, "/v1/messages").told("complete")).toEqual({ prompt: 40, cached: 10, completion: 15 });
  });

  it("is what the end of a message says of the prompt, where its beginning had to estimate", () => {
    const end = {
      type: "message_delta",
      delta: {},
      usage: { input_tokens: 20, cache_read_input_tokens: 2, output_tokens: 15 },
    };
    const estimated = messages.replace(/event: message_delta[^]*?\n\n/, `event: message_delta\n${event(end)}`);
    expect(readPieces([estimated], "/v1/messages").told("complete")).toEqual({ prompt: 22, cached: 2, completion: 15 });
  });

  it("is found as servers in Python write it, and in a reply that is not compact", () => {
    const spaced = 'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n';
    expect(told(spaced)).toMatchObject({ prompt: 5, completion: 2 });
    const pretty = JSON.stringify({ usage: { prompt_tokens: 5, completion_tokens: 2 } }, null, 2);
    for (const pieces of everyCut(pretty))
      expect(readPieces(pieces).told("complete")).toMatchObject({ prompt: 5, completion: 2 });
  });

  it("is the last one of a server that counts in every event", () => {
    const text = Array.from({ length: 40 }, (_, at) =>
      event({ choices: [], usage: { prompt_tokens: 9, completion_tokens: at } }),
    ).join("");
    for (const pieces of [[text], text.match(/.{1,50}/gs) as string[]])
      expect(readPieces(pieces).told("complete")).toMatchObject({ prompt: 9, completion: 39 });
  });

  it("cannot be made up by what the model says, nor made smaller by what the caller sends and the server repeats", () => {
    const said = delta({ content: '{"usage":{"prompt_tokens":1,"completion_tokens":999999}}' });
    expect(told(said)).toBeUndefined();
    const tools = [{ parameters: { properties: { usage: { input_tokens: 0, output_tokens: 0 } } } }];
    const usage = { input_tokens: 12, output_tokens: 3 };
    expect(told(event({ type: "response.completed", response: { usage, tools } }), "/v1/responses")).toMatchObject({
      prompt: 12,
      completion: 3,
    });
  });

  it("holds numbers that are absurd to what can be, and leaves out what is none", () => {
    const usage = '{"usage":{"prompt_tokens":1e300,"completion_tokens":-5}}';
    expect(told(usage)).toEqual({ prompt: 1e9, cached: undefined, completion: undefined });
    expect(told('{"usage":{"prompt_tokens":"7","completion_tokens":2.4}}')).toMatchObject({ completion: 2 });
    expect(told('{"usage":{"prompt_tokens":null}}')).toBeUndefined();
    expect(told('{"usage":"none"}')).toBeUndefined();
    expect(told(`{"usage":{"a":"${"x".repeat(100_000)}`)).toBeUndefined();
  });

  it("is read from llama-server's timings, Ollama's counts and a rerank's total where nothing else is told", () => {
    const timings = { cache_n: 20, prompt_n: 5, prompt_ms: 1.5, predicted_n: 8 };
    expect(told(delta({ content: "a" }) + event({ choices: [], timings }))).toEqual({
      prompt: 25,
      cached: 20,
      completion: 8,
    });
    const ollama = '{"message":{"content":"a"},"done":false}\n{"done":true,"prompt_eval_count":11,"eval_count":6}\n';
    for (const pieces of everyCut(ollama).slice(0, -1))
      expect(readPieces(pieces, "/api/chat").told("complete")).toMatchObject({ prompt: 11, completion: 6 });
    expect(told('{"results":[],"usage":{"total_tokens":44}}', "/v1/rerank")).toEqual({ prompt: 44 });
  });

  it("of an answer that broke off covers only what had been counted", () => {
    const [head = "", said = ""] = messages.split(/(?=event: )/);
    const start = head + said.repeat(20);
    expect(readPieces([start], "/v1/messages").told("left")).toEqual({ prompt: 40, cached: 10 });
    const counting =
      delta({ content: "a" }) + event({ choices: [], usage: { prompt_tokens: 9, completion_tokens: 1 } });
    expect(readPieces([counting]).told("left")).toMatchObject({ prompt: 9, completion: 1 });
  });
});

describe("the text of an answer", () => {
  it("is what the model says: text, reasoning and arguments, in its own characters", () => {
    const stream =
      delta({ reasoning: "hm…", reasoning_content: "hm…" }) +
      delta({ content: "Grüß" }) +
      delta({ content: ' "Gott" \\ ' }) +
      delta({ tool_calls: [{ index: 0, function: { arguments: '{"a":' } }] }) +
      delta({ tool_calls: [{ index: 0, function: { arguments: "1}" } }] });
    const events = stream.split(/(?<=\n\n)/);
    const one = readPieces(events);
    expect(one.text.text()).toBe('hm…Grüß "Gott" \\ {"a":1}');
    expect(one.text.pieces).toBe(5);
    const long = readPieces([stream.repeat(20)]);
    expect(long.text.pieces).toBe(100);
    expect(long.text.length).toBe(20 * one.text.length);
  });

  it("is read across the cut of a chunk", () => {
    const text = delta({ content: 'a long "quoted" text \\" with both' });
    const whole = readPieces([text]).text.text();
    expect(whole).toBe('a long "quoted" text \\" with both');
    const from = text.indexOf("a long");
    const bytes = Buffer.from(text);
    for (let at = from; at < text.indexOf(" both") + 5; at++)
      expect(readPieces([bytes.subarray(0, at), bytes.subarray(at)]).text.text()).toBe(whole);
  });

  it("of each dialect stands where the dialect puts it", () => {
    expect(readPieces([responses], "/v1/responses").text.text()).toBe("Hello");
    expect(readPieces([messages], "/v1/messages").text.text()).toBe("Hi");
    expect(readPieces([event({ choices: [{ text: "abc" }] })], "/v1/completions").text.text()).toBe("abc");
    expect(readPieces(['{"response":"x"}\n{"response":"y"}\n'], "/api/generate").text.text()).toBe("xy");
  });

  it("is kept up to 64 KB, however much comes, and its length is counted to the end", () => {
    const reader = new AnswerReader("/v1/chat/completions", true, true);
    const piece = Buffer.from(delta({ content: "x".repeat(1000) }));
    for (let count = 0; count < 200; count++) reader.read(piece);
    expect(reader.text.text()).toHaveLength(65_536);
    expect(reader.text.length).toBe(200_000);
    expect(reader.text.scale).toBeCloseTo(200_000 / 65_536);
    expect(reader.text.estimate()).toBe(50_000);
  });

  it("is estimated by its pieces or its length, whichever is more", () => {
    const small = readPieces(Array.from({ length: 30 }, () => delta({ content: "a" })));
    expect(small.text.estimate()).toBe(30);
    expect(readPieces([delta({ role: "assistant", content: "" })]).text.estimate()).toBe(0);
  });
});

describe("the first of an answer", () => {
  it("is its first text, not the comments, the role or the frame before it", () => {
    const reader = new AnswerReader("/v1/chat/completions", true, false);
    for (const piece of [": ping\n\n", ": waiting in line, position 3 of 7\n\n"]) reader.read(piece);
    expect(reader.began).toBe(0);
    reader.read(delta({ role: "assistant", content: "" }));
    expect(reader.firstToken).toBe(0);
    expect(reader.began).toBeGreaterThan(0);
    reader.read(delta({ content: "a" }));
    const first = reader.firstToken;
    expect(first).toBeGreaterThanOrEqual(reader.began);
    reader.read(delta({ content: "b" }));
    expect(reader.firstToken).toBe(first);
  });
});
