import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { callerKey } from "../support/tunnel-chain.ts";
import { buildNamespaces, type Namespaces, namespacesMissing } from "../support/tunnel-namespaces.ts";
import { lairProgram, Programs } from "../support/tunnel-processes.ts";

// An agent behind a router that lets connections out and none in, a relay on the internet, each with addresses of its own.

const run = promisify(execFile);
const port = 8081;
let missing: string | undefined;
let spaces: Namespaces | undefined;
let programs: Programs;

beforeAll(async () => {
  missing = namespacesMissing();
  if (missing !== undefined) return console.warn(`The test in network namespaces is skipped: ${missing}.`);
  programs = new Programs();
  spaces = await buildNamespaces(port);
}, 120_000);
afterAll(async () => {
  await spaces?.close();
  await programs?.close();
});

/** Waits for a line of a program's output. */
async function until(child: ChildProcess, pattern: RegExp): Promise<string> {
  let text = "";
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    text += chunk.toString();
    const match = pattern.exec(text);
    if (match === null) continue;
    child.stdout?.on("data", () => undefined).resume();
    return match[1] ?? match[0];
  }
  throw new Error(`ended without ${String(pattern)}: ${text}`);
}

/** Runs a few lines in a namespace and gives what they print. */
async function inside(namespace: string, script: string): Promise<string> {
  const { stdout } = await run("ip", ["netns", "exec", namespace, process.execPath, "-e", script]);
  return stdout.trim();
}

/** What comes of a connection to that address from a namespace: "connected", or node's code of the error. */
function reach(namespace: string, host: string, to: string): Promise<string> {
  return inside(
    namespace,
    `const s = require("node:net").connect(${to}, "${host}");
     s.setTimeout(3000, () => { console.log("silence"); s.destroy(); });
     s.on("connect", () => { console.log("connected"); s.destroy(); }).on("error", (e) => console.log(e.code));`,
  );
}

test(
  "a runtime at home answers at the relay, though nothing can reach the home",
  { timeout: 60_000 },
  async ({ skip }) => {
    if (spaces === undefined) return skip(missing);
    const { internet, home, relayAddress, gateway, homeAddress, routerAddress } = spaces;
    const key = await programs.keyOf("home");
    const parent = path.join(import.meta.dirname, "../support/tunnel-runtime-parent.ts");
    const runtime = spaces.node(home, ["--import", import.meta.resolve("tsx"), parent, "0", "0.0.0.0"]);
    const runtimePort = new URL(await until(runtime, /(http:\S+)/)).port;
    const env = { HOME: programs.folder, LLM_V1_PROXY_TOKEN: callerKey, LAIR_HOSTS: relayAddress };
    const relay = spaces.node(
      internet,
      [...lairProgram(), "cloud", "--host", "0.0.0.0", "--agents", programs.agentsFile],
      env,
    );
    await until(relay, /"url":"([^"]+)"/);

    // The runtime's port is open at home; on the internet there is no way to it, nor past the router.
    expect(await reach(home, homeAddress, runtimePort)).toBe("connected");
    expect(await reach(internet, homeAddress, runtimePort)).toMatch(/ENETUNREACH|EHOSTUNREACH|silence/);
    expect(await reach(internet, routerAddress, runtimePort)).toBe("ECONNREFUSED");
    expect(await reach(internet, routerAddress, String(port))).toBe("ECONNREFUSED");

    const flags = ["--cloud", `http://${gateway}:${port}`, `--openai=http://127.0.0.1:${runtimePort}`];
    const agent = spaces.node(home, [...lairProgram(), "agent", ...flags], {
      HOME: programs.folder,
      LAIR_AGENT_KEY: key,
    });
    agent.stdout?.resume();
    const call = (text: string): string => `
    const headers = { authorization: "Bearer ${callerKey}", "content-type": "application/json" };
    const url = "http://${relayAddress}:${port}";
    (async () => { ${text} })().catch((error) => { console.error(error); process.exit(1); });`;
    const models = await inside(
      internet,
      call(`for (;;) {
      const list = await (await fetch(url + "/v1/models", { headers })).json();
      if (list.data?.length > 0) { console.log(JSON.stringify(list.data.map(({ id, agents }) => [id, agents]))); break; }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }`),
    );
    expect(JSON.parse(models)).toEqual([["demo", ["home"]]]);
    const said = await inside(
      internet,
      call(`const body = JSON.stringify({ model: "demo", messages: [], stream: true, max_tokens: 3 });
      const reply = await fetch(url + "/v1/chat/completions", { method: "POST", headers, body });
      console.log(await reply.text());`),
    );
    expect(said).toMatch(/word1 [\s\S]*word3 [\s\S]*\[DONE\]/);
    // The relay sees the router, as it would see a home's.
    const status = await inside(
      internet,
      call(`console.log(JSON.stringify(await (await fetch(url + "/admin/agents", { headers })).json()));`),
    );
    expect(status).toContain(routerAddress);
    expect(status).not.toContain(homeAddress);
    const ended = once(agent, "exit");
    agent.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
  },
);
