import { type ChildProcess, execFile } from "node:child_process";
import { rmSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { redisMissing } from "../support/redis.ts";
import { callerKey } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { buildMesh, type Mesh, namespacesMissing } from "../support/tunnel-namespaces.ts";
import { lairProgram } from "../support/tunnel-processes.ts";

// Two relays and a Redis, each in a network namespace of its own, and the network between the relays is gone.

const run = promisify(execFile);
const password = "password-of-the-test";
let missing: string | undefined;
let mesh: Mesh | undefined;
let folder: string;

beforeAll(() => {
  missing = redisMissing() ?? namespacesMissing();
  if (missing !== undefined) return console.warn(`The test of relays in network namespaces is skipped: ${missing}.`);
  folder = mkdtempSync(path.join(tmpdir(), "lair-parted-"));
  mesh = buildMesh(["a", "b", "r"]);
}, 60_000);
afterAll(async () => {
  await mesh?.close();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** Waits for a line of a program's output; rejects when the program ends without. */
function until(child: ChildProcess, pattern: RegExp): Promise<string> {
  let text = "";
  return new Promise((resolve, reject) => {
    const look = (chunk: Buffer): void => {
      text += chunk.toString();
      const match = pattern.exec(text);
      if (match !== null) resolve(match[1] ?? match[0]);
    };
    child.stdout?.on("data", look);
    child.stderr?.on("data", look);
    child.on("exit", () => reject(new Error(`ended without ${String(pattern)}: ${text}`)));
  });
}

/** A relay, a runtime and its agent in one namespace. */
async function startSite(net: Mesh, name: string, other: string): Promise<void> {
  const state = `redis://:${password}@${net.address("r", name)}:6379`;
  const env = { HOME: folder, XDG_DATA_HOME: path.join(folder, name), LAIR_STATE: state };
  const node = (args: readonly string[], more = {}): ChildProcess =>
    net.run(name, process.execPath, args, { ...env, ...more });
  const relay = node([...lairProgram(), "cloud"], {
    LLM_V1_PROXY_TOKEN: callerKey,
    LAIR_RELAY_INTERNAL_HOST: net.address(name, other),
    LAIR_RELAY_INTERNAL_PORT: "8091",
    LAIR_RELAY_INTERNAL_SECRET: "a secret of both relays, long enough",
  });
  await until(relay, /"msg":"ready"/);
  const runtime = node(["--import", import.meta.resolve("tsx"), parent, "0"]);
  const openai = await until(runtime, /(http:\S+)/);
  const { stdout } = await run(
    "ip",
    [
      "netns",
      "exec",
      `lair${name}${process.pid % 100_000}`,
      process.execPath,
      ...lairProgram(),
      "cloud",
      "agents",
      "add",
      `home-${name}`,
      "--json",
    ],
    { env: { PATH: process.env["PATH"], ...env } },
  );
  const { key } = JSON.parse(stdout) as { key: string };
  const agent = node([...lairProgram(), "agent", "--cloud", "http://127.0.0.1:8081", `--openai=${openai}`], {
    LAIR_AGENT_KEY: key,
  });
  await until(agent, /connected to the relay/);
}

const parent = path.join(import.meta.dirname, "../support/tunnel-runtime-parent.ts");

interface Said {
  readonly status: number;
  readonly agent: string | null;
  readonly text: string;
}

/** Begins a chat at the relay of a namespace; resolves with its first bytes. */
async function beginChat(net: Mesh, name: string, model: string, tokens: number): Promise<{ over: Promise<Said> }> {
  const script = `
    const headers = { authorization: "Bearer ${callerKey}", "content-type": "application/json" };
    const body = JSON.stringify({ model: "${model}", messages: [], stream: true, max_tokens: ${tokens} });
    fetch("http://127.0.0.1:8081/v1/chat/completions", { method: "POST", headers, body }).then(async (reply) => {
      let text = "";
      try {
        for await (const piece of reply.body) {
          if (text === "") console.log("begun");
          text += Buffer.from(piece).toString();
        }
      } catch {}
      console.log(JSON.stringify({ status: reply.status, agent: reply.headers.get("x-lair-agent"), text }));
    });`;
  const child = net.run(name, process.execPath, ["-e", script]);
  const over = until(child, /^(\{.*\})$/m).then((line) => JSON.parse(line) as Said);
  await Promise.race([until(child, /begun/), over]);
  return { over };
}

async function chat(net: Mesh, name: string, model: string): Promise<Said> {
  return (await beginChat(net, name, model, 2)).over;
}

test(
  "relays that cannot reach each other serve their own agents, and each other's again when they can",
  { timeout: 120_000 },
  async ({ skip }) => {
    if (mesh === undefined) return skip(missing);
    const net = mesh;
    const redis = net.run("r", "redis-server", [
      "--bind",
      "0.0.0.0",
      "--requirepass",
      password,
      "--save",
      "",
      "--dir",
      folder,
    ]);
    await until(redis, /Ready to accept connections/);
    await Promise.all([startSite(net, "a", "b"), startSite(net, "b", "a")]);
    const answers = async (name: string, model: string): Promise<boolean> =>
      (await chat(net, name, model)).status === 200;
    await waitUntil(
      async () => (await answers("a", "home-b/demo")) && (await answers("b", "home-a/demo")),
      "each answers for the other",
    );

    const underWay = await beginChat(net, "a", "home-b/demo", 100_000);
    const own = await beginChat(net, "b", "home-b/demo", 600);
    net.part("b", "a");
    expect((await underWay.over).text).toContain("agent_lost");
    const away = await chat(net, "a", "home-b/demo");
    expect([away.status, away.text]).toEqual([503, expect.stringContaining("agent_offline")]);
    for (const name of ["a", "b"])
      expect(await chat(net, name, `home-${name}/demo`)).toMatchObject({ status: 200, agent: `home-${name}` });
    expect(await chat(net, "a", "demo")).toMatchObject({ status: 200, agent: "home-a" });
    expect((await own.over).text).toContain("[DONE]");

    net.mend("b", "a");
    await waitUntil(
      async () => (await answers("a", "home-b/demo")) && (await answers("b", "home-a/demo")),
      "each answers for the other again",
    );
  },
);
