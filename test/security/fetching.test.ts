import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { startRuntime } from "../../src/app.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { startFakeLmDeploy } from "../support/fake-lmdeploy.ts";
import { startFakeMnn } from "../support/fake-mnn.ts";
import { startFakeOllama } from "../support/fake-ollama.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer } from "../support/fake-server.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";
import { holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { ask, get, sendRaw } from "../support/tunnel-caller.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// A caller names an address that only this machine can reach. Nobody may go there: neither we, nor a server that we ask.

const closing: (() => Promise<unknown>)[] = [];
let place: Place;
let connections = 0;
let port = 0;
const fakes = new Map<string, FakeServer>();
/** Model → where it is asked: of each kind of provider at a runtime, and of those that a gateway may have itself. */
const targets = new Map<string, { url: string; model: string; fake: FakeServer }>();

const kinds = ["ollama", "lmdeploy", "mnn", "vllm", "openai"] as const;

beforeAll(async () => {
  place = await openPlace();
  const canary = createServer((socket) => {
    connections++;
    socket.on("error", () => undefined).destroy();
  });
  await once(canary.listen(0), "listening");
  closing.push(() => once(canary.close(), "close"));
  ({ port } = canary.address() as AddressInfo);
  const starts = {
    ollama: startFakeOllama,
    lmdeploy: startFakeLmDeploy,
    mnn: startFakeMnn,
    vllm: startFakeVllm,
    openai: startFakeOpenAi,
  };
  const env: Record<string, string> = { RUNTIME_LISTEN_PORT: "0", LAIR_STATE: "none", LAIR_IMAGES_ALLOW: "*" };
  for (const kind of kinds) {
    const fake = await starts[kind]();
    closing.push(() => fake.close());
    fakes.set(kind, fake);
    env[`LAIR_PROVIDERS_X${kind.toUpperCase()}_KIND`] = kind;
    env[`LAIR_PROVIDERS_X${kind.toUpperCase()}_URLS`] = fake.url;
  }
  const runtime = await startRuntime(await place.configure(env), silent, { version: "0.0.0-test", env: {} });
  closing.push(() => runtime.close());
  const upstreams = kinds.map((kind) => `x${kind}=${fakes.get(kind)!.url}`).join(",");
  const gateway = await holdGateway(place, upstreams, {
    LAIR_IMAGES_ALLOW: "*",
    ...Object.fromEntries(kinds.map((kind) => [`LAIR_GATEWAY_UPSTREAMS_X${kind.toUpperCase()}_KIND`, kind])),
  });
  closing.push(() => gateway.close());
  await waitUntil(async () => (await get(`${gateway.url}/ready`)).status === 200);
  for (const kind of kinds) {
    const list = JSON.parse((await get(`${runtime.url}/v1/models`)).text) as { data: { id: string }[] };
    const model = list.data.map(({ id }) => id).find((id) => id.startsWith(`x${kind}:`)) ?? `x${kind}:m`;
    const fake = fakes.get(kind)!;
    targets.set(`${kind} behind the runtime`, { url: runtime.url, model, fake });
    targets.set(`${kind} behind the gateway`, { url: gateway.url, model: model.replace(":", "/"), fake });
  }
});
afterAll(async () => {
  for (const close of closing.reverse()) await close();
  await place.close();
});

const spellings = (): readonly string[] => [
  `http://127.0.0.1:${port}/secret.png`,
  `HTTP://127.0.0.1:${port}/`,
  `http://127.1:${port}/`,
  `http://2130706433:${port}/`,
  `http://0x7f000001:${port}/`,
  `http://0177.0.0.1:${port}/`,
  `http://127.000.000.001:${port}/`,
  `http://0.0.0.0:${port}/`,
  `http://0:${port}/`,
  `http://localhost:${port}/`,
  `http://LOCALHOST.:${port}/`,
  `http://any.localhost:${port}/`,
  `http://[::1]:${port}/`,
  `http://[::]:${port}/`,
  `http://[::ffff:127.0.0.1]:${port}/`,
  `http://[::ffff:7f00:1]:${port}/`,
  `http://\u2460\u2461\u2466.0.0.1:${port}/`,
  `http://public.example@127.0.0.1:${port}/`,
  `http://public.example\\@127.0.0.1:${port}/`,
  `http:/127.0.0.1:${port}/`,
  `http:\\\\127.0.0.1:${port}/`,
  `//127.0.0.1:${port}/`,
  ` http://127.0.0.1:${port}/`,
  `ht\ttp://127.0.0.1:${port}/`,
  `https://127.0.0.1:${port}/`,
  `ftp://127.0.0.1:${port}/`,
  "http://169.254.169.254/latest/meta-data/",
  "file:///etc/passwd",
];

const said = (...content: JsonObject[]): JsonObject => ({ messages: [{ role: "user", content }] });

/** Every place in a request where a server may look for something to fetch. */
const shapes: readonly (readonly [string, string, (url: string) => JsonObject])[] = [
  ["/v1/chat/completions", "a picture", (url) => said({ type: "image_url", image_url: { url } })],
  ["/v1/chat/completions", "a picture without its object", (url) => said({ type: "image_url", image_url: url })],
  ["/v1/chat/completions", "a picture of Anthropic's", (url) => said({ type: "image", source: { type: "url", url } })],
  ["/v1/chat/completions", "a film", (url) => said({ type: "video_url", video_url: { url } })],
  ["/v1/chat/completions", "a sound", (url) => said({ type: "audio_url", audio_url: { url } })],
  ["/v1/chat/completions", "a file", (url) => said({ type: "file", file: { file_url: url } })],
  [
    "/v1/responses",
    "a picture",
    (url) => ({ input: [{ role: "user", content: [{ type: "input_image", image_url: url }] }] }),
  ],
  [
    "/v1/responses",
    "a file",
    (url) => ({ input: [{ role: "user", content: [{ type: "input_file", file_url: url }] }] }),
  ],
  [
    "/v1/responses",
    "what a tool has found",
    (url) => ({
      input: [{ type: "function_call_output", call_id: "c", output: [{ type: "input_image", image_url: url }] }],
    }),
  ],
];

describe.each(kinds.flatMap((kind) => [`${kind} behind the runtime`, `${kind} behind the gateway`]))("%s", (name) => {
  test.each(shapes)("is asked %s with no address of %s, however it is written", async (path, _what, toBody) => {
    const { url, model, fake } = targets.get(name)!;
    const before = fake.requests.length;
    for (const address of spellings()) {
      const { status, text } = await ask(url + path, { body: { model, ...toBody(address) } });
      expect([address, status, text]).toEqual([
        address,
        400,
        expect.stringMatching(/image|file|fetch|address|content|part/i),
      ]);
    }
    const sent = fake.requests.slice(before).filter(({ method }) => method === "POST");
    for (const { path: asked, body } of sent)
      expect([asked, JSON.stringify(body)]).toEqual([
        asked,
        expect.not.stringMatching(/127|localhost|2130706433|169\.254|passwd|::/),
      ]);
    expect(connections).toBe(0);
  });
});

it("the one who counts would have noticed", async () => {
  await sendRaw(`http://127.0.0.1:${port}`, "GET / HTTP/1.1\r\n\r\n");
  expect(connections).toBe(1);
});
