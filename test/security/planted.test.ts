import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningAgent, startAgent } from "../../src/agent.ts";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { type Relay, startRelay } from "../../src/cloud.ts";
import { openAgentDocument } from "../../src/state/agent-document.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { run } from "../cli/program.ts";
import { echoingModels, startEchoingServer } from "../support/echoing-server.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { recordedLine, type RecordedLine } from "../support/recorded-line.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { type Answer, ask, type Asking, get, open, sendRaw } from "../support/tunnel-caller.ts";
import { freePort } from "../support/tunnel-lines.ts";
import { keptLog, type KeptLog, waitUntil } from "../support/tunnel-log.ts";
import { untilReady } from "../support/tunnel-relays.ts";

// caller ─▶ gateway ─▶ relay A ─▶ relay B ═ agent ─▶ a server that repeats whatever it is sent; and a runtime beside
// them. Every secret that they have is a random text: none of them may come up where it does not belong.

const missing = redisMissing();
if (missing !== undefined) console.warn(`The tests with planted secrets are skipped: ${missing}.`);

/** With what others have to escape, too. */
const plant = (): string => `+${randomBytes(18).toString("hex")}/=`;
const secrets = {
  "the relay's key of callers, which the gateway has": plant(),
  "the key of a server behind the gateway": plant(),
  "a header for a server behind the gateway": plant(),
  "the runtime's key, which the agent has": plant(),
  "the key of a server behind the runtime": plant(),
  "a caller's fixed key": plant(),
  "the operator's key": plant(),
  "the relays' secret": plant() + plant(),
  "a wrong key": plant(),
  "a second key": plant(),
};
type Name = keyof typeof secrets | "a managed key" | "the agent's key" | "the state's password";
const planted = new Map<Name, string>(Object.entries(secrets) as [Name, string][]);

const closing: (() => Promise<unknown>)[] = [];
const logs = new Map<string, KeptLog>();
const lines = new Map<string, RecordedLine>();
/** All that callers got who do not know any secret but their own: heads and bodies. */
const answers: string[] = [];
let redis: RedisServer;
let place: Place;
let gateway: HeldGateway;
let runtime: Runtime;
let relays: Record<"a" | "b", Relay>;
let key = "";

function logOf(name: string): KeptLog {
  const log = keptLog();
  logs.set(name, log);
  return log;
}

async function listened(name: string, url: string): Promise<string> {
  const line = await recordedLine(url);
  closing.push(() => line.close());
  lines.set(name, line);
  return line.url;
}

async function relay(name: "a" | "b"): Promise<Relay> {
  const port = await freePort();
  const config = await place.configure({
    LAIR_RELAY_PORT: "0",
    LAIR_RELAY_GRACE: "0s",
    LAIR_RELAY_INTERNAL_PORT: String(port),
    LAIR_RELAY_INTERNAL_URL: await listened(`to relay ${name}`, `http://127.0.0.1:${port}`),
    LAIR_RELAY_INTERNAL_SECRET: secrets["the relays' secret"],
    LLM_V1_PROXY_TOKEN: secrets["the relay's key of callers, which the gateway has"],
    LAIR_AUTH_ADMIN: secrets["the operator's key"],
  });
  const env = { XDG_DATA_HOME: place.folder, LOCALAPPDATA: place.folder };
  const started = await startRelay(config, logOf(`relay ${name}`), { version: "0.0.0-test", env });
  closing.push(() => started.close());
  return started;
}

async function agent(cloud: string, openai: string): Promise<RunningAgent> {
  const keys = new AgentKeys(await openAgentDocument(place.state));
  closing.push(() => Promise.resolve(keys.close()));
  const { key: agentKey } = await keys.add("home");
  planted.set("the agent's key", agentKey);
  const config = await place.configure({
    LAIR_AGENT_CLOUD: cloud,
    LAIR_AGENT_OPENAI: openai,
    LAIR_AGENT_OPENAI_KEY: secrets["the runtime's key, which the agent has"],
    LAIR_AGENT_KEY: agentKey,
  });
  const started = startAgent(config, logOf("agent"), { version: "0.0.0-test", env: {} });
  closing.push(() => started.close());
  return started;
}

beforeAll(async () => {
  if (missing !== undefined) return;
  redis = await startRedis({ persistence: "append" });
  closing.push(() => redis.close());
  planted.set("the state's password", redis.password);
  place = await openPlace(redis.url);
  closing.push(() => place.close());
  const echo = await startEchoingServer();
  closing.push(() => echo.close());
  relays = { a: await relay("a"), b: await relay("b") };
  await agent(await listened("to the relay's tunnel", relays.b.url), await listened("to the runtime", echo.url));
  for (const one of [relays.a, relays.b]) await untilReady(one, "home");
  key = await place.createKey("laptop");
  planted.set("a managed key", key);
  const upstreams = {
    far: await listened("to relay a's callers", relays.a.url),
    box: await listened("to a server of our kind", echo.url),
    shop: await listened("to a server of another kind", echo.url),
  };
  const limits = { LAIR_LIMITS_BODY: "100KB", LLM_V1_PROXY_TOKEN: secrets["a caller's fixed key"] };
  const operator = { LAIR_AUTH_ADMIN: secrets["the operator's key"] };
  gateway = await holdGateway(
    place,
    Object.entries(upstreams)
      .map((entry) => entry.join("="))
      .join(","),
    {
      ...limits,
      ...operator,
      LAIR_GATEWAY_UPSTREAMS_FAR_KEY: secrets["the relay's key of callers, which the gateway has"],
      LAIR_GATEWAY_UPSTREAMS_BOX_KEY: secrets["the key of a server behind the gateway"],
      LAIR_GATEWAY_UPSTREAMS_BOX_HEADERS: `x-box=${secrets["a header for a server behind the gateway"]}`,
      LAIR_GATEWAY_UPSTREAMS_SHOP_KIND: "openai",
      LAIR_GATEWAY_UPSTREAMS_SHOP_KEY: secrets["the key of a server behind the gateway"],
      LAIR_GRACE: "0s",
    },
  );
  logs.set("gateway", gateway.log);
  closing.push(() => gateway.close());
  const config = await place.configure({
    ...limits,
    ...operator,
    RUNTIME_LISTEN_PORT: "0",
    LAIR_PROVIDERS_BACK_KIND: "openai",
    LAIR_PROVIDERS_BACK_URLS: await listened("to the server behind the runtime", echo.url),
    LAIR_PROVIDERS_BACK_KEY: secrets["the key of a server behind the runtime"],
  });
  const env = { XDG_DATA_HOME: place.folder, LOCALAPPDATA: place.folder };
  runtime = await startRuntime(config, logOf("runtime"), { version: "0.0.0-test", env });
  closing.push(() => runtime.close());
});
afterAll(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function told(url: string, asking: Asking = {}): Promise<Answer> {
  const answer = await ask(url, asking);
  answers.push(`${JSON.stringify(answer.headers)} ${answer.text}`);
  return answer;
}

const chat = { messages: [{ role: "user", content: "hello" }] };
const bearer = (secret: string): Record<string, string> => ({ authorization: `Bearer ${secret}` });

/** All ways to show a key. */
const forms: readonly ((secret: string) => { search?: string; headers?: Record<string, string>; body?: object })[] = [
  (secret) => ({ headers: bearer(secret) }),
  (secret) => ({ headers: { authorization: `bearer   ${secret} ` } }),
  (secret) => ({ headers: { "api-key": secret } }),
  (secret) => ({ headers: { "x-api-key": secret } }),
  (secret) => ({ search: `?api-key=${encodeURIComponent(secret)}&keep=1` }),
  (secret) => ({ search: `?keep=1;API_KEY=${encodeURIComponent(secret)}` }),
  (secret) => ({ search: `?%61pi%5fkey=${encodeURIComponent(secret)}` }),
  (secret) => ({ body: { api_key: secret } }),
  (secret) => ({ body: { "api-key": secret } }),
];

const servers = (): Readonly<Record<string, { url: string; key: string; model: string }>> => ({
  gateway: { url: gateway.url, key, model: "far/fine" },
  "relay a": { url: relays.a.url, key: secrets["the relay's key of callers, which the gateway has"], model: "fine" },
  "relay b": {
    url: relays.b.url,
    key: secrets["the relay's key of callers, which the gateway has"],
    model: "home/fine",
  },
  runtime: { url: runtime.url, key: secrets["a caller's fixed key"], model: "back:fine" },
});
const names = ["gateway", "relay a", "relay b", "runtime"];

describe.skipIf(missing !== undefined)("secrets that are planted everywhere", () => {
  it.each(names)("are taken by %s in every form, on every path, right and wrong ones", async (name) => {
    const { url, key: own, model } = servers()[name]!;
    const wrong = secrets["a wrong key"];
    for (const toForm of forms)
      for (const secret of [own, wrong]) {
        const { search = "", headers = {}, body } = toForm(secret);
        for (const stream of [false, true]) {
          const path = `/v1/chat/completions${search}`;
          const answer = await told(url + path, { headers, body: { ...body, ...chat, model, stream } });
          if (secret === own)
            expect([path, answer.status, answer.text]).toEqual([path, 200, expect.stringContaining("hello")]);
          else expect([401, 429]).toContain(answer.status);
        }
        for (const path of [
          "/v1/models",
          "/v1/models/x",
          "/metrics",
          "/admin/keys",
          "/admin/usage",
          "/version",
          "/health",
          "/nothing",
          "/",
        ])
          await told(`${url}${path}${search}`, { method: "GET", headers });
      }
  });

  it.each(names)("are asked for by %s with every method and in every wrong place", async (name) => {
    const { url, key: own } = servers()[name]!;
    for (const secret of [own, secrets["a wrong key"]]) {
      const headers = bearer(secret);
      for (const method of ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
        for (const path of ["/v1/chat/completions", "/v1/models", "/admin/keys", "/metrics"])
          await told(url + path, {
            method,
            headers: { ...headers, origin: "http://evil.example", "access-control-request-method": "GET" },
          });
      const encoded = encodeURIComponent(secret);
      for (const place of [
        `/v1/models;api_key=${encoded}`,
        `/v1/models&api-key=${encoded}`,
        `/v1/chat/completions%3Fapi_key=${encoded}`,
        `/v1/models??api_key=${encoded}`,
      ])
        await told(url + place, { method: "GET", headers: {} });
      for (const [name, value] of [
        ["authorization", `Basic ${Buffer.from(`u:${secret}`).toString("base64")}`],
        ["authorization", secret],
        ["proxy-authorization", `Bearer ${secret}`],
        ["cookie", `key=${secret}`],
      ] as const)
        await told(`${url}/v1/models`, { method: "GET", headers: { [name]: value } });
    }
  });

  it.each(names)("are not repeated by %s when it refuses a request", async (name) => {
    const { url, key: own, model } = servers()[name]!;
    const { host } = new URL(url);
    const target = `${url}/v1/chat/completions`;
    const both = { ...bearer(own), "x-api-key": secrets["a second key"] };
    expect((await told(target, { headers: both, body: { ...chat, model } })).status).toBe(400);
    const broken = [
      `{"api_key":"${own}", "model": ${own}`,
      `{"api_key":"${own}"`,
      `{"api_key":["${own}"],"model":"m"}`,
      `{"model":"${model}","api_key":"${own}","messages":"none"}`,
    ];
    for (const body of broken) await told(target, { body });
    for (const body of broken) await told(target, { headers: bearer(own), body });
    await told(target, { headers: bearer(own.repeat(200).slice(0, 10_000)), body: { ...chat, model } });
    await told(target, {
      headers: { "content-type": "text/plain", ...bearer(own) },
      body: JSON.stringify({ api_key: own }),
    });
    await told(target, { headers: { ...bearer(own), host: "evil.example" }, body: { ...chat, model } });
    await told(target, { headers: { ...bearer(own), origin: "http://evil.example" }, body: { ...chat, model } });
    const large = { ...chat, model, api_key: own, padding: "x".repeat(200_000) };
    await told(target, { body: large }).catch(() => undefined);
    await told(target, { headers: bearer(own), body: large }).catch(() => undefined);
    for (const raw of [
      `GET /v1/models HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${own}\r\nx: ${"x".repeat(70_000)}\r\n\r\n`,
      `GET /v1/models HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${own}\r\nauthorization: Bearer ${secrets["a second key"]}\r\nconnection: close\r\n\r\n`,
      `GET http://${host}/v1/models?api_key=${own} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`,
      `${own} /v1/models HTTP/1.1\r\nhost: ${host}\r\n\r\n`,
      `GET /v1/models HTTP/1.1\r\nhost: ${host}\r\nauth orization: Bearer ${own}\r\n\r\n`,
      `POST /v1/chat/completions HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${own}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz${own}\r\n`,
    ])
      answers.push(await sendRaw(url, raw));
  });

  it.each(["far", "box", "shop"])(
    "come back from no server behind the gateway that repeats them (%s)",
    async (upstream) => {
      for (const model of echoingModels)
        for (const stream of [false, true]) {
          const body = { ...chat, model: `${upstream}/${model}`, stream, note: "kept" };
          const answer = await told(`${gateway.url}/v1/chat/completions`, { headers: bearer(key), body });
          const { headers } = answer;
          for (const name of [
            "set-cookie",
            "server",
            "x-powered-by",
            "location",
            "access-control-allow-origin",
            "x-ratelimit-limit-requests",
          ])
            expect([model, name, headers[name]]).toEqual([model, name, undefined]);
          expect(headers["www-authenticate"]).toBeUndefined();
          expect(headers["x-content-type-options"]).toBe("nosniff");
          if (model === "fine") expect(answer.status).toBe(200);
          else if (!model.startsWith("die")) expect(answer.status).toBeGreaterThanOrEqual(400);
        }
    },
  );

  it.each(["relay a", "relay b", "runtime"])("come back from no server behind %s that repeats them", async (name) => {
    const { url, key: own, model: fine } = servers()[name]!;
    for (const model of echoingModels)
      for (const stream of [false, true]) {
        const body = { ...chat, model: fine.replace("fine", model), stream };
        const { headers } = await told(`${url}/v1/chat/completions`, { headers: bearer(own), body });
        expect([headers["set-cookie"], headers["server"], headers["x-ratelimit-limit-requests"]]).toEqual([
          undefined,
          undefined,
          undefined,
        ]);
      }
  });

  it("are in nobody's hands when limits are reached, callers leave, keys are made and the state goes away", async () => {
    const slow = await place.createKey("slow", { limits: { requestsPerMinute: 1 } });
    planted.set("a managed key", key);
    const body = { ...chat, model: "box/fine" };
    const target = `${gateway.url}/v1/chat/completions`;
    await waitUntil(
      async () => (await told(target, { headers: bearer(slow), body })).status === 429,
      "the limit is reached",
    );
    const leaving = await open(target, { headers: bearer(key), body: { ...body, stream: true } });
    leaving.leave();
    const operator = bearer(secrets["the operator's key"]);
    const url = `${gateway.url}/admin/keys`;
    const { key: made } = JSON.parse((await ask(url, { headers: operator, body: { name: "made" } })).text) as {
      key: string;
    };
    const { key: turned } = JSON.parse((await ask(`${url}/made/rotate`, { headers: operator, body: {} })).text) as {
      key: string;
    };
    for (const text of [made, turned]) expect(await leaks(text, await traces())).toEqual([]);
    for (const asking of [
      { body: { name: "made" } },
      { body: { name: "x", secret: key } },
      { body: `{"name": ${key}` },
    ])
      await told(url, { ...asking, headers: operator });
    await told(`${url}/${key}`, { method: "GET", headers: operator });
    await told(`${url}/${encodeURIComponent(`${key}`)}/revoke`, { headers: operator, body: {} });
    for (const path of [
      "/admin/keys",
      "/admin/usage?by=key,model",
      "/admin/usage/records",
      "/admin/usage/records?format=csv",
      "/admin/upstreams",
      "/metrics",
      "/version",
    ])
      expect((await told(gateway.url + path, { method: "GET", headers: operator })).status).toBe(200);
    for (const path of ["/admin/agents", "/metrics", "/ready"])
      expect((await told(relays.a.url + path, { method: "GET", headers: operator })).status).toBe(200);
    await redis.stop();
    await told(url, { method: "GET", headers: operator });
    await told(url, { headers: operator, body: { name: "never" } });
    for (const { url: server, key: own, model } of Object.values(servers()))
      await told(`${server}/v1/chat/completions`, { headers: bearer(own), body: { ...chat, model } });
    await told(`${gateway.url}/metrics`, { method: "GET", headers: operator });
    await redis.start();
  });

  it("are told by no command that cannot do what it is asked", async () => {
    const asked: readonly (readonly [string[], Record<string, string>])[] = [
      [
        ["keys", "list"],
        { LAIR_STATE: redis.url.replace(redis.password, secrets["a wrong key"].replaceAll(/[+/=]/g, "")) },
      ],
      [["usage"], { LAIR_STATE: redis.url.replace(String(redis.port), "1") }],
      [["keys", "list"], { LAIR_STATE: redis.url }],
      [["cloud", "agents", "list"], { LAIR_STATE: redis.url }],
    ];
    const ended = await Promise.all(asked.map(([args, env]) => run(args, { cwd: place.folder, env })));
    expect(ended.map(({ code }) => code)).toEqual([1, 1, 0, 0]);
    answers.push(...ended.map(({ stdout, stderr }) => stdout + stderr));
    for (const { stdout, stderr } of ended) expect(stdout + stderr).not.toContain(secrets["a wrong key"].slice(1, -2));
  });

  it("are nowhere but where they belong", async () => {
    const found = await traces();
    const wrong: string[] = [];
    for (const [name, secret] of planted)
      for (const where of await leaks(secret, found))
        if (!belongs.has(`${name}: ${where}`)) wrong.push(`${name}: ${where}`);
    expect(wrong).toEqual([]);
    // Each is on its own way, so the wires were listened to.
    for (const place of belongs) {
      const [name, where] = place.split(": ") as [Name, string];
      expect(await leaks(planted.get(name)!, { [where]: found[where]! }), place).toEqual([where]);
    }
  });
});

const belongs = new Set([
  "the relay's key of callers, which the gateway has: the wire to relay a's callers",
  "the key of a server behind the gateway: the wire to a server of our kind",
  "the key of a server behind the gateway: the wire to a server of another kind",
  "a header for a server behind the gateway: the wire to a server of our kind",
  "the runtime's key, which the agent has: the wire to the runtime",
  "the key of a server behind the runtime: the wire to the server behind the runtime",
  "the agent's key: the wire to the relay's tunnel",
]);

/** Everything that was said, written or counted anywhere. */
async function traces(): Promise<Record<string, string>> {
  const found: Record<string, string> = { "what callers were told": answers.join("\n") };
  for (const [name, { lines: written }] of logs) found[`the log of ${name}`] = written.join("\n");
  for (const [name, line] of lines) found[`the wire ${name}`] = line.bytes().toString("latin1");
  const [, folder = ""] = (await redis.cli("CONFIG", "GET", "dir")).split("\n");
  for (const [name, root] of [
    ["the folder of the servers", place.folder],
    ["the state", path.join(folder, "appendonlydir")],
  ] as const)
    found[name] = readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), "latin1"))
      .join("\n");
  found["the program's title"] = `${process.title} ${process.argv.join(" ")}`;
  found["the metrics"] = (await get(`${gateway.url}/metrics`, bearer(secrets["the operator's key"]))).text;
  return found;
}

/** Where a secret stands, in any spelling. */
function leaks(secret: string, found: Record<string, string>): Promise<string[]> {
  const spelled = spellings(secret);
  return Promise.resolve(Object.keys(found).filter((where) => spelled.some((one) => found[where]!.includes(one))));
}

function spellings(secret: string): string[] {
  // Within a longer text, Base64 has three forms, of which the middle is the same whatever stands around it.
  const base64 = [0, 1, 2].map((offset) => {
    const text = Buffer.from("x".repeat(offset) + secret).toString("base64");
    return text.slice(offset === 0 ? 0 : 4, text.length - 4);
  });
  const core = secret.replace(/^\+|\/=$/g, "");
  return [
    core,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    Buffer.from(core).toString("hex"),
    ...base64,
  ];
}
