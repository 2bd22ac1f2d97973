import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { card, startGateway, startUpstream, type TestGateway, until } from "../support/routing.ts";

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0)) await step();
});

/** Takes connections, and never answers. */
async function startSilent(): Promise<string> {
  const server = createServer(() => undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  undo.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function target(gateway: TestGateway, model: string): Promise<unknown> {
  const { status, headers, json } = await gateway.chat(model);
  if (status !== 200) return (json.error as JsonObject).code;
  // Every reply says the name by which the model was asked for.
  expect(json.model).toBe(model);
  return headers["x-lair-target"];
}

async function list(gateway: TestGateway): Promise<JsonObject[]> {
  return (await gateway.get("/v1/models")).json.data as JsonObject[];
}

describe("a model's name", () => {
  it("leads to the upstream before its slash, to whoever lists it, or to the targets that the configuration gives it", async () => {
    const home = await startUpstream("home", ["Qwen/Qwen3-8B", card("qwen3", { provider: "llama_cpp" })]);
    const relay = await startUpstream("relay", [card("gemma", { agents: ["desk", "attic"] }), "coder"]);
    const gateway = await startGateway(
      { home, relay },
      { models: { coder: ["home/qwen3", "relay/gemma"], "gpt-4o": ["coder"], any: ["gemma"] } },
    );
    const names = {
      "home/qwen3": "home/qwen3",
      "home/not/listed:there": "home/not/listed:there",
      qwen3: "home/qwen3",
      "llama_cpp:qwen3": "home/llama_cpp:qwen3",
      "Qwen/Qwen3-8B": "home/Qwen/Qwen3-8B",
      "attic/gemma": "relay/attic/gemma",
      // Listed by relay too: the gateway's own comes first.
      coder: "home/qwen3",
      "gpt-4o": "home/qwen3",
      any: "relay/gemma",
      "relay/coder": "relay/coder",
    };
    for (const [name, expected] of Object.entries(names))
      expect([name, await target(gateway, name)]).toEqual([name, expected]);
  });

  it("that nobody knows is refused, with the nearest that there are", async () => {
    const [home, office] = [await startUpstream("home", ["qwen3-coder"]), await startUpstream("office", ["gemma"])];
    const gateway = await startGateway({ home, office }, { models: { fast: ["home/qwen3-coder"] } });
    const answer = await gateway.chat("qwen3-codr");
    expect([answer.status, answer.json.error]).toEqual([
      404,
      {
        message: "the model 'qwen3-codr' does not exist; did you mean 'qwen3-coder'?",
        type: "invalid_request_error",
        param: "model",
        code: "model_not_found",
      },
    ]);
    expect(await target(gateway, "fas")).toBe("model_not_found");
    expect(await target(gateway, "/x")).toBe("model_not_found");
    expect(await target(gateway, "home/")).toBe("model_not_found");
  });

  it("that nobody knows is left to the only upstream, which says so itself", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    expect(await target(gateway, "new-one")).toBe("home/new-one");
  });

  it("that came into being a moment ago is found", async () => {
    const [home, office] = [await startUpstream("home"), await startUpstream("office")];
    const gateway = await startGateway({ home, office });
    office.cards = [card("fresh")];
    expect(await target(gateway, "fresh")).toBe("model_not_found");
    gateway.clock.advance(2000);
    expect(await target(gateway, "fresh")).toBe("office/fresh");
  });

  it("that an upstream might have which has never told is not called unknown", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home, office: { urls: [await startSilent()] } }, { probeTimeout: 50 });
    const answer = await gateway.chat("elsewhere");
    expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "2"]);
    expect(answer.json.error).toMatchObject({
      code: "service_unavailable",
      message: expect.stringContaining("'office'"),
    });
  });

  it("must be there, and be a name", async () => {
    const gateway = await startGateway({ home: await startUpstream("home") });
    const codes = [undefined, null, "", 5, {}].map(
      async (model) => (await gateway.chat("x", { json: { model: model as never } })).json.error,
    );
    expect(await Promise.all(codes)).toMatchObject([
      { code: "missing_required_parameter" },
      { code: "missing_required_parameter" },
      { code: "missing_required_parameter" },
      { code: "invalid_type" },
      { code: "invalid_type" },
    ]);
    const broken = await gateway.chat("x", { body: "{" });
    expect([broken.status, broken.json.error]).toMatchObject([400, { code: "invalid_json" }]);
  });

  it("with letters, line ends and lone surrogates goes into the header as plain ASCII", async () => {
    const gateway = await startGateway({ home: await startUpstream("home") });
    expect(await target(gateway, "home/m\u00fcller\r\nx: y %")).toBe("home/m%C3%BCller%0D%0Ax:%20y%20%");
    expect((await gateway.chat("home/\ud800")).headers["x-lair-target"]).toBe("home/%EF%BF%BD");
  });
});

describe("virtual models", () => {
  const start = async (models: Record<string, string[]>): Promise<TestGateway> =>
    startGateway({ home: await startUpstream("home"), office: await startUpstream("office") }, { models });

  it("that lead in a circle are refused at the start, with the circle", async () => {
    await expect(start({ a: ["home/x", "b"], b: ["c"], c: ["b"] })).rejects.toThrow(/circle: "b" → "c" → "b"/);
    await expect(start({ a: ["a"] })).rejects.toThrow(/circle: "a" → "a"/);
  });

  it("that name the same target twice, by ways of their own, ask it once", async () => {
    const gateway = await start({ top: ["left", "right"], left: ["home/x"], right: ["home/x", "office/x"] });
    expect((await gateway.get("/v1/models/top")).json.targets).toEqual(["home/x", "office/x"]);
  });

  it("may not take a name that means an upstream's model", async () => {
    await expect(start({ "home/mine": ["office/x"] })).rejects.toThrow(/home\/mine.*upstream/);
  });

  it("have names that are not those of the language's own objects", async () => {
    const gateway = await start({ constructor: ["home/demo"] });
    expect(await target(gateway, "constructor")).toBe("home/demo");
    expect(await target(gateway, "toString")).toBe("model_not_found");
    expect(await target(gateway, "__proto__")).toBe("model_not_found");
  });
});

describe("the list of models", () => {
  it("holds every name once, as its upstream shows it, with who has it; the gateway's own first", async () => {
    const home = await startUpstream("home", [card("demo", { context_length: 8192, agents: ["desk"], x: 1 }), "solo"]);
    const office = await startUpstream("office", [card("demo", { context_length: 4096 }), "mine"]);
    const gateway = await startGateway({ home, office }, { models: { mine: ["home/demo", "office/demo"] } });
    const data = await list(gateway);
    expect(data.map(({ id, upstreams }) => [id, upstreams])).toEqual([
      ["mine", ["home", "office"]],
      ["demo", ["home", "office"]],
      ["solo", ["home"]],
    ]);
    expect(data[1]).toMatchObject({ ...card("demo"), context_length: 8192, agents: ["desk"], x: 1 });
    expect(data[0]).toMatchObject({ object: "model", targets: ["home/demo", "office/demo"], context_length: 4096 });
  });

  it("gives a virtual model the skills that any of its targets has", async () => {
    const home = await startUpstream("home", [
      card("text", { capabilities: { chat: true, tools: true, vision: false } }),
    ]);
    const office = await startUpstream("office", [
      card("eyes", { capabilities: { chat: true, tools: false, vision: true } }),
    ]);
    const gateway = await startGateway(
      { home, office },
      { models: { both: ["home/text", "office/eyes"], none: ["home/gone"] } },
    );
    expect((await gateway.get("/v1/models/both")).json.capabilities).toMatchObject({
      chat: true,
      tools: true,
      vision: true,
    });
    expect((await gateway.get("/v1/models/none")).json).toMatchObject({ state: "failed" });
  });

  it("shows one model under each of its names", async () => {
    const home = await startUpstream("home", ["org/demo"]);
    const gateway = await startGateway({ home, office: await startUpstream("office", ["org/demo"]) });
    for (const [name, upstreams] of [
      ["org/demo", ["home", "office"]],
      ["home/org/demo", ["home"]],
    ] as const) {
      const { status, json } = await gateway.get(`/v1/models/${encodeURIComponent(name)}`);
      expect([status, json.id, json.upstreams]).toEqual([200, name, upstreams]);
      expect((await gateway.get(`/v1/models/${name}`)).json.id).toBe(name);
    }
    expect((await gateway.get("/v1/models/nobody")).status).toBe(404);
    expect((await gateway.get("/v1/models/%ff")).status).toBe(400);
  });

  it("comes within the time of a probe when an upstream is silent", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home, office: { urls: [await startSilent()] } }, { probeTimeout: 50 });
    expect((await list(gateway)).map(({ id }) => id)).toEqual(["demo"]);
  });

  it("does not wait for an upstream that did not answer when it was asked before", async () => {
    let asked = 0;
    let given = 0;
    const office = createServer((request, reply) => {
      // The first question is refused, the next ones are left unanswered.
      if (request.url === "/v1/models" && ++asked === 1) reply.writeHead(500).end();
      reply.on("close", () => given++);
    });
    office.listen(0, "127.0.0.1");
    await once(office, "listening");
    undo.push(
      () => office.closeAllConnections(),
      () => office.close(),
    );
    const urls = [`http://127.0.0.1:${(office.address() as AddressInfo).port}`];
    const gateway = await startGateway({ home: await startUpstream("home"), office: { urls } }, { probeTimeout: 2000 });
    gateway.clock.advance(5000);
    expect((await list(gateway)).map(({ id }) => id)).toEqual(["demo"]);
    await until(() => asked === 2);
    expect(given).toBe(1);
  });

  it("keeps what an upstream listed before it went away", async () => {
    const [home, office] = [await startUpstream("home"), await startUpstream("office", ["far"])];
    const gateway = await startGateway({ home, office });
    await office.close();
    gateway.clock.advance(5000);
    expect((await list(gateway)).map(({ id }) => id)).toEqual(["demo", "far"]);
    // So its absence is told, not that the model does not exist.
    expect((await gateway.chat("far")).json.error).toMatchObject({ code: "upstream_unreachable" });
  });

  it("does not ask the upstreams for every caller", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    await Promise.all(Array.from({ length: 20 }, () => list(gateway)));
    expect(home.to("/v1/models").length).toBe(1);
    gateway.clock.advance(3000);
    await Promise.all(Array.from({ length: 20 }, () => list(gateway)));
    expect(home.to("/v1/models").length).toBe(2);
  });
});

describe("paths", () => {
  it.each([
    "/v1/chat/completions",
    "/v1/chat/completions/",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/responses/compact",
    "/v1/responses/input_tokens",
    "/v1/messages/count_tokens",
    "/infill",
    "/tokenize",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
  ])("%s goes to the model's upstream", async (path) => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    const body = JSON.stringify({ model: "demo" });
    const headers = { "content-type": "application/json" };
    const reply = await fetch(`${gateway.url}${path}?a=%20b`, { method: "POST", body, headers });
    expect([reply.status, home.calls.map((call) => call.path)]).toEqual([200, [path.replace(/\/$/, "")]]);
  });

  it.each([
    ["/v1/../admin/keys", 404],
    ["/v1/%2e%2e/admin", 404],
    ["/v1//x", 404],
    ["/v1/Chat", 404],
    ["/admin/keys", 404],
    ["/api/pull", 404],
    ["/v1/audio/speech-of-tomorrow", 404],
    ["/v1/responses/resp_1/cancel", 404],
    ["/x", 404],
  ])("%s goes nowhere", async (path, status) => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    const { hostname, port } = new URL(gateway.url);
    const { request } = await import("node:http");
    const asked = request({ hostname, port, path, method: "POST", headers: { "content-type": "application/json" } });
    asked.end('{"model":"demo"}');
    const [reply] = (await once(asked, "response")) as [{ statusCode: number; resume(): void }];
    reply.resume();
    expect([reply.statusCode, home.calls]).toEqual([status, []]);
  });

  it("of models are not to be posted to, others not to be got", async () => {
    const gateway = await startGateway({ home: await startUpstream("home") });
    const posted = await fetch(`${gateway.url}/v1/models`, { method: "POST", body: "{}" });
    const got = await gateway.get("/v1/chat/completions");
    expect([posted.status, posted.headers.get("allow"), got.status, got.headers.allow]).toEqual([
      405,
      "GET",
      405,
      "POST",
    ]);
  });
});

describe("a gateway that has itself among its upstreams", () => {
  it("notices, and says what to look for", async () => {
    // A server that leads to the gateway, whose address is known only when it runs.
    let hops: string[] = [];
    let url = "";
    const loop = createServer((request, reply) => {
      hops.push(String(request.headers["x-lair-hops"]));
      const headers = { ...(request.headers as Record<string, string>) };
      for (const name of ["host", "connection", "content-length", "transfer-encoding"]) delete headers[name];
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const body = request.method === "POST" ? { body: Buffer.concat(chunks) } : {};
        void fetch(url + request.url, { method: request.method as string, headers, ...body }).then(
          async (answer) => {
            reply.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text());
          },
          () => reply.destroy(),
        );
      });
    });
    loop.listen(0, "127.0.0.1");
    await once(loop, "listening");
    undo.push(
      () => loop.closeAllConnections(),
      () => loop.close(),
    );
    const address = `http://127.0.0.1:${(loop.address() as AddressInfo).port}`;
    const gateway = await startGateway({ me: { urls: [address] } }, { probeTimeout: 200 });
    url = gateway.url;
    hops = [];
    const answer = await gateway.chat("demo");
    expect([answer.status, answer.json.error]).toMatchObject([
      400,
      { code: "invalid_request", message: expect.stringMatching(/more than 8 gateways.*gateway\.upstreams/) },
    ]);
    expect(hops).toEqual(["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    expect(gateway.state("me")).toMatchObject({ circuit: "closed" });
  });

  it("does not let a caller choose how far its call goes", async () => {
    const home = await startUpstream("home");
    const gateway = await startGateway({ home });
    for (const value of ["9", "99999999999", "-1", "1e3", "x"])
      expect((await gateway.chat("demo", { headers: { "x-lair-hops": value } })).status).toBe(400);
    expect(home.calls).toEqual([]);
    await gateway.chat("demo", { headers: { "x-lair-hops": "8" } });
    expect(home.calls[0]?.headers["x-lair-hops"]).toBe("9");
  });
});
