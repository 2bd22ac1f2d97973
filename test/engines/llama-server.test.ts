import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { collect, isStream } from "../../src/core/bytes.ts";
import type { Reply } from "../../src/core/call.ts";
import { silent } from "../../src/core/log.ts";
import type { Provider } from "../../src/core/provider.ts";
import { fromEngine } from "../../src/dialects/translate.ts";
import { serverFlags } from "../../src/engines/llama-server/flags.ts";
import { ServerProcess } from "../../src/engines/llama-server/server-process.ts";
import { LlamaEngine } from "../../src/engines/llama/engine.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { withLlamaServer } from "../../src/providers/llama-server.ts";
import { post } from "../providers/calls.ts";

const fake = fileURLToPath(new URL("../support/fake-llama-server.mjs", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "lair-servers-"));
const never = new AbortController().signal;
const running: ServerProcess[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function serverOf(...flags: string[]): ServerProcess {
  const server = new ServerProcess({
    id: "tiny",
    program: process.execPath,
    flags: [fake, ...flags],
    log: silent,
    onIdle: () => undefined,
  });
  running.push(server);
  return server;
}

/** The process that a server answers from, by its own word. */
async function processOf({ origin, key }: { origin: string; key: string }): Promise<number> {
  const reply = await fetch(`${origin}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ messages: [] }),
  });
  const { choices } = (await reply.json()) as { choices: { message: { content: string } }[] };
  return Number(choices[0]?.message.content.replace("process ", ""));
}

/** Resolves when nobody listens at an address any more. */
async function silence(origin: string): Promise<void> {
  for (;;) {
    try {
      await (await fetch(`${origin}/health`)).arrayBuffer();
    } catch {
      return;
    }
  }
}

async function textOf({ body }: Reply): Promise<string> {
  if (!isStream(body)) return String(body);
  return (await collect(body, 1e6, () => new Error("too long"))).toString();
}

describe("the process of a llama-server", () => {
  it("is started once for all who wait, and answers nobody without its key", async () => {
    const server = serverOf();
    const [one, other] = await Promise.all([server.ensureReady(), server.ensureReady()]);
    expect(other).toBe(one);
    expect(server.state).toBe("ready");
    expect((await fetch(`${one.origin}/v1/models`)).status).toBe(401);
    expect(await processOf(one)).toBeGreaterThan(0);
  });

  it("tells why a model could not be loaded, and is not started over and over", async () => {
    const server = serverOf("--failing", "load");
    const failure = {
      code: "invalid_model_file",
      message: expect.stringMatching(/exit code 1 while it loaded tiny: .*attn_q\.weight' is missing/),
    };
    await expect(server.ensureReady()).rejects.toMatchObject(failure);
    expect(server.state).toBe("stopped");
    await expect(server.ensureReady()).rejects.toMatchObject(failure);
    // The second failure in a row is followed by a pause.
    await expect(server.ensureReady()).rejects.toMatchObject({ ...failure, retryAfter: 1 });
  });

  it("takes another port when the chosen one is taken meanwhile", async () => {
    const mark = join(folder, "taken");
    const address = await serverOf("--failing", "port", "--mark", mark).ensureReady();
    expect(existsSync(mark)).toBe(true);
    expect(await processOf(address)).toBeGreaterThan(0);
  });

  it("is started anew after a crash", async () => {
    const server = serverOf();
    const address = await server.ensureReady();
    process.kill(await processOf(address), "SIGKILL");
    await silence(address.origin);
    expect(await server.failure()).toMatchObject({ code: "engine_crashed" });
    expect(server.state).toBe("stopped");
    const next = await server.ensureReady();
    expect(next.key).not.toBe(address.key);
    expect(await processOf(next)).toBeGreaterThan(0);
  });

  it("is gone after a stop, even if it does not listen", async () => {
    const server = serverOf("--failing", "deaf");
    const { origin } = await server.ensureReady();
    await server.stop();
    expect(server.state).toBe("stopped");
    await expect(fetch(origin)).rejects.toThrow();
  });

  it("can be stopped while it loads", async () => {
    const server = serverOf();
    const ready = server.ensureReady();
    await server.stop();
    await expect(ready).rejects.toMatchObject({ code: "service_unavailable" });
    expect(server.state).toBe("stopped");
  });

  it("does not outlive a program that is killed", async () => {
    const script = fileURLToPath(new URL("../support/server-parent.ts", import.meta.url));
    const parent = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), script, fake], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [origin] = (await once(createInterface(parent.stdout), "line")) as [string];
    expect((await fetch(`${origin}/health`)).status).toBe(200);
    parent.kill("SIGKILL");
    await silence(origin);
  });

  it("says what to do where the program is not there", async () => {
    const server = new ServerProcess({
      id: "tiny",
      program: join(folder, "none", "llama-server"),
      flags: [],
      log: silent,
      onIdle: () => undefined,
    });
    await expect(server.ensureReady()).rejects.toMatchObject({
      code: "unsupported_capability",
      message: expect.stringMatching(
        /^llama-server cannot be started \(spawn llama-server ENOENT\): set LLAMA_SERVER_BIN/,
      ),
    });
  });
});

describe("a provider with a llama-server", () => {
  const embedded: Provider = {
    name: "llama_cpp",
    kind: "llama_cpp",
    speaks: new Set(["/v1/chat/completions"]),
    handle: () => Promise.resolve({ status: 200, headers: {}, body: "embedded" }),
    models: () => Promise.resolve([]),
    health: () => Promise.resolve({ ok: true }),
    close: () => Promise.resolve(),
  };
  const chat = (text: string, more = {}): Parameters<typeof post>[2] => ({
    model: "tiny",
    messages: [{ role: "user", content: text }],
    ...more,
  });

  function providerFor(server: ServerProcess): Provider {
    const source = {
      server: (model: string) =>
        Promise.resolve(model === "tiny" ? { process: server, release: server.lease() } : null),
    };
    return withLlamaServer(embedded, source, { log: silent });
  }

  it("passes the calls of its models on, others go to the embedded engine", async () => {
    const server = serverOf();
    const provider = providerFor(server);
    const reply = JSON.parse(await textOf(await post(provider, "/v1/chat/completions", chat("Hi"))));
    expect(reply.model).toBe("llama_cpp:tiny");
    expect(reply.choices[0].message.content).toMatch(/^process \d+$/);
    expect(await textOf(await post(provider, "/v1/chat/completions", { ...chat("Hi"), model: "other" }))).toBe(
      "embedded",
    );
    expect(server.busy).toBe(false);
  });

  it("keeps a server for as long as a stream is read", async () => {
    const server = serverOf();
    const reply = await post(providerFor(server), "/v1/chat/completions", chat("Hi", { stream: true }));
    expect(server.busy).toBe(true);
    expect(await textOf(reply)).toMatch(/process \d+[\s\S]*\[DONE\]/);
    expect(server.busy).toBe(false);
  });

  it("speaks the dialects that the server does not", async () => {
    const reply = await post(providerFor(serverOf()), "/v1/responses", { model: "tiny", input: "Hi" });
    expect(JSON.parse(await textOf(reply))).toMatchObject({ object: "response", status: "completed" });
  });

  it("tells how the server ended under a call, and answers the next one", async () => {
    const server = serverOf();
    const provider = providerFor(server);
    await expect(post(provider, "/v1/chat/completions", chat("crash now"))).rejects.toMatchObject({
      code: "engine_crashed",
      message: expect.stringContaining("GGML_ASSERT(n_tokens > 0) failed"),
    });
    expect(server.busy).toBe(false);
    expect((await post(provider, "/v1/chat/completions", chat("Hi"))).status).toBe(200);
  });

  it("lets go of a server when the client leaves before it is ready", async () => {
    const server = serverOf();
    const leaving = new AbortController();
    const pending = post(providerFor(server), "/v1/chat/completions", chat("Hi"), leaving.signal);
    leaving.abort();
    await expect(pending).rejects.toMatchObject({ code: "client_closed_request" });
    expect(server.busy).toBe(false);
  });
});

describe("the choice between llama-server and the embedded engine", () => {
  const models = join(folder, "models");

  it.each([
    ["images", [true, false]],
    ["all", [true, true]],
  ] as const)("%s", async (serverModels, expected) => {
    const engine = engineWith({ server: join(folder, "no-llama-server"), serverModels });
    const leases = await Promise.all(["seer", "plain"].map((id) => engine.server(id, never)));
    expect(leases.map((lease) => lease !== null)).toEqual(expected);
    const listed = await engine.models();
    expect(listed.map(({ id, capabilities }) => [id, capabilities.vision])).toEqual([
      ["plain", false],
      ["seer", true],
    ]);
    for (const lease of leases) lease?.release();
    await engine.close();
  });

  it("is always the embedded engine where no program is set", async () => {
    const engine = engineWith({ serverModels: "all" });
    expect(await engine.server("seer", never)).toBe(null);
    await engine.close();
  });

  function engineWith(settings: ConstructorParameters<typeof LlamaEngine>[1]): LlamaEngine {
    if (!existsSync(models)) writeModels();
    return new LlamaEngine("llama_cpp", { model: models, ...settings });
  }

  function writeModels(): void {
    mkdirSync(join(models, "seer"), { recursive: true });
    const content = scriptedModel({ scripts: [{ after: "\n", say: "Hi" }] });
    writeGguf(join(models, "seer", "seer.gguf"), content);
    writeGguf(join(models, "plain.gguf"), content);
    writeFileSync(join(models, "seer", "mmproj-seer.gguf"), "GGUF");
  }
});

describe("llama-server's flags", () => {
  const model = { id: "m", path: "/m.gguf", projector: null, header: { contextLength: 4096, pooling: null } };

  it("give each session its context, and all layers to the GPU", () => {
    const flags = serverFlags(model, { maxSessions: 3, contextLength: 2048 }, 6).join(" ");
    expect(flags).toContain("--parallel 3 --ctx-size 6144");
    expect(flags).toContain("--threads 6 --threads-batch 6");
    expect(flags).toContain("--n-gpu-layers 999");
    // What a build of another release may not know is left out where it says nothing.
    expect(flags).not.toMatch(/flash-attn|split-mode|main-gpu|kv-offload|mmproj|device/);
  });

  it("follow the settings", () => {
    const settings = {
      flashAttention: "on",
      gpuLayers: 8,
      splitMode: "row",
      mainGpu: 1,
      offloadKqv: false,
      batchSize: 256,
      ubatchSize: 64,
      threads: 2,
      useJinja: false,
    } as const;
    const flags = serverFlags({ ...model, projector: "/p.gguf" }, settings, 6).join(" ");
    for (const part of [
      "--flash-attn on",
      "--n-gpu-layers 8",
      "--split-mode row",
      "--main-gpu 1",
      "--no-kv-offload",
      "--batch-size 256 --ubatch-size 64",
      "--threads 2",
      "--mmproj /p.gguf",
      "--chat-template chatml",
    ])
      expect(flags).toContain(part);
    const sampling = serverFlags(model, { temperature: 0, topK: 20, penaltyLastN: -1 }, 1).join(" ");
    expect(sampling).toContain("--temp 0 --top-k 20 --repeat-last-n -1");
    expect(flags, "what nobody set is left to the model's file").not.toMatch(/--temp|--top-|--min-p|--repeat|--seed/);
    expect(serverFlags(model, { gpu: "off" }, 1).join(" ")).toContain("--device none");
    expect(serverFlags({ ...model, header: { contextLength: 512, pooling: 1 } }, {}, 1)).toContain("--embeddings");
    expect(serverFlags({ ...model, header: { contextLength: 512, pooling: 4 } }, {}, 1)).toContain("--reranking");
  });
});

const program = process.env["LLAMA_SERVER_BIN"] ?? "";
const reason = "the variable LLAMA_SERVER_BIN names no llama-server program";

describe(`a real llama-server${program === "" ? ` (skipped: ${reason})` : ""}`, () => {
  it.skipIf(program === "")("answers for a model of the engine, whole and as a stream", async () => {
    const path = join(folder, "real.gguf");
    writeGguf(path, scriptedModel({ scripts: [{ after: "\n", say: "Hello from afar" }] }));
    const settings = { model: path, server: program, serverModels: "all", threads: 1, contextLength: 256 } as const;
    const engine = new LlamaEngine("llama_cpp", settings);
    const provider = withLlamaServer(fromEngine(engine), engine, { log: silent });
    try {
      const chat = { model: "real", messages: [{ role: "user", content: "Hi" }], temperature: 0 };
      const whole = JSON.parse(await textOf(await post(provider, "/v1/chat/completions", chat)));
      expect(whole.choices[0].message.content).toBe("Hello from afar");
      expect(await textOf(await post(provider, "/v1/chat/completions", { ...chat, stream: true }))).toMatch(/\[DONE\]/);
      const tokens = JSON.parse(await textOf(await post(provider, "/tokenize", { model: "real", text: "Hi" })));
      expect(tokens.tokens.length).toBe(2);
      expect((await engine.models())[0]?.state).toBe("loaded");
    } finally {
      await provider.close();
    }
    expect((await engine.models())[0]?.state).toBe("unloaded");
  });
});
