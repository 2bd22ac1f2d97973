import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { failing, breaking, saying, startGateway, startUpstream, until } from "../support/routing.ts";
import { gate } from "../support/fake-server.ts";
import { openUnanswered } from "../support/tunnel-caller.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server that can go away and come back on the same port. */
async function startDemo(port = 0): Promise<{ server: Server; port: number }> {
  const server = createServer((request, reply) => {
    reply.setHeader("content-type", "application/json");
    reply.end(request.url === "/v1/models" ? '{"data":[{"id":"demo"}]}' : '{"by":"home"}');
  });
  servers.push(server);
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port };
}

async function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

describe("an upstream that fails", () => {
  it("once is asked again at once", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    home.answering = failing(500, "internal_error");
    expect((await gateway.chat("demo")).status).toBe(500);
    home.answering = saying("home");
    expect((await gateway.chat("demo")).status).toBe(200);
    expect(gateway.state("home")).toMatchObject({ circuit: "closed", healthy: true, calls: 2, failures: 1 });
  });

  it("five times in a row gets no calls, and callers learn at once who fails, why, and when to come back", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    home.answering = failing(500, "internal_error");
    for (let count = 0; count < 5; count++) await gateway.chat("demo");
    const answer = await gateway.chat("demo");
    expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
    expect(answer.json.error).toMatchObject({ code: "service_unavailable" });
    const { message } = answer.json.error as { message: string };
    expect(message).toContain("'home'");
    expect(message).toContain("this is internal_error");
    expect(message).toContain(new Date(gateway.clock.now()).toISOString());
    expect(home.calls.length).toBe(5);
  });

  it("is tried by one call after a second, and gets all of them when that one succeeds", async () => {
    const home = await startUpstream("home");
    const office = await startUpstream("office");
    const gateway = await startGateway({ home, office }, { models: { m: ["home/demo", "office/demo"] } });
    home.answering = failing(500, "internal_error");
    for (let count = 0; count < 7; count++) expect((await gateway.chat("m")).json.by).toBe("office");
    expect([home.calls.length, gateway.state("home").circuit]).toEqual([5, "open"]);
    const slow = gate();
    home.answering = async (request, reply) => {
      await slow.opened;
      await saying("home")(request, reply);
    };
    gateway.clock.advance(1000);
    const trial = gateway.chat("m");
    await until(() => home.calls.length === 6);
    expect((await gateway.chat("m")).json.by).toBe("office");
    expect([home.calls.length, gateway.state("home").circuit]).toEqual([6, "half-open"]);
    slow.open();
    expect((await trial).json.by).toBe("home");
    expect(gateway.state("home").circuit).toBe("closed");
    expect((await gateway.chat("m")).json.by).toBe("home");
  });

  it("that answers what a call is to blame for, or that it has too much to do, is left in use", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    const refusals = [
      [400, "invalid_value"],
      [404, "model_not_found"],
      [429, "rate_limit_exceeded"],
      [501, "not_there"],
      [401, "invalid_api_key"],
    ] as const;
    for (const [status, code] of refusals) {
      home.answering = failing(status, code);
      for (let count = 0; count < 6; count++) await gateway.chat("demo");
    }
    expect(gateway.state("home")).toMatchObject({ circuit: "closed", failures: 0, calls: 30 });
  });

  it("because of one agent or provider behind it is left in use for the others", async () => {
    const relay = await startUpstream("relay");
    const gateway = await startGateway({ relay });
    relay.answering = failing(502, "upstream_unreachable", { provider: "ollama" });
    for (let count = 0; count < 6; count++) await gateway.chat("demo");
    relay.answering = failing(503, "agent_offline");
    for (let count = 0; count < 6; count++) await gateway.chat("demo");
    expect(gateway.state("relay")).toMatchObject({ circuit: "closed", failures: 0 });
  });

  it("is not taken for well because a caller has left it", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    home.answering = failing(500, "internal_error");
    for (let count = 0; count < 4; count++) await gateway.chat("demo");
    home.answering = () => undefined;
    const asked = openUnanswered(`${gateway.url}/v1/chat/completions`, { body: { model: "demo", messages: [] } });
    await until(() => home.calls.length === 5);
    asked.leave();
    await until(() => gateway.state("home").inFlight === 0);
    home.answering = failing(500, "internal_error");
    await gateway.chat("demo");
    expect(gateway.state("home").circuit).toBe("open");
  });

  it("in the middle of its streams, again and again, gets no calls", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    home.answering = (_request, reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write("data: {}\n\n", () => reply.socket?.destroy());
    };
    for (let count = 0; count < 5; count++) await gateway.chat("demo", { json: { stream: true } });
    await until(() => gateway.state("home").circuit === "open");
    expect((await gateway.chat("demo")).status).toBe(503);
  });
});

describe("an upstream that was stopped", () => {
  it("has its calls back within a second after it is started again", async () => {
    const { server, port } = await startDemo();
    const gateway = await startGateway({ home: { urls: [`http://127.0.0.1:${port}`] } });
    expect((await gateway.chat("demo")).json.by).toBe("home");
    await stop(server);
    for (let count = 0; count < 5; count++) expect((await gateway.chat("demo")).status).toBe(502);
    expect((await gateway.chat("demo")).status).toBe(503);
    gateway.clock.advance(1000);
    await until(() => gateway.clock.waiting === 1);
    expect(gateway.state("home").circuit).toBe("half-open");
    await startDemo(port);
    // Nobody calls: it is asked how it is.
    gateway.clock.advance(1000);
    await until(() => gateway.state("home").circuit === "closed");
    expect((await gateway.chat("demo")).json.by).toBe("home");
  });
});

describe("health checks", () => {
  it("that fail twice change nothing; three in a row make an upstream the last choice, one success the first again", async () => {
    const home = await startUpstream("home");
    const office = await startUpstream("office");
    const gateway = await startGateway({ home, office }, { models: { m: ["home/demo", "office/demo"] } });
    const check = async (): Promise<void> => {
      const before = home.to("/health").length;
      gateway.clock.advance(10_000);
      await until(() => home.to("/health").length > before && gateway.clock.waiting === 2);
    };
    home.health = 503;
    await check();
    await check();
    expect((await gateway.chat("m")).json.by).toBe("home");
    await check();
    await until(() => !gateway.state("home").healthy);
    expect((await gateway.chat("m")).json.by).toBe("office");
    // Last, but still there.
    office.answering = breaking;
    expect((await gateway.chat("m")).json.by).toBe("home");
    office.answering = saying("office");
    home.health = 200;
    await check();
    await until(() => gateway.state("home").healthy);
    expect((await gateway.chat("m")).json.by).toBe("home");
  });

  it("say whether the gateway is ready", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    expect(await gateway.router.health()).toEqual({ ok: true });
    home.answering = breaking;
    for (let count = 0; count < 5; count++) await gateway.chat("demo");
    expect(await gateway.router.health()).toEqual({ ok: false, detail: "no upstream answers: home" });
  });

  it("end with the router", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    gateway.router.close();
    gateway.clock.advance(60_000);
    expect((await gateway.chat("demo")).status).toBe(200);
    expect(home.to("/health")).toEqual([]);
  });
});
