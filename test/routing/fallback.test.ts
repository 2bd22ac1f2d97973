import { createServer } from "node:net";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { gate } from "../support/fake-server.ts";
import {
  type Answering,
  breaking,
  card,
  failing,
  startGateway,
  startUpstream,
  type TestGateway,
  until,
} from "../support/routing.ts";
import { openUnanswered } from "../support/tunnel-caller.ts";

const models = { coder: ["home/big", "office/small"] };

/** Two upstreams behind a virtual model; the first answers as told. */
async function pair(answering: Answering, more: { firstByteTimeout?: number } = {}) {
  const home = await startUpstream("home", ["big"]);
  const office = await startUpstream("office", ["small"]);
  home.answering = answering;
  const gateway = await startGateway(
    { home: { urls: [home.url], ...more }, office: { urls: [office.url] } },
    { models },
  );
  return { home, office, gateway };
}

async function unusedUrl(): Promise<string> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}

async function expectOffice(gateway: TestGateway): Promise<void> {
  const answer = await gateway.chat("coder");
  expect([answer.status, answer.json.by, answer.json.model]).toEqual([200, "office", "coder"]);
  expect(answer.headers["x-lair-target"]).toBe("office/small");
}

describe("the next target is asked", () => {
  it("where nobody listens at the first", async () => {
    const office = await startUpstream("office", ["small"]);
    const gateway = await startGateway({ home: { urls: [await unusedUrl()] }, office }, { models });
    await expectOffice(gateway);
    expect(gateway.state("home")).toMatchObject({ calls: 1, failures: 1, passedOn: 1 });
  });

  it.each([429, 500, 501, 502, 503, 504, 529])("where the first answers %i", async (status) => {
    const { home, office, gateway } = await pair(failing(status, "whatever"));
    await expectOffice(gateway);
    expect([home.calls.length, office.calls.length]).toEqual([1, 1]);
    expect(office.calls[0]?.body).toMatchObject({ model: "small", messages: [{ role: "user", content: "Hi" }] });
  });

  it("where the first breaks the connection", async () => {
    await expectOffice((await pair(breaking)).gateway);
  });

  it("where the first is silent for too long", async () => {
    const { gateway } = await pair(() => undefined, { firstByteTimeout: 30 });
    await expectOffice(gateway);
  });

  it("where the first breaks off a reply of which nothing was passed on", async () => {
    const { gateway } = await pair((_request, reply) => {
      reply.writeHead(200, { "content-type": "application/json", "content-length": "100" });
      reply.write('{"id":', () => reply.socket?.destroy());
    });
    await expectOffice(gateway);
  });

  it("where the first says that it does not have the model", async () => {
    await expectOffice((await pair(failing(404, "model_not_found"))).gateway);
  });

  it("where the first refuses our key, or sends us elsewhere", async () => {
    await expectOffice((await pair(failing(401, "invalid_api_key"))).gateway);
    await expectOffice((await pair(failing(403, "insufficient_scope"))).gateway);
    await expectOffice((await pair(failing(302, "x", {}, { location: "http://127.0.0.1:1/" }))).gateway);
  });

  it("where the prompt is too long for the first, and the next has more room", async () => {
    const { home, office, gateway } = await pair(failing(400, "context_length_exceeded"));
    home.cards = [card("big", { context_length: 1000 })];
    office.cards = [card("small", { context_length: 4000 })];
    gateway.clock.advance(5000);
    await gateway.router.models();
    await expectOffice(gateway);
  });
});

describe("the next target is not asked", () => {
  it.each([400, 404, 405, 408, 409, 413, 415, 422, 451])(
    "where the first answers %i, for the request is to blame",
    async (status) => {
      const { office, gateway } = await pair(failing(status, "invalid_value"));
      const answer = await gateway.chat("coder");
      expect([answer.status, answer.headers["x-lair-target"]]).toEqual([status, "home/big"]);
      expect(answer.json).toEqual({
        error: { message: "this is invalid_value", type: "x", param: null, code: "invalid_value" },
      });
      expect(office.calls).toEqual([]);
    },
  );

  it("where the prompt is too long for the first, and the next has no more room", async () => {
    const { home, office, gateway } = await pair(failing(400, "context_length_exceeded"));
    for (const upstream of [home, office])
      upstream.cards = [card(upstream === home ? "big" : "small", { context_length: 1000 })];
    gateway.clock.advance(5000);
    await gateway.router.models();
    const answer = await gateway.chat("coder");
    expect([answer.status, answer.headers["x-lair-target"]]).toEqual([400, "home/big"]);
    expect(office.calls).toEqual([]);
  });

  it("once a byte of the answer has been passed on: the caller is told, and cut", async () => {
    const { office, gateway } = await pair((_request, reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write('data: {"model":"big","choices":[]}\n\n', () => reply.socket?.destroy());
    });
    const answer = await gateway.chat("coder", { json: { stream: true } });
    expect([answer.status, answer.clean]).toEqual([200, false]);
    expect(answer.text).toMatch(
      /^data: \{"model":"coder","choices":\[\]\}\n\ndata: \{"error":\{.*"upstream_error".*\}\n\n$/,
    );
    expect(answer.text).not.toContain("127.0.0.1");
    expect(answer.text).not.toContain("[DONE]");
    expect(office.calls).toEqual([]);
    await until(() => gateway.state("home").failures === 1);
  });

  it("within an event, so that nobody takes its half for a whole one", async () => {
    const { gateway } = await pair((_request, reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write('data: {"mod', () => reply.socket?.destroy());
    });
    const answer = await gateway.chat("coder", { json: { stream: true } });
    expect([answer.clean, answer.text]).toEqual([false, 'data: {"mod']);
  });

  it("when the caller has left, and the first is told so", async () => {
    const { home, office, gateway } = await pair(() => undefined);
    const asked = openUnanswered(`${gateway.url}/v1/chat/completions`, { body: { model: "coder", messages: [] } });
    const request = await home.next("/v1/chat/completions");
    asked.leave();
    await request.left;
    await until(() => gateway.state("home").inFlight === 0);
    expect(office.calls).toEqual([]);
    expect(gateway.state("home")).toMatchObject({ failures: 0, circuit: "closed" });
  });
});

describe("when every target fails", () => {
  it("the last failure is told, with who was tried and how long to wait", async () => {
    const { office, gateway } = await pair(breaking);
    office.answering = failing(503, "agent_offline", { provider: "desk" }, { "retry-after": "7" });
    const answer = await gateway.chat("coder");
    expect([answer.status, answer.headers["retry-after"], answer.headers["x-lair-target"]]).toEqual([
      503,
      "7",
      "office/small",
    ]);
    expect(answer.json).toEqual({
      error: {
        message: "this is agent_offline (tried home/big: upstream_error, office/small: agent_offline)",
        type: "x",
        param: null,
        code: "agent_offline",
      },
      provider: "desk",
    });
  });

  it("a failure that passes is told rather than a refusal that does not", async () => {
    const { office, gateway } = await pair(failing(503, "model_loading", {}, { "retry-after": "3" }));
    office.answering = failing(404, "model_not_found");
    const answer = await gateway.chat("coder");
    expect([answer.status, answer.headers["x-lair-target"], answer.headers["retry-after"]]).toEqual([
      503,
      "home/big",
      "3",
    ]);
  });

  it("a failure to connect names the upstream, but no address of it", async () => {
    const gateway = await startGateway({ home: { urls: [await unusedUrl()] } });
    const answer = await gateway.chat("home/x");
    expect([answer.status, answer.headers["x-lair-target"]]).toEqual([502, "home/x"]);
    expect(answer.json.error).toMatchObject({
      code: "upstream_unreachable",
      message: expect.stringMatching(/home.*ECONNREFUSED/),
    });
    expect(answer.text).not.toContain("127.0.0.1");
  });
});

describe("a body of a megabyte", () => {
  it("is sent to the next target as it was", async () => {
    const { home, office, gateway } = await pair(breaking);
    const content = "\u00e4\u{1f600}".repeat(150_000);
    const answer = await gateway.chat("coder", { json: { messages: [{ role: "user", content }] } });
    expect(answer.json.by).toBe("office");
    const [one, other] = [home.calls[0]?.body, office.calls[0]?.body];
    expect(one).toMatchObject({ messages: [{ content }] });
    expect(other).toEqual({ ...one, model: "small" });
  });
});

describe("an upstream that asks to be left alone", () => {
  it("is asked last for as long as it said, and no longer", async () => {
    const { home, gateway } = await pair(failing(429, "rate_limit_exceeded", {}, { "retry-after": "20" }));
    await expectOffice(gateway);
    await expectOffice(gateway);
    expect(home.calls.length).toBe(1);
    expect(gateway.state("home")).toMatchObject({ circuit: "closed", failures: 0 });
    expect(gateway.state("home").avoidedUntil).toBe(gateway.clock.now() + 20_000);
    gateway.clock.advance(20_000);
    await expectOffice(gateway);
    expect(home.calls.length).toBe(2);
  });

  it("for a day is believed for a minute", async () => {
    const { home, gateway } = await pair(failing(503, "service_unavailable", {}, { "retry-after": "86400" }));
    await expectOffice(gateway);
    gateway.clock.advance(59_999);
    await expectOffice(gateway);
    expect(home.calls.length).toBe(1);
    gateway.clock.advance(1);
    await expectOffice(gateway);
    expect(home.calls.length).toBe(2);
  });

  it("is still asked where nobody else has the model", async () => {
    const { home, gateway } = await pair(failing(429, "rate_limit_exceeded", {}, { "retry-after": "20" }));
    for (let count = 1; count <= 2; count++) {
      const answer = await gateway.chat("home/big");
      expect([answer.status, answer.headers["retry-after"], home.calls.length]).toEqual([429, "20", count]);
    }
  });
});

describe("a reply under way", () => {
  it("is passed on event by event", async () => {
    const more = gate();
    const { gateway } = await pair(async (_request, reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write('data: {"model": "big","n":1}\n\n');
      await more.opened;
      reply.end("data: [DONE]\n\n");
    });
    const exchange = await gateway.open("coder", { json: { stream: true } });
    await exchange.until(/"n":1\}\n\n/);
    expect(gateway.state("home").inFlight).toBe(1);
    more.open();
    const { text, clean } = await exchange.answer;
    expect([text, clean]).toEqual(['data: {"model": "coder","n":1}\n\ndata: [DONE]\n\n', true]);
    await until(() => gateway.state("home").inFlight === 0);
  });
});
