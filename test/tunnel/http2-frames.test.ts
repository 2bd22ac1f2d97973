import { expect, test } from "vitest";
import { errorCodes } from "../../src/tunnel/http2/errors.ts";
import { preface } from "../../src/tunnel/http2/frames.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import {
  BareLink,
  bareClient,
  bareServer,
  block,
  frame,
  headersFrame,
  number32,
  request,
  settingsFrame,
  Told,
  turn,
} from "../support/http2-peer.ts";

const response = { ":status": "200" };

/** A client's session with a little of everything that the rules allow. */
function everything(): Buffer {
  const split = block({ ...request, ":path": "/split", "x-long": "l".repeat(300) });
  return Buffer.concat([
    preface,
    settingsFrame([3, 100], [4, 70_000], [99, 1]),
    frame(4, 1, 0),
    headersFrame(1, request, false),
    frame(0, 0, 1, "first "),
    frame(0, 8, 1, Buffer.concat([Buffer.of(5), Buffer.from("padded "), Buffer.alloc(5)])),
    frame(6, 0, 0, number32(7, 8)),
    frame(1, 0x1, 3, split.subarray(0, 100)),
    frame(9, 0, 3, split.subarray(100, 101)),
    frame(9, 4, 3, split.subarray(101)),
    frame(1, 0x2c, 5, Buffer.concat([Buffer.of(3), number32(1), Buffer.of(9), block(request), Buffer.alloc(3)])),
    frame(2, 0, 7, Buffer.alloc(5)),
    frame(77, 0xff, 9, "who knows"),
    frame(8, 0, 0, number32(1000)),
    frame(8, 0, 1, number32(1000)),
    frame(0, 0, 5, ""),
    frame(0, 9, 5, Buffer.alloc(4, 3)),
    frame(0, 0, 1, "last"),
    headersFrame(1, { "x-sum": "1" }, true),
    headersFrame(7, request, false),
    frame(3, 0, 7, number32(8)),
    frame(0, 0, 7, "late"),
  ]);
}

async function tellOf(pieces: Buffer[]): Promise<unknown> {
  const link = new BareLink();
  const requests: Told[] = [];
  const session = new Http2Session(link, {
    role: "server",
    onStream: (_stream, headers, ended) => {
      const told = new Told();
      told.head = headers;
      told.words.push(ended ? "no body" : "body");
      requests.push(told);
      return told;
    },
    onClose: () => {},
  });
  link.feed(...pieces);
  await turn();
  const answers = link.take().map(({ type, flags, id, payload }) => [type, flags, id, payload.toString("hex")]);
  return {
    requests: requests.map(({ head, text, words }) => ({ head, text, words })),
    closed: session.closed,
    answers: answers.filter(([type]) => type !== 6 && type !== 4).concat(answers.filter(([, flags]) => flags === 1)),
  };
}

test("a session is read alike wherever its bytes are cut", async () => {
  const bytes = everything();
  const whole = (await tellOf([bytes])) as { requests: { text: string; words: string[] }[]; closed: boolean };
  expect(whole.closed).toBe(false);
  expect(whole.requests.map(({ text, words }) => [text, ...words])).toEqual([
    ["first padded last", "body", "end"],
    ["", "no body", "end"],
    ["", "body", "end"],
    ["", "body", "reset 8"],
  ]);
  for (let at = 1; at < bytes.length; at++)
    expect(await tellOf([bytes.subarray(0, at), bytes.subarray(at)]), `cut at ${at}`).toEqual(whole);
  for (const size of [1, 2, 7, 10])
    expect(
      await tellOf(
        bytes
          .toString("latin1")
          .match(new RegExp(`[^]{1,${size}}`, "g"))!
          .map(latin1),
      ),
    ).toEqual(whole);
});

function latin1(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

const { protocolError, flowControlError, frameSizeError, compressionError, enhanceYourCalm, streamClosed } = errorCodes;

test.each<[string, number, Buffer[]]>([
  ["DATA of no stream", protocolError, [frame(0, 0, 0, "x")]],
  ["DATA of a stream that never was", protocolError, [frame(0, 0, 1, "x")]],
  [
    "DATA with more padding than frame",
    protocolError,
    [headersFrame(1, request, false), frame(0, 8, 1, Buffer.of(2, 0))],
  ],
  ["padded DATA without the padding's length", frameSizeError, [headersFrame(1, request, false), frame(0, 8, 1)]],
  ["a frame that is too large", frameSizeError, [frame(0, 0, 1, Buffer.alloc(16_385))]],
  ["HEADERS of no stream", protocolError, [headersFrame(0, request, true)]],
  ["HEADERS of an even stream", protocolError, [headersFrame(2, request, true)]],
  ["HEADERS with more padding than frame", protocolError, [frame(1, 0xc, 1, Buffer.of(9, 1))]],
  ["HEADERS that are no HPACK", compressionError, [frame(1, 5, 1, Buffer.of(0x80))]],
  ["CONTINUATION of nothing", protocolError, [frame(9, 4, 1, "")]],
  [
    "another frame between parts of headers",
    protocolError,
    [frame(1, 0, 1, block(request)), frame(6, 0, 0, number32(1, 2))],
  ],
  ["CONTINUATION of another stream", protocolError, [frame(1, 0, 1, block(request)), frame(9, 4, 3)]],
  [
    "headers of more than 64 KB",
    enhanceYourCalm,
    [frame(1, 0, 1), ...Array.from({ length: 5 }, () => frame(9, 0, 1, Buffer.alloc(16_000)))],
  ],
  ["CONTINUATION without end", enhanceYourCalm, [frame(1, 0, 1), ...Array.from({ length: 20 }, () => frame(9, 0, 1))]],
  ["RST_STREAM of no stream", protocolError, [frame(3, 0, 0, number32(8))]],
  ["RST_STREAM of a stream that never was", protocolError, [frame(3, 0, 1, number32(8))]],
  ["RST_STREAM of a wrong size", frameSizeError, [headersFrame(1, request, false), frame(3, 0, 1, "x")]],
  ["SETTINGS of a stream", protocolError, [frame(4, 0, 1)]],
  ["SETTINGS of a wrong size", frameSizeError, [frame(4, 0, 0, "12345")]],
  ["an answer to SETTINGS with something in it", frameSizeError, [frame(4, 1, 0, "123456")]],
  ["a window beyond 2^31", flowControlError, [settingsFrame([4, 0x80000000])]],
  ["a largest frame below 16 KB", protocolError, [settingsFrame([5, 16_383])]],
  ["push that is neither on nor off", protocolError, [settingsFrame([2, 2])]],
  ["PUSH_PROMISE", protocolError, [frame(5, 4, 1, number32(2))]],
  ["PING of a wrong size", frameSizeError, [frame(6, 0, 0, "1234567")]],
  ["PING of a stream", protocolError, [frame(6, 0, 1, "12345678")]],
  ["GOAWAY of a wrong size", frameSizeError, [frame(7, 0, 0, "1234567")]],
  ["WINDOW_UPDATE of a wrong size", frameSizeError, [frame(8, 0, 0, "12345")]],
  ["WINDOW_UPDATE of nothing", protocolError, [frame(8, 0, 0, number32(0))]],
  ["WINDOW_UPDATE of a stream that never was", protocolError, [frame(8, 0, 5, number32(1))]],
  ["the session's window beyond 2^31", flowControlError, [frame(8, 0, 0, number32(0x7fffffff))]],
  ["PRIORITY of a wrong size", frameSizeError, [frame(2, 0, 1, "1234")]],
])("%s ends the session with its code, and every stream with it", async (_name, code, frames) => {
  const { link, session, requests, closed } = bareServer();
  link.feed(...frames);
  await turn();
  expect([session.closed, link.destroyed]).toEqual([true, true]);
  const last = link.take().at(-1)!;
  expect([last.type, last.payload.readUInt32BE(4)]).toEqual([7, code]);
  expect(closed).toEqual([expect.objectContaining({ code })]);
  for (const told of requests) expect(told.resetReason?.lost).toBe(true);
});

test.each<[string, number, Buffer[]]>([
  ["a request without a path", protocolError, [headersFrame(1, { ":method": "GET", ":scheme": "http" }, true)]],
  ["a request with a status", protocolError, [headersFrame(1, { ...request, ":status": "200" }, true)]],
  [
    "a content-length that is no number",
    protocolError,
    [headersFrame(1, { ...request, "content-length": "+1" }, true)],
  ],
  [
    "a body shorter than announced",
    protocolError,
    [headersFrame(1, { ...request, "content-length": "5" }, false), frame(0, 1, 1, "four")],
  ],
  [
    "a body longer than announced",
    protocolError,
    [headersFrame(1, { ...request, "content-length": "3" }, false), frame(0, 0, 1, "four")],
  ],
  ["no body where one was announced", protocolError, [headersFrame(1, { ...request, "content-length": "5" }, true)]],
  [
    "headers in the middle of a body",
    protocolError,
    [headersFrame(1, request, false), headersFrame(1, { a: "b" }, false)],
  ],
  ["more after the end", streamClosed, [headersFrame(1, request, true), frame(0, 0, 1, "x")]],
  ["WINDOW_UPDATE of nothing", protocolError, [headersFrame(1, request, false), frame(8, 0, 1, number32(0))]],
  ["a window beyond 2^31", flowControlError, [headersFrame(1, request, false), frame(8, 0, 1, number32(0x7fffffff))]],
])("%s resets its stream with its code, and the session goes on", async (_name, code, frames) => {
  const { link, session, requests } = bareServer();
  link.feed(...frames, frame(6, 0, 0, number32(1, 2)));
  await turn();
  const sent = link.take();
  expect(sent.filter(({ type }) => type === 3).map(({ id, payload }) => [id, payload.readUInt32BE(0)])).toEqual([
    [1, code],
  ]);
  expect(session.closed).toBe(false);
  expect(sent.some(({ type, flags }) => type === 6 && flags === 1)).toBe(true);
  for (const told of requests) expect(told.words.at(-1)).toMatch(/^reset|end/);
  link.feed(headersFrame(3, request, true));
  expect(requests.at(-1)!.words).toEqual(["end"]);
});

test.each<[string, number, Buffer[]]>([
  ["a body before the head", protocolError, [frame(0, 0, 1, "x")]],
  ["a head without a status", protocolError, [headersFrame(1, { a: "b" }, true)]],
  ["a status that is no number", protocolError, [headersFrame(1, { ":status": "ok" }, true)]],
  ["an end without a head", protocolError, [headersFrame(1, { ":status": "103" }, true)]],
])("%s resets our request", async (_name, code, frames) => {
  const { link, session } = bareClient();
  const told = new Told();
  session.open(request, told, true);
  link.feed(...frames);
  expect(told.resetReason).toMatchObject({ code, lost: false, refused: false });
  expect([session.closed, session.openStreams]).toEqual([false, 0]);
});

test("whoever does not begin as HTTP/2 does is sent away", async () => {
  for (const bytes of [
    "GET / HTTP/1.1\r\n\r\n",
    preface.toString() + frame(6, 0, 0, number32(1, 2)).toString("latin1"),
  ]) {
    const link = new BareLink();
    const errors: (Error | undefined)[] = [];
    const session = new Http2Session(link, { role: "server", onClose: (error) => errors.push(error) });
    link.feed(Buffer.from(bytes, "latin1"));
    expect([session.closed, link.destroyed, errors.length]).toEqual([true, true, 1]);
  }
});

test.each<[string, Buffer]>([
  ["SETTINGS", settingsFrame([3, 5])],
  ["answers to SETTINGS", frame(4, 1, 0)],
  ["PING", frame(6, 0, 0, number32(1, 2))],
  ["answers to PING", frame(6, 1, 0, number32(1, 2))],
  ["empty DATA", frame(0, 0, 1)],
  ["PRIORITY", frame(2, 0, 3, "12345")],
  ["frames of an unknown kind", frame(50, 0, 3, "x")],
  ["RST_STREAM of one stream again and again", frame(3, 0, 3, number32(8))],
  ["headers of a stream that is over", headersFrame(3, { a: "b" }, true)],
])("a flood of %s ends the session before long", async (_name, bytes) => {
  const { link, session } = bareServer();
  link.feed(headersFrame(1, request, false), headersFrame(3, request, false), frame(3, 0, 3, number32(8)));
  const flood = Buffer.concat(Array.from({ length: 1000 }, () => bytes));
  for (let round = 0; round < 100 && !session.closed; round++) link.feed(flood);
  expect(session.closed).toBe(true);
  expect(link.take().at(-1)!.payload.readUInt32BE(4)).toBe(enhanceYourCalm);
});

test("requests that a peer gives up as soon as it makes them are bounded", () => {
  const { link, session, requests } = bareServer();
  for (let id = 1; id < 200_000 && !session.closed; id += 2)
    link.feed(headersFrame(id, request, true), frame(3, 0, id, number32(8)));
  expect(session.closed).toBe(true);
  expect(requests.length).toBeGreaterThan(4000);
  expect(requests.length).toBeLessThan(40_000);
});

test("a peer that makes us answer and reads no answers is sent away before 32 MB wait", async () => {
  const { link, session } = bareServer({
    onStream: (stream) => {
      stream.respond({ ":status": "200", "x-long": "y".repeat(30_000) }, true);
      return new Told();
    },
  });
  await turn();
  link.room = false;
  for (let id = 1; id < 10_000 && !session.closed; id += 2) {
    link.feed(headersFrame(id, request, true));
    if (id % 100 === 1) await turn();
  }
  expect(session.closed).toBe(true);
  expect(Buffer.concat(link.written).length).toBeLessThan(32 * 1024 * 1024);
});

test("what is thrown by a stream's reader resets that stream alone", () => {
  const { link, session, requests } = bareServer();
  link.feed(headersFrame(1, request, false), headersFrame(3, request, false));
  requests[0]!.onData = () => {
    throw new Error("a fault of the reader");
  };
  link.feed(frame(0, 0, 1, "x"), frame(0, 1, 3, "y"));
  expect(requests[0]!.resetReason).toMatchObject({ code: errorCodes.internalError });
  expect(requests[1]!.text).toBe("y");
  expect([session.closed, session.openStreams]).toEqual([false, 1]);
});

test("heads of the response that come before their time are passed over", () => {
  const { link, session } = bareClient();
  const told = new Told();
  session.open(request, told, true);
  link.feed(headersFrame(1, { ":status": "100" }, false), headersFrame(1, { ":status": "103", link: "a" }, false));
  link.feed(headersFrame(1, response, false), frame(0, 1, 1, "body"));
  expect(told.words).toEqual(["head", "end"]);
  expect(told.head).toEqual(response);
});
