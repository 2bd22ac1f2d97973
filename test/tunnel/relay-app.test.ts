import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type RunningAgent, startAgent } from "../../src/agent.ts";
import { type Relay, startRelay } from "../../src/cloud.ts";
import { loadConfig } from "../../src/config/load.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { ask, get, openUnanswered } from "../support/tunnel-caller.ts";
import { type Certificate, makeCertificate } from "../support/tunnel-certificate.ts";
import { keptLog, waitUntil } from "../support/tunnel-log.ts";
import { SteeredRuntime } from "../support/tunnel-runtime.ts";

type Variables = Readonly<Record<string, string>>;

let folder = "";
let file = "";
let runtime: SteeredRuntime;
let relayLog = keptLog();
let agentLog = keptLog();
const relays: Relay[] = [];
const agents: RunningAgent[] = [];
const answered = (asked: {
  reply: { end(text: string): void; setHeader(name: string, value: string): void };
}): void => {
  asked.reply.setHeader("content-type", "application/json");
  asked.reply.end('{"answered":true}');
};

beforeAll(async () => {
  runtime = await SteeredRuntime.start();
});
afterAll(() => runtime.close());
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-relay-"));
  file = path.join(folder, "agents.json");
  relayLog = keptLog();
  agentLog = keptLog();
  runtime.forget();
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.close()));
  await Promise.all(relays.splice(0).map((relay) => relay.close()));
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

async function relayWith(env: Variables = {}): Promise<Relay> {
  const variables = { LAIR_RELAY_PORT: "0", LAIR_RELAY_AGENTS: file, LAIR_RELAY_GRACE: "10s", ...env };
  const { config } = await loadConfig({ env: variables, cwd: folder, home: folder });
  const relay = await startRelay(config, relayLog, { version: "0.0.0-test", env: {} });
  relays.push(relay);
  return relay;
}

async function agentAt(relay: Relay, env: Variables = {}): Promise<RunningAgent> {
  const variables = { LAIR_AGENT_CLOUD: relay.url, LAIR_AGENT_OPENAI: runtime.url, ...env };
  const { config } = await loadConfig({ env: variables, cwd: folder, home: folder });
  const agent = startAgent(config, agentLog, { version: "0.0.0-test", env: {} });
  agents.push(agent);
  return agent;
}

const connected = (relay: Relay, name: string): Promise<void> =>
  waitUntil(() => relay.fleet.agents().some((one) => one.name === name && one.ready), `${name} is connected`);
const away = (relay: Relay, name: string): Promise<void> =>
  waitUntil(() => relay.fleet.agents().some((one) => one.name === name && one.since === null), `${name} is away`);

/** Status and body of the answer to a request for a tunnel; status 101 when it is let in. */
function knock(url: string, headers: Variables = {}): Promise<{ status: number; body: string }> {
  const upgrade = { connection: "Upgrade", upgrade: "lair-tunnel/1" };
  const said = { "lair-version": "0.0.0-test", "lair-instance": "0123456789abcdef" };
  return new Promise((resolve, reject) => {
    const asked = request(`${url}/tunnel`, { headers: { ...upgrade, ...said, ...headers } });
    asked.on("upgrade", (_, socket) => {
      socket.destroy();
      resolve({ status: 101, body: "" });
    });
    asked.on("response", (reply) => {
      let body = "";
      reply
        .on("data", (chunk) => (body += String(chunk)))
        .on("end", () => resolve({ status: reply.statusCode ?? 0, body }));
    });
    asked.on("error", reject).end();
  });
}

const chat = { model: "demo", messages: [{ role: "user", content: "hi" }] };

describe("a relay of this machine without any key", () => {
  it("lets agents of this machine in, by the name they give, and answers everybody here", async () => {
    const relay = await relayWith();
    expect(relay.keyless).toBe(true);
    await agentAt(relay, { LAIR_AGENT_NAME: "desk" });
    await agentAt(relay);
    await connected(relay, "desk");
    await connected(relay, "local");
    runtime.answering = answered;
    expect((await ask(`${relay.url}/v1/chat/completions`, { body: chat })).text).toBe('{"answered":true}');
    const listed = JSON.parse((await get(`${relay.url}/admin/agents`)).text) as { agents: { name: string }[] };
    expect(listed.agents.map(({ name }) => name)).toEqual(["desk", "local"]);
    expect(JSON.parse((await get(`${relay.url}/version`)).text)).toMatchObject({
      role: "relay",
      version: "0.0.0-test",
    });
    expect((await get(`${relay.url}/metrics`)).text).toMatch(/lair_agent_ready\{agent="desk"\} 1/);
  });

  it.each([
    ["a name that a web page's owner could have pointed here", { host: "evil.example" }, 403, "forbidden_host"],
    ["a front that speaks for somebody", { "x-forwarded-for": "203.0.113.7" }, 401, "invalid_api_key"],
    ["a key that nobody knows", { authorization: "Bearer lla_desk_x" }, 401, "invalid_api_key"],
  ])("lets nobody in through %s", async (_, headers, status, code) => {
    const relay = await relayWith();
    const { status: answer, body } = await knock(relay.url, headers);
    expect([answer, JSON.parse(body).error.code]).toEqual([status, code]);
    expect((await knock(relay.url)).status).toBe(101);
  });

  it("calls by such a name are refused too, and a name that is configured is not", async () => {
    const relay = await relayWith({ LAIR_HOSTS: "relay.example" });
    expect((await get(`${relay.url}/health`, { host: "evil.example" })).status).toBe(403);
    expect((await get(`${relay.url}/health`, { host: "relay.example" })).status).toBe(200);
    expect((await knock(relay.url, { host: "relay.example" })).status, "no key, but not from this machine").toBe(401);
  });

  it("answers nobody who comes through a front, for they may come from anywhere; with keys it does", async () => {
    for (const [env, status] of [
      [{}, 403],
      [{ LLM_V1_PROXY_TOKEN: "secret" }, 200],
    ] as const) {
      const relay = await relayWith(env);
      const asked = { authorization: "Bearer secret", "x-forwarded-for": "203.0.113.7" };
      const answer = await get(`${relay.url}/version`, asked);
      expect(answer.status).toBe(status);
      if (status === 403) expect(answer.text).toContain("LLM_V1_PROXY_TOKEN");
    }
  });

  it("asks agents for a key as soon as one is registered, and goes on when the file goes away", async () => {
    const relay = await relayWith();
    await agentAt(relay);
    await connected(relay, "local");
    const { key } = await new AgentKeys(file).add("home");
    await away(relay, "local");
    expect((await knock(relay.url)).status).toBe(401);
    rmSync(file);
    // A key that it does not know makes the relay look at the file at once.
    await knock(relay.url, { authorization: `Bearer lla_home_${"A".repeat(43)}` });
    expect((await knock(relay.url, { authorization: `Bearer ${key}` })).status).toBe(401);
    expect((await knock(relay.url)).status).toBe(401);
    expect(relay.keyless).toBe(false);
  });

  it("is none where callers need a key", async () => {
    const relay = await relayWith({ LLM_V1_PROXY_TOKEN: "callers" });
    expect(relay.keyless).toBe(false);
    expect((await knock(relay.url)).status).toBe(401);
  });
});

describe("a relay with keys", () => {
  it("asks callers for one, but for its health", async () => {
    const relay = await relayWith({ LLM_V1_PROXY_TOKEN: "callers", LAIR_AUTH_ADMIN: "operators" });
    const paths = ["/v1/models", "/admin/agents", "/metrics", "/version", "/health", "/ready"];
    const statuses = async (headers: Variables): Promise<number[]> =>
      Promise.all(paths.map(async (one) => (await get(relay.url + one, headers)).status));
    expect(await statuses({})).toEqual([401, 401, 401, 401, 200, 503]);
    expect(await statuses({ authorization: "Bearer callers" })).toEqual([503, 403, 403, 200, 200, 503]);
    expect(await statuses({ authorization: "Bearer operators" })).toEqual([503, 200, 200, 200, 200, 503]);
    await agentAt(relay, { LAIR_AGENT_KEY: (await new AgentKeys(file).add("home")).key });
    await connected(relay, "home");
    expect((await get(`${relay.url}/ready`)).status).toBe(200);
  });

  it("takes a key the moment it is registered, and cuts its tunnels the moment it is revoked", async () => {
    const relay = await relayWith();
    const keys = new AgentKeys(file);
    const { key } = await keys.add("home");
    expect((await knock(relay.url, { authorization: `Bearer ${key}` })).status).toBe(101);
    await agentAt(relay, { LAIR_AGENT_KEY: key });
    await connected(relay, "home");
    const call = openUnanswered(`${relay.url}/v1/chat/completions`, { body: chat });
    await runtime.next();
    await keys.revoke("home");
    const over = await call.over;
    expect(over).toMatchObject({ status: 502 });
    await away(relay, "home");
    expect((await ask(`${relay.url}/v1/chat/completions`, { body: chat })).status).toBe(503);
    expect(await agentLog.until(/revoked/)).toContain("the key k1 was revoked");
    expect(relayLog.lines.join() + agentLog.lines.join()).not.toContain(key.slice(-43));
  });

  it("does not start with a file of agents that it cannot read", async () => {
    writeFileSync(file, "{");
    await expect(relayWith()).rejects.toThrow(`the file of agents ${file} cannot be used`);
  });
});

describe("a relay that is asked to stop", () => {
  it("takes no connection more, and finishes the answer under way", async () => {
    const relay = await relayWith();
    await agentAt(relay);
    await connected(relay, "local");
    const call = openUnanswered(`${relay.url}/v1/chat/completions`, { body: chat });
    const asked = await runtime.next();
    const closed = relay.close();
    await waitUntil(
      () =>
        get(`${relay.url}/health`).then(
          () => false,
          () => true,
        ),
      "nobody is let in",
    );
    answered(asked);
    expect(await call.over).toMatchObject({ status: 200, text: '{"answered":true}', clean: true });
    await closed;
  });

  it("cuts what is not done within its grace", async () => {
    const relay = await relayWith({ LAIR_RELAY_GRACE: "100ms" });
    await agentAt(relay);
    await connected(relay, "local");
    const call = openUnanswered(`${relay.url}/v1/chat/completions`, { body: chat });
    await runtime.next();
    await relay.close();
    const over = await call.over;
    expect(over instanceof Error || over.status >= 500 || !over.clean).toBe(true);
  });
});

describe("a relay with TLS", () => {
  let own: Certificate | undefined;
  let other: Certificate | undefined;
  beforeAll(() => {
    own = makeCertificate();
    other = makeCertificate();
  });
  afterAll(() => {
    own?.remove();
    other?.remove();
  });

  it("serves callers and agents by the certificate of its files", async ({ skip }) => {
    if (own === undefined) return skip("openssl is not installed");
    const relay = await relayWith({ LAIR_RELAY_TLS_CERT: own.cert, LAIR_RELAY_TLS_KEY: own.key });
    expect(relay.url).toMatch(/^https:/);
    await agentAt(relay, { LAIR_AGENT_TLS_CA: own.cert });
    await connected(relay, "local");
    runtime.answering = answered;
    expect((await ask(`${relay.url}/v1/chat/completions`, { body: chat, ca: own.cert })).status).toBe(200);
  });

  it("takes over another certificate when its files change, and keeps the old one when they are broken", async ({
    skip,
  }) => {
    if (own === undefined || other === undefined) return skip("openssl is not installed");
    const files = { cert: path.join(folder, "cert.pem"), key: path.join(folder, "key.pem") };
    const put = ({ cert, key }: Certificate): void => {
      copyFileSync(cert, files.cert);
      copyFileSync(key, files.key);
    };
    put(own);
    const relay = await relayWith({ LAIR_RELAY_TLS_CERT: files.cert, LAIR_RELAY_TLS_KEY: files.key });
    const first = await fingerprintOf(relay.url);
    writeFileSync(files.cert, "no certificate");
    await relayLog.until(/the old one stays/);
    expect(await fingerprintOf(relay.url)).toBe(first);
    put(other);
    await relayLog.until(/the new certificate is in use/);
    expect(await fingerprintOf(relay.url)).not.toBe(first);
  });

  it("asks agents for a certificate of its authority, where one is set, and callers not", async ({ skip }) => {
    if (own === undefined || other === undefined) return skip("openssl is not installed");
    const relay = await relayWith({
      LAIR_RELAY_TLS_CERT: own.cert,
      LAIR_RELAY_TLS_KEY: own.key,
      LAIR_RELAY_TLS_CLIENT_CA: other.cert,
    });
    await agentAt(relay, { LAIR_AGENT_NAME: "bare", LAIR_AGENT_TLS_CA: own.cert });
    await relayLog.until(/certificate of its own authority/);
    const tls = { LAIR_AGENT_TLS_CA: own.cert, LAIR_AGENT_TLS_CERT: other.cert, LAIR_AGENT_TLS_KEY: other.key };
    await agentAt(relay, { LAIR_AGENT_NAME: "home", ...tls });
    await connected(relay, "home");
    expect(relay.fleet.agents().map(({ name }) => name)).toEqual(["home"]);
    expect((await ask(`${relay.url}/health`, { method: "GET", ca: own.cert })).status).toBe(200);
  });
});

async function fingerprintOf(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket: TLSSocket = connectTls({ host: hostname, port: Number(port), rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}
