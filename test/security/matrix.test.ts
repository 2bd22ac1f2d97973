import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { newKey, revokedKey } from "../../src/access/issue.ts";
import type { KeyFields } from "../../src/access/key-fields.ts";
import { startRuntime } from "../../src/app.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer } from "../support/fake-server.ts";
import { holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { ask, get, sendRaw } from "../support/tunnel-caller.ts";
import { startChain } from "../support/tunnel-chain.ts";
import { keptLog, waitUntil } from "../support/tunnel-log.ts";

// Who may ask what: every role of the program, every path of its own, every kind of caller.

const closing: (() => Promise<unknown>)[] = [];
let place: Place;
let empty: Place;
let upstream: FakeServer;
const keys = new Map<string, string>();
const servers = new Map<string, { url: string; model: string }>();

async function insert(name: string, fields: KeyFields = {}, revoked = false): Promise<void> {
  const { record, text } = newKey({ name, ...fields }, Date.now() - 3_600_000);
  await place.state.keys.insert([revoked ? revokedKey(record, Date.now()) : record]);
  keys.set(name, text);
}

async function start(name: string, at: Place, env: Record<string, string>): Promise<void> {
  const folders = { XDG_DATA_HOME: at.folder, LOCALAPPDATA: at.folder };
  const gateway = await holdGateway(at, `llama=${upstream.url}`, env);
  const chain = await startChain({
    runtime: upstream.url,
    relayEnv: { LLM_V1_PROXY_TOKEN: "", LAIR_STATE: at.file, ...env },
  });
  const providers = { LAIR_PROVIDERS_LLAMA_KIND: "openai", LAIR_PROVIDERS_LLAMA_URLS: upstream.url };
  const config = await at.configure({ RUNTIME_LISTEN_PORT: "0", ...providers, ...env });
  const runtime = await startRuntime(config, keptLog(), { version: "0.0.0-test", env: folders });
  servers.set(`${name}gateway`, { url: gateway.url, model: "small" });
  servers.set(`${name}relay`, { url: chain.url, model: "small" });
  servers.set(`${name}runtime`, { url: runtime.url, model: "llama:small" });
  for (const one of [gateway, chain, runtime]) closing.push(() => one.close());
}

beforeAll(async () => {
  upstream = await startFakeOpenAi({ model: "small", reply: [{ text: "hi" }, { finish: "stop" }] });
  closing.push(() => upstream.close());
  place = await openPlace();
  empty = await openPlace();
  await insert("inference");
  await insert("metrics", { roles: ["metrics"] });
  await insert("admin", { roles: ["admin"] });
  await insert("expired", { expires: Date.now() - 1000, roles: ["inference", "admin", "metrics"] });
  await insert("revoked", { roles: ["inference", "admin", "metrics"] }, true);
  keys.set("wrong", `lair_kaaaaaaaaaaaa_${"x".repeat(43)}`);
  keys.set("token", "a-fixed-token-of-callers");
  keys.set("operator", "a-fixed-token-of-operators");
  await start("", place, { LLM_V1_PROXY_TOKEN: keys.get("token")!, LAIR_AUTH_ADMIN: keys.get("operator")! });
  await start("open ", empty, {});
  for (const { url } of servers.values())
    await waitUntil(async () => (await get(`${url}/ready`)).status === 200, `${url} is ready`);
});
afterAll(async () => {
  for (const close of closing.reverse()) await close();
  await place.close();
  await empty.close();
});

const roles = ["gateway", "relay", "runtime"] as const;
const callers = ["none", "wrong", "expired", "revoked", "inference", "metrics", "admin", "token", "operator"] as const;
type Caller = (typeof callers)[number];

function headersOf(caller: Caller): Record<string, string> {
  return caller === "none" ? {} : { authorization: `Bearer ${keys.get(caller)}` };
}

/** What callers with these roles get; all others 403, and whoever has no key that works 401. */
interface Row {
  readonly asks: string;
  readonly body?: object;
  readonly may: readonly Caller[];
  readonly gets: number;
  /** Where it is; elsewhere 404. */
  readonly at?: readonly (typeof roles)[number][];
}

const inference = ["inference", "token", "operator"] as const;
const admin = ["admin", "operator"] as const;
const metrics = ["metrics", ...admin] as const;
const table: readonly Row[] = [
  { asks: "GET /health", may: callers, gets: 200 },
  { asks: "HEAD /health", may: callers, gets: 200 },
  { asks: "POST /health", may: callers, gets: 405, body: {} },
  { asks: "GET /ready", may: callers, gets: 200 },
  { asks: "GET /version", may: inference, gets: 200 },
  { asks: "GET /v1/models", may: inference, gets: 200 },
  { asks: "HEAD /v1/models", may: inference, gets: 200 },
  { asks: "GET /v1/models/nothing", may: inference, gets: 404 },
  { asks: "DELETE /v1/models", may: inference, gets: 405 },
  {
    asks: "POST /v1/chat/completions",
    may: inference,
    gets: 200,
    body: { messages: [{ role: "user", content: "x" }] },
  },
  { asks: "POST /v1/completions", may: inference, gets: 200, body: { prompt: "x" } },
  { asks: "GET /v1/chat/completions", may: inference, gets: 405 },
  {
    asks: "POST /v1/messages",
    may: inference,
    gets: 200,
    body: { max_tokens: 5, messages: [{ role: "user", content: "x" }] },
    at: ["relay", "runtime"],
  },
  { asks: "POST /v1/responses", may: inference, gets: 200, body: { input: "x" }, at: ["relay", "runtime"] },
  { asks: "GET /v1/responses/resp_nothing", may: inference, gets: 404 },
  { asks: "DELETE /v1/responses/resp_nothing", may: inference, gets: 404 },
  { asks: "GET /v1/responses/resp_nothing/input_items", may: inference, gets: 404 },
  { asks: "POST /v1/responses/resp_nothing/cancel", may: inference, gets: 404, body: {} },
  {
    asks: "POST /api/chat",
    may: inference,
    gets: 200,
    body: { stream: false, messages: [{ role: "user", content: "x" }] },
    at: ["relay", "runtime"],
  },
  { asks: "GET /", may: inference, gets: 200 },
  { asks: "GET /api/tags", may: inference, gets: 200 },
  { asks: "GET /api/ps", may: inference, gets: 200 },
  { asks: "GET /api/version", may: inference, gets: 200 },
  { asks: "POST /api/show", may: inference, gets: 200, body: {} },
  { asks: "GET /api/hello", may: callers, gets: 200 },
  { asks: "POST /api/pull", may: admin, gets: 400, body: {}, at: ["runtime"] },
  { asks: "DELETE /api/delete", may: admin, gets: 400, body: {}, at: ["runtime"] },
  { asks: "POST /api/create", may: admin, gets: 404, body: {} },
  { asks: "POST /api/push", may: admin, gets: 404, body: {} },
  { asks: "GET /nothing", may: inference, gets: 404 },
  { asks: "OPTIONS /v1/models", may: inference, gets: 405 },
  { asks: "GET /metrics", may: metrics, gets: 200 },
  { asks: "HEAD /metrics", may: metrics, gets: 200 },
  { asks: "POST /metrics", may: metrics, gets: 405, body: {} },
  { asks: "GET /metrics/", may: metrics, gets: 404 },
  { asks: "GET /admin", may: admin, gets: 404 },
  { asks: "GET /admin/", may: admin, gets: 404 },
  { asks: "GET /admin/nothing", may: admin, gets: 404 },
  { asks: "GET /admin/keys", may: admin, gets: 200 },
  { asks: "HEAD /admin/keys", may: admin, gets: 200 },
  { asks: "OPTIONS /admin/keys", may: admin, gets: 405 },
  { asks: "PUT /admin/keys", may: admin, gets: 405, body: {} },
  { asks: "DELETE /admin/keys", may: admin, gets: 405 },
  { asks: "POST /admin/keys", may: admin, gets: 400, body: { name: "" } },
  { asks: "GET /admin/keys/inference", may: admin, gets: 200 },
  { asks: "DELETE /admin/keys/inference", may: admin, gets: 405 },
  { asks: "POST /admin/keys/nobody", may: admin, gets: 404, body: { owner: "x" } },
  { asks: "POST /admin/keys/nobody/rotate", may: admin, gets: 404, body: {} },
  { asks: "POST /admin/keys/nobody/revoke", may: admin, gets: 404, body: {} },
  { asks: "POST /admin/keys/import", may: admin, gets: 400, body: { keys: {} } },
  { asks: "GET /admin/usage", may: admin, gets: 200 },
  { asks: "POST /admin/usage", may: admin, gets: 405, body: {} },
  { asks: "GET /admin/usage/records", may: admin, gets: 200 },
  { asks: "GET /admin/agents", may: admin, gets: 200, at: ["relay"] },
  { asks: "GET /admin/upstreams", may: admin, gets: 200, at: ["gateway"] },
];

describe.each(roles)("%s", (role) => {
  test.each(table)("$asks", async ({ asks, body, may, gets, at }) => {
    const { url, model } = servers.get(role)!;
    const [method, path] = asks.split(" ") as [string, string];
    const expected: Record<string, unknown> = {};
    const statuses: Record<string, number> = {};
    for (const caller of callers) {
      const sent = body === undefined || path.startsWith("/admin") ? body : { model, ...body };
      const headers = headersOf(caller);
      statuses[caller] = (
        await ask(url + path, { method, headers, ...(sent === undefined ? {} : { body: { ...sent } }) })
      ).status;
      const unknown = ["none", "wrong", "expired", "revoked"].includes(caller);
      // After some wrong keys, their address has to wait.
      const refused = caller === "none" ? 401 : (expect.toBeOneOf([401, 429]) as unknown);
      const right = at === undefined || at.includes(role) ? gets : 404;
      expected[caller] = may.includes(caller) ? right : unknown ? refused : 403;
    }
    expect(statuses).toEqual(expected);
  });

  test("an open one answers everybody of this machine, and lets nobody make or change keys", async () => {
    const { url, model } = servers.get(`open ${role}`)!;
    for (const { asks, body, at, gets } of table) {
      const [method, path] = asks.split(" ") as [string, string];
      const sent = body === undefined || path.startsWith("/admin") ? body : { model, ...body };
      const { status } = await ask(url + path, { method, ...(sent === undefined ? {} : { body: { ...sent } }) });
      const writes = method === "POST" && path.startsWith("/admin/keys");
      const right = path === "/admin/keys/inference" && method === "GET" ? 404 : gets;
      expect([asks, status]).toEqual([asks, writes ? 403 : at === undefined || at.includes(role) ? right : 404]);
    }
  });

  test.each([
    "/admin/../v1/models",
    "/v1/../admin/keys",
    "/v1/models/../../admin/keys",
    "/v1/models/..%2f..%2fadmin%2fkeys",
    "/v1/./../admin/keys",
    "/./admin/keys",
    "//admin/keys",
    "/admin//keys",
    "/ADMIN/keys",
    "/Admin/keys",
    "/%61dmin/keys",
    "/admin%2fkeys",
    "/admin%2Fkeys",
    "/admin\\keys",
    "/admin;/keys",
    "/admin;x=y/keys",
    "/;/admin/keys",
    "/v1/..;/admin/keys",
    "/v1/%2e%2e/admin/keys",
    "/v1/%252e%252e/admin/keys",
    "/admin%00/keys",
    "/METRICS",
    "/%6detrics",
    "//metrics",
    "/metrics;",
    "/metrics%20",
    "/v1/models/..%5cmetrics",
  ])("the path %s opens nothing to a caller", async (path) => {
    const { url } = servers.get(role)!;
    const { host } = new URL(url);
    for (const caller of ["none", "inference", "metrics"] as const) {
      const lines = [`GET ${path} HTTP/1.1`, `host: ${host}`, "connection: close"];
      const key = keys.get(caller);
      if (key !== undefined) lines.push(`authorization: Bearer ${key}`);
      const answer = await sendRaw(url, `${lines.join("\r\n")}\r\n\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
      expect(answer).not.toMatch(/"ending"|lair_build_info/);
    }
  });

  test("a target that is no path, and one that names another host, are refused", async () => {
    const { url } = servers.get(role)!;
    const { host } = new URL(url);
    for (const target of [`http://${host}/admin/keys`, "http://x/admin/keys", "admin/keys", "*", `${host}`]) {
      const key = keys.get("operator");
      const bytes = `GET ${target} HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${key}\r\nconnection: close\r\n\r\n`;
      expect([target, (await sendRaw(url, bytes)).slice(0, 12)]).toEqual([target, "HTTP/1.1 400"]);
    }
    const connect = `CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${keys.get("operator")}\r\n\r\n`;
    expect(await sendRaw(url, connect)).not.toMatch(/^HTTP\/1\.1 2/);
  });

  test.each([
    ["two different Authorization", ["authorization: Bearer INFERENCE", "authorization: Bearer ADMIN"], 400],
    ["the same Authorization twice", ["authorization: Bearer ADMIN", "authorization: Bearer ADMIN"], 200],
    ["two in one", ["authorization: Bearer INFERENCE, Bearer ADMIN"], 401],
    ["Basic", [`authorization: Basic ${Buffer.from("a:b").toString("base64")}`], 401],
    ["Basic beside a key", ["authorization: Basic YTpi", "x-api-key: ADMIN"], 401],
    ["an empty Bearer beside a key", ["authorization: Bearer ", "x-api-key: ADMIN"], 200],
    ["two different keys in two headers", ["api-key: ADMIN", "x-api-key: INFERENCE"], 400],
    ["two different keys in one header", ["x-api-key: INFERENCE", "x-api-key: ADMIN"], 400],
    ["a proxy's", ["proxy-authorization: Bearer ADMIN"], 401],
    ["a cookie", ["cookie: api_key=ADMIN"], 401],
    ["underscores", ["x_api_key: ADMIN"], 401],
    [
      "what fronts tell of whom they speak for",
      [
        "authorization: Bearer INFERENCE",
        "x-forwarded-user: admin",
        "x-forwarded-for: 127.0.0.1",
        "x-original-url: /admin/keys",
        "x-rewrite-url: /admin/keys",
        "x-http-method-override: POST",
      ],
      403,
    ],
    [
      "what relays tell one another",
      [
        "x-lair-hop: 1",
        "x-lair-session: x",
        "x-lair-relay: x",
        "x-lair-agent: home",
        "x-lair-target: x",
        "x-lair-name: admin",
        "authorization: Bearer INFERENCE",
      ],
      403,
    ],
  ])("%s: /admin/keys answers %s with %i", async (_what, lines, status) => {
    const { url } = servers.get(role)!;
    const shown = lines.map((line) =>
      line.replaceAll("INFERENCE", keys.get("inference")!).replaceAll("ADMIN", keys.get("admin")!),
    );
    const head = ["GET /admin/keys HTTP/1.1", `host: ${new URL(url).host}`, "connection: close", ...shown];
    expect((await sendRaw(url, `${head.join("\r\n")}\r\n\r\n`)).slice(9, 12)).toBe(String(status));
  });

  it("passes nothing on of what callers say in the words of our own servers", async () => {
    const { url, model } = servers.get(role)!;
    const said = {
      "x-lair-agent": "evil",
      "x-lair-target": "evil",
      "x-lair-name": "evil",
      "x-lair-session": "evil",
      "x-lair-signature": "evil",
      cookie: "evil",
      forwarded: "for=evil",
      "x-forwarded-for": "evil",
    };
    const body = { model, messages: [{ role: "user", content: "x" }] };
    const before = upstream.requests.length;
    const answer = await ask(`${url}/v1/chat/completions`, { headers: { ...headersOf("inference"), ...said }, body });
    expect(answer.status).toBe(200);
    expect(JSON.stringify(upstream.requests.slice(before).map(({ headers }) => headers))).not.toContain("evil");
    expect(JSON.stringify(answer.headers)).not.toContain("evil");
  });
});

describe("what our own servers count on the way", () => {
  it.each(["9", "99999", "-1", "1, 1", "x"])("%s gateways passed are too many", async (hops) => {
    const headers = { ...headersOf("inference"), "x-lair-hops": hops };
    expect((await get(`${servers.get("gateway")!.url}/v1/models`, headers)).status).toBe(400);
  });

  it("a caller who claims to be a relay is sent away by the relay's public port", async () => {
    const headers = { ...headersOf("inference"), "x-lair-hop": "1" };
    const body = { model: "small", messages: [{ role: "user", content: "x" }] };
    const { status } = await ask(`${servers.get("relay")!.url}/v1/chat/completions`, { headers, body });
    expect(status).toBe(421);
  });
});

describe("web pages", () => {
  it.each(roles)("of strangers learn nothing from %s, open or not, with a key or not", async (role) => {
    for (const [name, headers] of [
      [role, headersOf("operator")],
      [`open ${role}`, {}],
    ] as const) {
      const { url } = servers.get(name)!;
      const origin = { origin: "https://evil.example" };
      for (const path of ["/v1/models", "/admin/keys", "/metrics", "/health"]) {
        const answer = await get(url + path, { ...headers, ...origin });
        expect([path, answer.status, answer.headers["access-control-allow-origin"]]).toEqual([path, 403, undefined]);
        const asked = {
          ...origin,
          "access-control-request-method": "GET",
          "access-control-request-headers": "authorization",
        };
        const allowed = await ask(url + path, { method: "OPTIONS", headers: asked });
        expect([path, allowed.status, allowed.headers["access-control-allow-origin"]]).toEqual([path, 403, undefined]);
      }
      expect((await get(`${url}/v1/models`, { ...headers, host: "evil.example" })).status).toBe(403);
      const typed = { ...headers, "content-type": "text/plain" };
      expect((await ask(`${url}/admin/keys`, { headers: typed, body: '{"name":"x"}' })).status).toBe(415);
    }
  });
});

describe("the head of a reply", () => {
  it.each(roles)("of %s says how it may be read and kept, and nothing of what runs there", async (role) => {
    const { url, model } = servers.get(role)!;
    const operator = headersOf("operator");
    const chat = { body: { model, messages: [{ role: "user", content: "x" }] } };
    const asked = [
      "/health",
      "/version",
      "/v1/models",
      "/metrics",
      "/admin/keys",
      "/admin/usage",
      "/admin/usage?format=csv",
      "/nothing",
    ];
    const answers = [
      ...(await Promise.all(asked.map((path) => get(url + path, operator)))),
      await get(`${url}/v1/models`),
      await ask(`${url}/v1/chat/completions`, { headers: operator, ...chat }),
      await ask(`${url}/v1/chat/completions`, { headers: operator, body: { ...chat.body, stream: true } }),
      await ask(`${url}/v1/chat/completions`, { headers: { ...operator, "content-type": "text/plain" }, body: "{" }),
    ];
    for (const [index, { headers }] of answers.entries()) {
      expect(headers["x-content-type-options"]).toBe("nosniff");
      expect(headers["content-type"]).toMatch(/^(?:application\/json|text\/(?:event-stream|csv|plain);)/);
      if (index <= asked.length) expect(headers["cache-control"]).toBe("no-store");
      for (const name of ["server", "x-powered-by", "set-cookie", "access-control-allow-origin"])
        expect(headers[name]).toBeUndefined();
    }
    const made = await ask(`${url}/admin/keys`, { headers: operator, body: { name: `made-by-${role}` } });
    expect([made.status, made.headers["cache-control"]]).toEqual([201, "no-store"]);
    const raw = await sendRaw(url, "nonsense\r\n\r\n");
    expect(raw).toMatch(/^HTTP\/1\.1 400 [^]*x-content-type-options: nosniff/);
  });
});
