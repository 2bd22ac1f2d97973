import { describe, expect, it } from "vitest";
import { isStream } from "../../src/core/bytes.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { type Arrived, beginEvents } from "../support/tunnel-agent.ts";
import { FedBody, readReply, settled, toCall } from "../support/tunnel-calls.ts";
import { answering, startFleet } from "../support/tunnel-fleet.ts";

const megabyte = 1024 * 1024;

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    (value) => `no error, but ${JSON.stringify(value)}`,
    (error: { code: string }) => error.code,
  );
}

function answerEmpty({ stream }: Arrived): void {
  stream.respond({ ":status": "200" }, false);
  stream.end();
}

describe("a body that is too large to be held", () => {
  it.each([
    ["whose length is known", { "content-length": String(32 * megabyte) }],
    ["whose length is not known", {}],
  ])("%s flows to the agent before it is whole, and arrives as it was sent", async (_what, headers) => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const body = new FedBody();
    const { call } = toCall({ body, headers });
    const reply = fleet.handler(call);
    const pieces = [Buffer.from('{"model":"demo","image":"'), Buffer.alloc(2 * megabyte, 0x61)];
    for (const piece of pieces) body.feed(piece);
    const { stream, received, body: whole, headers: arrived } = await agent.call();
    await agent.until(() => received() >= 2 * megabyte);
    expect(arrived["content-length"]).toBe((headers as Record<string, string>)["content-length"]);
    let size = pieces.reduce((sum, { length }) => sum + length, 0);
    for (; size < 32 * megabyte - 256 * 1024; size += 256 * 1024) {
      body.feed(Buffer.alloc(256 * 1024, 0x62));
      await settled(3);
    }
    body.feed(`${"c".repeat(32 * megabyte - size - 2)}"}`);
    body.end();
    expect((await whole).length).toBe(32 * megabyte);
    expect((await whole).subarray(-2).toString()).toBe('"}');
    expect((await whole).subarray(0, 25).toString()).toBe('{"model":"demo","image":"');
    answerEmpty({ stream } as Arrived);
    expect((await reply).status).toBe(200);
  });

  it("flows with another name of its model where the agent was named, and says how long it then is", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const body = new FedBody();
    const head = '{ "x":1, "model" : "home/demo" ,"y":"';
    const rest = Buffer.alloc(2 * megabyte, 0x61);
    const length = head.length + rest.length + 2;
    const { call } = toCall({ body, headers: { "content-length": String(length) } });
    const reply = fleet.handler(call);
    body.feed(head);
    body.feed(rest);
    body.feed('"}');
    body.end();
    const arrived = await agent.call();
    expect(arrived.headers["content-length"]).toBe(String(length - 5));
    const bytes = await arrived.body;
    expect(bytes.length).toBe(length - 5);
    expect(bytes.subarray(0, 40).toString()).toMatch(/^\{ "x":1, "model" : "demo" ,"y":"a/);
    answerEmpty(arrived);
    await reply;
  });

  it("is read on until the name comes, however late", async () => {
    const { fleet, join } = startFleet();
    const agent = await join({ onCall: answering("home") });
    const body = new FedBody();
    const { call } = toCall({ body });
    const reply = fleet.handler(call);
    body.feed('{"x":"');
    for (let piece = 0; piece < 12; piece++) body.feed(Buffer.alloc(256 * 1024, 0x61));
    await settled();
    expect(agent.calls).toEqual([]);
    body.feed('","model":"home/demo"}');
    body.end();
    expect(JSON.parse((await readReply(await reply)).text)).toMatchObject({ asked: "demo", model: "home/demo" });
  });

  it("is refused when it names a second model further back, which no reader may take for the first", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const body = new FedBody();
    const { call } = toCall({ body });
    const reply = codeOf(fleet.handler(call));
    body.feed('{"model":"demo","x":"');
    body.feed(Buffer.alloc(2 * megabyte, 0x61));
    const arrived = await agent.call();
    body.feed('","model":"home/other"}');
    body.end();
    expect(await reply).toBe("invalid_value");
    expect((await arrived.reset).code).toBe(8);
    expect(body.cancelled).toBe(true);
  });

  it("stops at the largest size that a body may have", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const body = new FedBody();
    const { call } = toCall({ body, bodyLimit: 3 * megabyte });
    const reply = codeOf(fleet.handler(call));
    body.feed('{"model":"demo","x":"');
    for (let piece = 0; piece < 4; piece++) body.feed(Buffer.alloc(megabyte, 0x61));
    expect(await reply).toBe("request_too_large");
    expect((await (await agent.call()).reset).code).toBe(8);
  });

  it("is let go when nobody may have it", async () => {
    const { fleet, join } = startFleet();
    await join({ name: "a" });
    await join({ name: "b" });
    const body = new FedBody();
    const reply = codeOf(fleet.handler(toCall({ body }).call));
    body.feed('{"model":"unknown","x":"');
    body.feed(Buffer.alloc(2 * megabyte, 0x61));
    expect(await reply).toBe("model_not_found");
    expect(body.cancelled).toBe(true);
  });

  it("ends at the agent when its sender breaks off", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const body = new FedBody();
    const reply = fleet.handler(toCall({ body }).call).catch((error: unknown) => error);
    body.feed('{"model":"demo","x":"');
    body.feed(Buffer.alloc(2 * megabyte, 0x61));
    const arrived = await agent.call();
    body.fail(new Error("gone"));
    expect((await arrived.reset).code).toBe(8);
    expect(await reply).toMatchObject({ message: "gone" });
    expect(fleet.agents()[0]?.inFlight).toBe(0);
  });
});

describe("a body that is held", () => {
  it("arrives byte by byte as it was sent, but for the name of an agent", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const text =
      '{"seed":12345678901234567890, "m":"\\ud83d", "model" : "home/demo" ,"é":[1.0,{"model":"home/demo"}] }\n';
    void fleet.handler(toCall({ body: Buffer.from(text) }).call).catch(() => undefined);
    expect((await (await agent.call()).body).toString()).toBe(text.replace("home/demo", "demo"));
  });

  it("that names its model twice names it by the last, and has it set everywhere", async () => {
    const { fleet, join } = startFleet();
    await join({ name: "work", models: ["other"] });
    const agent = await join({ name: "home" });
    void fleet
      .handler(toCall({ body: Buffer.from('{"model":"work/other","model":"home/demo"}') }).call)
      .catch(() => undefined);
    expect((await (await agent.call()).body).toString()).toBe('{"model":"demo","model":"demo"}');
  });

  it("that is no JSON goes on as it is where that can do no harm, and never hangs the relay", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const answers: string[] = [];
    for (const text of [
      '{"model":"home/demo","junk"} "x" "y"',
      '{"model":"home/demo","model":"home/demo","junk"} "x" "y"',
      '{"model":"home/demo"',
      '{"model":"home/demo","\\x":1}',
    ]) {
      const outcome = fleet.handler(toCall({ body: Buffer.from(text) }).call).then(
        () => "answered",
        (error: { code: string }) => error.code,
      );
      await settled();
      for (const call of agent.calls.splice(0)) answerEmpty(call);
      answers.push(await outcome);
    }
    expect(answers).toEqual(["answered", "invalid_json", "answered", "answered"]);
  });
});

describe("a reply from an agent that was named", () => {
  it("says the whole name in every event, wherever the stream is split", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const sent = 'data: {"model":"demo","n":1}\n\ndata: {"model": "demo","n":2}\n\ndata: [DONE]\n\n';
    for (let at = 1; at < sent.length; at += 3) {
      const { call } = toCall({ json: { model: "home/demo", stream: true } });
      const reply = fleet.handler(call);
      const arrived = await agent.call(agent.calls.length);
      beginEvents(arrived);
      const answered = await reply;
      expect(isStream(answered.body)).toBe(true);
      const read = readReply(answered);
      arrived.stream.write(sent.slice(0, at));
      await settled(4);
      arrived.stream.write(sent.slice(at));
      arrived.stream.end();
      expect((await read).text, `split at ${at}`).toBe(sent.replaceAll('"demo"', '"home/demo"'));
    }
  });

  it("has no length that it does not have", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const reply = fleet.handler(toCall({ json: { model: "home/demo" } }).call);
    const { stream } = await agent.call();
    const json: JsonObject = { model: "demo", text: "x".repeat(200_000) };
    const bytes = Buffer.from(JSON.stringify(json));
    stream.respond({ ":status": "200", "content-length": String(bytes.length) }, false);
    stream.write(bytes.subarray(0, 1000));
    const answered = await reply;
    stream.write(bytes.subarray(1000));
    stream.end();
    expect(answered.headers["content-length"]).toBeUndefined();
    expect(JSON.parse((await readReply(answered)).text)).toEqual({ ...json, model: "home/demo" });
  });

  it("keeps the length where nothing is renamed", async () => {
    const { fleet, join } = startFleet();
    const agent = await join();
    const reply = fleet.handler(toCall({ json: { model: "demo" } }).call);
    const { stream } = await agent.call();
    stream.respond({ ":status": "200", "content-length": "4" }, false);
    stream.write("12");
    const answered = await reply;
    expect(answered.headers["content-length"]).toBe("4");
    stream.write("34");
    stream.end();
    expect((await readReply(answered)).text).toBe("1234");
  });
});
