import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, root } from "../../scripts/bootstrap.mjs";
import { redisMissing } from "../support/redis.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { fencedBlocks } from "./markdown.ts";

const missing = redisMissing();
if (missing !== undefined) console.warn(`The test of the example of a cluster is skipped: ${missing}.`);

const page = readFileSync(path.join(root, "examples/cluster/README.md"), "utf8");
const [command = ""] = fencedBlocks(page).flatMap(({ language, text }) => (language === "sh" ? [text] : []));

let cluster: ChildProcess | undefined;
let said = "";
let ended: Promise<unknown[]> = Promise.resolve([]);
beforeAll(async () => {
  if (missing !== undefined) return;
  await ensureBuilt();
  const [program, ...args] = command.split(" ");
  expect(program).toBe("node");
  cluster = spawn(process.execPath, [...args, "--port", "0"], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  ended = once(cluster, "exit");
  for (const stream of [cluster.stdout, cluster.stderr])
    stream?.on("data", (text: Buffer) => (said += text.toString()));
  await Promise.race([
    waitUntil(() => said.includes("Ctrl-C"), "the cluster stands"),
    ended.then(() => Promise.reject(new Error(said))),
  ]);
}, 120_000);
afterAll(async () => {
  if (cluster === undefined || cluster.exitCode !== null) return;
  cluster.kill("SIGINT");
  await ended;
});

/** Process and address of one of the programs. */
function find(name: string): { readonly id: number; readonly url: string } {
  const [, id, url = ""] = new RegExp(`^  ${name} +(\\d+) +(\\S*)$`, "m").exec(said) ?? [];
  return { id: Number(id), url };
}

function ask(gateway: string, model = "demo"): Promise<Response> {
  const [, key = ""] = /Bearer (lair_[\w-]+)/.exec(said) ?? [];
  return fetch(`${find(gateway).url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "Hello!" }], max_tokens: 4 }),
  });
}

describe.skipIf(missing !== undefined || process.platform === "win32")("the example of a cluster", () => {
  it("answers at both gateways, with every runtime by way of every relay, and nobody without the key", async () => {
    const seen = new Set<string>();
    await waitUntil(async () => {
      for (const gateway of ["gateway1", "gateway2"])
        for (const agent of ["home", "office", "laptop"]) {
          const reply = await ask(gateway, `${agent}/demo`);
          expect([reply.status, reply.headers.get("x-lair-agent")]).toEqual([200, agent]);
          await reply.arrayBuffer();
          seen.add(`${gateway} ${reply.headers.get("x-lair-target")?.split("/")[0]} ${agent}`);
        }
      return seen.size === 12;
    }, "two gateways by two relays to three runtimes");
    const stranger = await fetch(`${find("gateway1").url}/v1/models`);
    expect(stranger.status).toBe(401);
  }, 30_000);

  it("goes on without one of its relays, one of its gateways, and Redis", async () => {
    process.kill(find("relay1").id, "SIGKILL");
    process.kill(find("gateway1").id, "SIGKILL");
    await waitUntil(() =>
      /relay1 has ended[\s\S]*gateway1 has ended|gateway1 has ended[\s\S]*relay1 has ended/.test(said),
    );
    for (let call = 0; call < 6; call++) expect((await ask("gateway2")).status).toBe(200);
    process.kill(find("redis").id, "SIGKILL");
    for (let call = 0; call < 6; call++) expect((await ask("gateway2")).status).toBe(200);
  }, 30_000);

  it("ends with everything that it has started", async () => {
    const ids = ["gateway2", "relay2", "home", "office", "laptop"].map((name) => find(name).id);
    cluster?.kill("SIGINT");
    expect((await ended)[0]).toBe(0);
    expect(ids.filter((id) => isAlive(id))).toEqual([]);
  }, 60_000);
});

function isAlive(id: number): boolean {
  try {
    process.kill(id, 0);
    return true;
  } catch {
    return false;
  }
}
