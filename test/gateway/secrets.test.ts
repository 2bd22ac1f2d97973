import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { writePlay } from "../support/opencode-model.ts";
import { recordedLine, type RecordedLine } from "../support/recorded-line.ts";
import { type Answer, ask, type Asking, get } from "../support/tunnel-caller.ts";
import { callerKey, type Chain, startChain } from "../support/tunnel-chain.ts";
import { keptLog, type KeptLog, waitUntil } from "../support/tunnel-log.ts";

// gateway ─▶ relay ═ agent ─▶ runtime with a real model; every wire between them is listened to.

let place: Place;
let runtime: Runtime;
let runtimeLog: KeptLog;
let chain: Chain;
let gateway: HeldGateway;
let key = "";
const lines: RecordedLine[] = [];

beforeAll(async () => {
  place = await openPlace();
  mkdirSync(path.join(place.folder, "models"));
  writePlay(path.join(place.folder, "models/play.gguf"), { title: "Potato", turns: [] });
  const config = await place.configure({
    LAIR_STATE: "none",
    RUNTIME_LISTEN_PORT: "0",
    LLAMA_CPP_MODEL: path.join(place.folder, "models"),
    LLAMA_CPP_CACHE_BYTES: "0",
    LLAMA_CPP_N_THREADS: "1",
    LLAMA_CPP_N_CTX: "4096",
  });
  runtimeLog = keptLog();
  runtime = await startRuntime(config, runtimeLog, { version: "0.0.0-test", env: {} });
  const listened = async (url: string): Promise<string> => {
    const line = await recordedLine(url);
    lines.push(line);
    return line.url;
  };
  chain = await startChain({ runtime: await listened(runtime.url), front: listened });
  key = await place.createKey("laptop");
  gateway = await holdGateway(place, `home=${await listened(chain.url)}`, {
    LAIR_GATEWAY_UPSTREAMS_HOME_KEY: callerKey,
    LAIR_AUTH_ADMIN: "operator",
  });
  await waitUntil(async () => (await get(`${gateway.url}/v1/models`, { "api-key": key })).text.includes("play"));
});
afterAll(async () => {
  await gateway?.close();
  await chain?.close();
  await runtime?.close();
  await Promise.all(lines.map((line) => line.close()));
  await place?.close();
});

const chat = { model: "play", messages: [{ role: "user", content: "hello" }], temperature: 0 };

interface Form {
  readonly search?: string;
  readonly headers?: Record<string, string>;
  readonly body?: JsonObject;
}

const forms: readonly (readonly [string, (secret: string) => Form])[] = [
  ["Authorization: Bearer", (secret) => ({ headers: { authorization: `Bearer ${secret}` } })],
  ["api-key:", (secret) => ({ headers: { "api-key": secret } })],
  ["x-api-key:", (secret) => ({ headers: { "x-api-key": secret } })],
  ["?api-key=", (secret) => ({ search: `?api-key=${secret}&keep=1` })],
  ["?api_key=", (secret) => ({ search: `?keep=1&api_key=${secret}` })],
  ["api-key in the body", (secret) => ({ body: { "api-key": secret } })],
  ["api_key in the body", (secret) => ({ body: { api_key: secret } })],
];

function send(form: Form, more: JsonObject = {}): Promise<Answer> {
  const asking: Asking = { headers: form.headers ?? {}, body: { ...form.body, ...chat, ...more } };
  return ask(`${gateway.url}/v1/chat/completions${form.search ?? ""}`, asking);
}

/** Everything that was said, written or counted anywhere. */
async function traces(): Promise<Record<string, string>> {
  const { text: metrics } = await get(`${gateway.url}/metrics`, { authorization: "Bearer operator" });
  const files = readdirSync(place.folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".gguf"))
    .map((entry) => textOf(path.join(entry.parentPath, entry.name)));
  return {
    wires: lines.map((line) => line.bytes().toString("latin1")).join("\n"),
    "the gateway's log": gateway.log.lines.join("\n"),
    "the relay's log": chain.relayLog.lines.join("\n"),
    "the agent's log": chain.agentLog.lines.join("\n"),
    "the runtime's log": runtimeLog.lines.join("\n"),
    metrics,
    files: files.join("\n"),
    "the program's title": `${process.title} ${process.argv.join(" ")}`,
  };
}

describe("through gateway, relay and agent to the runtime", () => {
  test.each(forms)("a key as %s is good, and ends at the gateway", async (_name, toForm) => {
    for (const stream of [false, true]) {
      const answer = await send(toForm(key), { stream });
      expect([answer.status, answer.text]).toEqual([
        200,
        expect.stringContaining(`"chat.completion${stream ? ".chunk" : ""}"`),
      ]);
      expect(answer.headers["x-lair-target"]).toMatch(/^home\//);
      expect(JSON.stringify(answer.headers) + answer.text).not.toContain(key);
    }
    const secret = key.slice(-40);
    for (const [where, text] of Object.entries(await traces())) expect(text.includes(secret), where).toBe(false);
  });

  test.each(forms)("a wrong key as %s is refused, and repeated nowhere", async (name, toForm) => {
    const wrong = `lair_wrong_${Buffer.from(name).toString("base64url").padEnd(43, "x")}`;
    const answer = await send(toForm(wrong));
    expect([answer.status, answer.text]).toEqual([401, expect.stringContaining("invalid_api_key")]);
    expect(JSON.stringify(answer.headers) + answer.text).not.toContain(wrong);
    for (const [where, text] of Object.entries(await traces())) expect(text.includes(wrong), where).toBe(false);
  });

  it("two different keys in one request are refused", async () => {
    const answer = await send({ headers: { authorization: `Bearer ${key}` }, search: "?api-key=another" });
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("two different keys")]);
  });

  it("each call is written down with the agent that answered it", async () => {
    const before = (await place.state.usage.list({ limit: 1000 })).length;
    await send({ headers: { "x-api-key": key } });
    const [record] = await place.records(before + 1);
    expect(record).toMatchObject({ model: "play", provider: "home", agent: "home", counted: "reported", status: 200 });
    expect(record?.promptTokens).toBeGreaterThan(0);
    expect(record?.completionTokens).toBeGreaterThan(0);
  });

  it("nothing of the gateway's own key for the relay comes back to callers", async () => {
    const answer = await send({ headers: { "x-api-key": key } }, { model: "nothing" });
    expect([answer.status, answer.text]).toEqual([404, expect.stringContaining("model_not_found")]);
    const { text } = await get(`${gateway.url}/v1/models`, { "x-api-key": key });
    expect(answer.text + text).not.toContain(callerKey);
    expect(gateway.log.lines.join("\n")).not.toContain(callerKey);
  });
});

/** A piece of the journal may have been carried away since it was listed. */
function textOf(file: string): string {
  try {
    return readFileSync(file, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
