import { expect, test } from "vitest";
import { errorCodes } from "../../src/tunnel/http2/errors.ts";
import { Http2Session, type SessionOptions } from "../../src/tunnel/http2/session.ts";
import type { Http2Stream } from "../../src/tunnel/http2/stream.ts";
import { linkPair } from "../support/links.ts";
import {
  BareLink,
  bareClient,
  bareServer,
  frame,
  headersFrame,
  number32,
  request,
  settingsFrame,
  Told,
  turn,
} from "../support/http2-peer.ts";

const response = { ":status": "200" };

/** Both ends of one connection in memory, and what each was told. */
async function pair(server: Partial<SessionOptions> = {}, client: Partial<SessionOptions> = {}) {
  const [near, far] = linkPair();
  const streams: Http2Stream[] = [];
  const requests: Told[] = [];
  const closes: string[] = [];
  const ours = new Http2Session(near, { role: "client", onClose: () => closes.push("client"), ...client });
  const theirs = new Http2Session(far, {
    role: "server",
    onStream: (stream, headers) => {
      const told = new Told();
      told.head = headers;
      streams.push(stream);
      requests.push(told);
      return told;
    },
    onClose: () => closes.push("server"),
    ...server,
  });
  await ours.ping();
  return { client: ours, server: theirs, streams, requests, closes };
}

test("a call goes there and back with head, body and end, and nothing of it stays", async () => {
  const { client, server, streams, requests } = await pair();
  const told = new Told();
  const stream = client.open({ ...request, "content-type": "text/plain" }, told, false);
  expect(stream.write("question ")).toBe(true);
  expect(stream.write(Buffer.from("é"))).toBe(true);
  stream.end();
  await requests[0]?.over;
  await client.ping();
  expect(requests[0]!.head).toEqual({ ...request, "content-type": "text/plain" });
  expect(requests[0]!.text).toBe("question é");
  expect(requests[0]!.words).toEqual(["end"]);
  streams[0]!.respond(response, false);
  streams[0]!.write("answer");
  streams[0]!.end();
  await told.over;
  expect([told.head, told.text, told.words]).toEqual([response, "answer", ["head", "end"]]);
  expect([client.openStreams, server.openStreams]).toEqual([0, 0]);
});

test("a request and a response without a body end all the same", async () => {
  const ended: boolean[] = [];
  const { client, server } = await pair({
    onStream: (stream, _headers, isEnded) => {
      ended.push(isEnded);
      const told = new Told();
      told.onEnd = () => stream.respond({ ":status": "204" }, true);
      return told;
    },
  });
  const told = new Told();
  client.open(request, told, true);
  await told.over;
  expect(ended).toEqual([true]);
  expect(told.words).toEqual(["head without a body", "end"]);
  expect([client.openStreams, server.openStreams]).toEqual([0, 0]);
});

test("an answer may end before the request does, and the rest of the request is called off", async () => {
  const { client, server, streams } = await pair();
  const told = new Told();
  const stream = client.open(request, told, false);
  stream.write("part");
  await client.ping();
  streams[0]!.respond({ ":status": "413" }, true);
  streams[0]!.reset(errorCodes.noError);
  await told.over;
  await client.ping();
  expect(told.words).toEqual(["head without a body", "end", "reset 0"]);
  expect([client.openStreams, server.openStreams]).toEqual([0, 0]);
  expect(stream.write("into the void")).toBe(true);
  stream.end();
  await client.ping();
  expect(server.closed).toBe(false);
});

test("a complete answer that waits for its reader survives a reset and the loss of the link", async () => {
  for (const lost of [false, true]) {
    const { client, streams } = await pair();
    const told = new Told();
    const stream = client.open(request, told, false);
    stream.pause();
    await client.ping();
    streams[0]!.respond(response, false);
    streams[0]!.write("whole");
    streams[0]!.end();
    if (!lost) streams[0]!.reset(errorCodes.noError);
    await client.ping();
    if (lost) client.destroy();
    expect(told.words).toEqual(["head"]);
    stream.resume();
    expect([told.text, told.words]).toEqual(["whole", ["head", "end", expect.stringMatching(/^reset/)]]);
    expect(told.resetReason).toMatchObject({ lost });
    client.destroy();
  }
});

test("an answer that was cut is never an end, though all that came is delivered first", async () => {
  const { client, streams } = await pair();
  const told = new Told();
  client.open(request, told, true);
  await client.ping();
  streams[0]!.respond(response, false);
  streams[0]!.write("begin");
  await client.ping();
  streams[0]!.reset(errorCodes.internalError);
  await told.over;
  expect([told.text, told.words]).toEqual(["begin", ["head", `reset ${errorCodes.internalError}`]]);
});

test("after our own reset nothing is told, whatever still comes", async () => {
  const { client, server, streams, requests } = await pair();
  const told = new Told();
  const stream = client.open(request, told, false);
  await client.ping();
  stream.reset(errorCodes.cancel);
  stream.reset(errorCodes.cancel);
  streams[0]!.respond(response, false);
  streams[0]!.write("late");
  await client.ping();
  await client.ping();
  expect(told.words).toEqual([]);
  expect(requests[0]!.resetReason).toMatchObject({ code: errorCodes.cancel, lost: false, refused: false });
  client.destroy();
  expect(told.words).toEqual([]);
  expect(server.openStreams).toBe(0);
});

test("streams over the limit are refused as not processed", async () => {
  const { link, requests } = bareServer({ maxConcurrentStreams: 2 });
  for (const id of [1, 3, 5]) link.feed(headersFrame(id, request, true));
  await turn();
  const refusals = link.take().filter(({ type }) => type === 3);
  expect(refusals.map(({ id, payload }) => [id, payload.readUInt32BE(0)])).toEqual([[5, errorCodes.refusedStream]]);
  expect(requests.length).toBe(2);
  const { client } = await pair({ maxConcurrentStreams: 2 });
  for (const accepting of [true, true, false]) {
    expect(client.accepting).toBe(accepting);
    if (accepting) client.open(request, new Told(), true);
  }
});

test("streams above the last of a GOAWAY are refused as not processed, those below go on", async () => {
  const goaways: number[] = [];
  const { link, session } = bareClient({ onGoaway: () => goaways.push(1) });
  const all = [1, 3, 5].map(() => {
    const told = new Told();
    session.open(request, told, true);
    return told;
  });
  await turn();
  link.feed(frame(7, 0, 0, number32(0x7fffffff, 0)));
  expect([session.accepting, goaways.length, session.openStreams]).toEqual([false, 1, 3]);
  link.feed(frame(7, 0, 0, number32(3, 0)));
  expect(all[2]!.resetReason).toMatchObject({ refused: true, lost: false });
  link.feed(headersFrame(3, response, true), headersFrame(1, response, false));
  link.lose();
  expect(all[1]!.words).toEqual(["head without a body", "end"]);
  expect(all[0]!.resetReason).toMatchObject({ refused: false, lost: true });
  expect(goaways.length).toBe(1);
});

test("a request that never left is lost as not processed, one that left is not", async () => {
  const { link, session } = bareClient();
  const sent = new Told();
  session.open(request, sent, true);
  await turn();
  link.room = false;
  session.open(request, new Told(), true);
  await turn();
  const held = new Told();
  session.open(request, held, true);
  await turn();
  link.lose(new Error("gone"));
  expect(sent.resetReason).toMatchObject({ lost: true, refused: false });
  expect(held.resetReason).toMatchObject({ lost: true, refused: true });
});

test("a server that goes away serves what was on its way, then says which was the last", async () => {
  const { link, session, requests } = bareServer();
  link.feed(headersFrame(1, request, true));
  await turn();
  link.take();
  session.goaway();
  await turn();
  const first = link.take();
  const pinged = first.find(({ type, flags }) => type === 6 && flags === 0)!;
  expect(first.find(({ type }) => type === 7)!.payload.readUInt32BE(0)).toBe(0x7fffffff);
  link.feed(headersFrame(3, request, true), frame(6, 1, 0, pinged.payload), headersFrame(5, request, true));
  await turn();
  const second = link.take();
  expect(second.find(({ type }) => type === 7)!.payload.readUInt32BE(0)).toBe(3);
  expect(requests.map(({ words }) => words)).toEqual([["end"], ["end"]]);
  link.feed(frame(0, 0, 5, "of the one that was not served"));
  expect(session.closed).toBe(false);
});

test("finish waits for open streams, then both ends close, once", async () => {
  const { client, server, streams, closes } = await pair();
  const told = new Told();
  client.open(request, told, true);
  await client.ping();
  let finished = false;
  const finishing = server.finish().then(() => (finished = true));
  await client.ping();
  await client.ping();
  expect([finished, client.accepting, client.closed]).toEqual([false, false, false]);
  streams[0]!.respond(response, true);
  await finishing;
  await turn();
  await turn();
  expect(told.words).toEqual(["head without a body", "end"]);
  expect(closes.sort()).toEqual(["client", "server"]);
  await server.finish();
});

test("a request that was on its way when an idle server finished is served", async () => {
  const { client, server } = await pair({
    onStream: (stream) => {
      stream.respond(response, true);
      return new Told();
    },
  });
  const told = new Told();
  client.open(request, told, true);
  await server.finish();
  expect(told.words).toEqual(["head without a body", "end"]);
});

test("the link is ended only when the last answer has left, however full the link was", async () => {
  const { link, session, requests } = bareServer();
  link.feed(headersFrame(1, request, true));
  void session.finish();
  await turn();
  const pinged = link.take().findLast(({ type, flags }) => type === 6 && flags === 0)!;
  link.room = false;
  link.feed(frame(6, 1, 0, pinged.payload));
  await turn();
  link.take();
  requests[0]!.stream!.respond(response, true);
  await turn();
  expect([session.openStreams, link.ended, link.written.length]).toEqual([0, false, 0]);
  link.drain();
  await turn();
  const sent = link.take().filter(({ id }) => id === 1);
  expect(sent.map(({ type, flags }) => [type, flags])).toEqual([[1, 5]]);
  expect(link.ended).toBe(true);
});

test("a client that finishes lets its calls come to their end", async () => {
  const { client, server, streams } = await pair();
  const told = new Told();
  client.open(request, told, true);
  await client.ping();
  const finishing = client.finish();
  expect(() => client.open(request, new Told(), true)).toThrow("no more streams");
  streams[0]!.respond(response, false);
  streams[0]!.end();
  await finishing;
  expect(told.words).toEqual(["head without a body", "end"]);
  await turn();
  expect(server.closed).toBe(true);
});

test("the loss of the link is told to every stream, then to the session, once", async () => {
  const order: string[] = [];
  const link = new BareLink();
  const session = new Http2Session(link, {
    role: "client",
    onClose: (error) => order.push(`closed: ${error?.message}`),
  });
  link.feed(settingsFrame());
  for (let n = 0; n < 3; n++) {
    const told = new Told();
    told.onReset = ({ lost, message }) => order.push(`${n}: ${lost} ${message}`);
    session.open(request, told, n === 0);
  }
  const ping = session.ping();
  link.lose(new Error("reset by the peer"));
  link.lose();
  session.destroy();
  expect(order.slice(0, 3).sort()).toEqual(
    [0, 1, 2].map((n) => `${n}: true the connection was lost: reset by the peer`),
  );
  expect(order.slice(3)).toEqual(["closed: reset by the peer"]);
  await expect(ping).rejects.toThrow("reset by the peer");
  await expect(session.ping()).rejects.toThrow("closed");
  expect([session.accepting, session.closed, session.openStreams]).toEqual([false, true, 0]);
});

test("destroy from within a stream's own word ends the session in good order", async () => {
  const { link, session, requests, closed } = bareServer();
  link.feed(headersFrame(1, request, false), headersFrame(3, request, false));
  requests[0]!.onData = () => session.destroy(new Error("enough"));
  link.feed(Buffer.concat([frame(0, 0, 1, "x"), frame(0, 0, 3, "never told"), frame(6, 0, 0, "12345678")]));
  expect(requests[1]!.text).toBe("");
  expect(requests[1]!.resetReason).toMatchObject({ lost: true });
  expect(closed.map((error) => error?.message)).toEqual(["enough"]);
  await turn();
});

test("a server's faults in what it sends are thrown to it, and the session goes on", async () => {
  const { link, requests, session } = bareServer();
  link.feed(headersFrame(1, request, true));
  const { stream } = requests[0]!;
  expect(() => stream!.write("before the head")).toThrow("before its head");
  expect(() => stream!.respond({ ":status": "200", "x-a": "b\r\nc: d" }, false)).toThrow("cannot be sent");
  stream!.respond(response, false);
  expect(() => stream!.respond(response, true)).toThrow("sent before");
  stream!.end();
  await turn();
  const sent = link.take().filter(({ id }) => id === 1);
  expect(sent.map(({ type, flags }) => [type, flags])).toEqual([[1, 5]]);
  expect(session.openStreams).toBe(0);
});

test("200,000 short calls leave nothing behind", async () => {
  const { client, server } = await pair({
    onStream: (stream) => {
      stream.respond(response, false);
      const told = {
        onData: (chunk: Buffer) => void stream.write(chunk),
        onEnd: () => stream.end(),
        onReset: () => {},
      };
      return told;
    },
  });
  let left = 200_000;
  let wrong = 0;
  await new Promise<void>((resolve) => {
    const ask = (): void => {
      const body = String(left--);
      let got = "";
      const handler = {
        onData: (chunk: Buffer) => void (got += chunk.toString()),
        onEnd: () => {
          if (got !== body) wrong++;
          if (left > 0) ask();
          else if (client.openStreams === 0) resolve();
        },
        onReset: () => wrong++,
      };
      const stream = client.open(request, handler, false);
      stream.write(body);
      stream.end();
    };
    for (let n = 0; n < 64; n++) ask();
  });
  expect([wrong, client.openStreams, server.openStreams]).toEqual([0, 0, 0]);
});
