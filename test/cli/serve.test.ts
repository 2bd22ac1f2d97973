import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Program, start } from "./program.ts";

let cwd = "";
const programs: Program[] = [];
const servers: Server[] = [];
beforeAll(() => {
  cwd = mkdtempSync(path.join(tmpdir(), "lair-serve-"));
});
afterEach(() => {
  for (const { child } of programs.splice(0)) child.kill("SIGKILL");
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});
afterAll(() => rmSync(cwd, { recursive: true, force: true, maxRetries: 5 }));

function serve(args: readonly string[] = [], env: Record<string, string> = {}): Program {
  // An Ollama that happens to run on this machine must not take part.
  const program = start(["serve", "--set", "providers.ollama.enabled=false", "--port", "0", ...args], { cwd, env });
  programs.push(program);
  return program;
}

const ready = async (program: Program): Promise<string> => (await program.until(/"url":"(http:[^"]+)"/))[1] ?? "";

/** An OpenAI server with one model, whose answers the test gives by hand. */
async function slowServer(): Promise<{ url: string; asked: Promise<ServerResponse> }> {
  let arrived: (response: ServerResponse) => void;
  const asked = new Promise<ServerResponse>((resolve) => (arrived = resolve));
  const server = createServer((request, response) => {
    if (request.url?.endsWith("/models")) {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ object: "list", data: [{ id: "slow", object: "model" }] }));
    } else {
      request.resume().on("end", () => arrived(response));
    }
  });
  servers.push(server);
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

const slowProvider = (url: string): Record<string, string> => ({
  LAIR_PROVIDERS_SLOW_KIND: "openai",
  LAIR_PROVIDERS_SLOW_URLS: url,
  RUNTIME_PROVIDER: "slow",
});

const ask = (url: string): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "slow", messages: [{ role: "user", content: "hi" }] }),
  });

const answer = {
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model: "slow",
  choices: [{ index: 0, message: { role: "assistant", content: "done" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
};

// Windows has no signals: there `kill` ends a program without asking it.
const asking = it.skipIf(process.platform === "win32");

describe("lair serve", () => {
  asking("answers at the address it prints, and ends with 0 when asked to stop", async () => {
    const program = serve();
    const url = await ready(program);
    expect((await fetch(`${url}/v1/models`)).status).toBe(200);
    program.child.kill("SIGTERM");
    const { code, stdout } = await program.ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/stopping: answers under way have 30s to finish/);
    expect(stdout).toMatch(/"stopped"/);
  });

  it("tells a person the address, each provider's state, and the next step while there is no model of the user's own", async () => {
    const program = serve(["--log-format", "pretty"], { MNN_HOST: "http://127.0.0.1:1", MCP_HOST: "x" });
    await program.until(/OLLAMA_HOST=/);
    const text = program.output();
    expect(text).toMatch(/warn .*MCP_HOST is not honoured/);
    expect(text).toMatch(/is ready in \d+\.\d\d s: http:\/\/127\.0\.0\.1:\d+\/v1/);
    expect(text).toMatch(/llama_cpp +built-in: /);
    expect(text).toMatch(/default model +none: llama_cpp offers no model now\n/);
    expect(text).toMatch(/mnn +.*http:\/\/127\.0\.0\.1:1 does not answer/);
    expect(text).toMatch(/No provider offers a model now[\s\S]*LLAMA_CPP_MODEL=/);
  });

  asking("finishes the answer under way before it ends", async () => {
    const { url: upstream, asked } = await slowServer();
    const program = serve([], slowProvider(upstream));
    const reply = ask(await ready(program));
    const response = await asked;
    program.child.kill("SIGTERM");
    await program.until(/stopping/);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answer));
    expect(await (await reply).json()).toMatchObject({ choices: [{ message: { content: "done" } }] });
    expect((await program.ended).code).toBe(0);
  });

  asking("ends at once on the second signal", async () => {
    const { url: upstream, asked } = await slowServer();
    const program = serve([], slowProvider(upstream));
    const reply = ask(await ready(program)).catch(() => "cut off");
    await asked;
    program.child.kill("SIGINT");
    await program.until(/stopping/);
    program.child.kill("SIGINT");
    expect((await program.ended).code).toBe(130);
    expect(await reply).toBe("cut off");
  });
});

describe("lair serve does not start", () => {
  it("on a port that is taken, and says which and how to choose another", async () => {
    const { url } = await slowServer();
    const port = Number(new URL(url).port);
    const { code, stderr } = await serve(["--port", String(port)]).ended;
    expect(stderr).toBe(
      `lair serve: port ${port} on 127.0.0.1 is taken by another program, perhaps another lair. Choose another: --port ${port + 1}, or --port 0 for any free one\n`,
    );
    expect(code).toBe(1);
  });

  it("on every network without a key", async () => {
    const { code, stderr } = await serve(["--host", "0.0.0.0"]).ended;
    expect([code, stderr]).toEqual([2, expect.stringContaining("without a key is refused")]);
  });

  it("on an address that is not of this machine", async () => {
    const { code, stderr } = await serve(["--host", "192.0.2.1", "--insecure"]).ended;
    expect([code, stderr]).toEqual([1, expect.stringContaining("192.0.2.1 is no address of this machine")]);
  });
});
