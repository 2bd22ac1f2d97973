import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Certificate, makeCertificate } from "../support/tunnel-certificate.ts";
import { callerKey } from "../support/tunnel-chain.ts";
import { buildNamespaces, type Namespaces, namespacesMissing } from "../support/tunnel-namespaces.ts";
import { lairProgram, Programs } from "../support/tunnel-processes.ts";

// An agent behind a router that lets connections out and none in, a relay on the internet, each with addresses of its own.

const run = promisify(execFile);
const port = 8081;
let missing: string | undefined;
let spaces: Namespaces | undefined;
let certificate: Certificate | undefined;
let programs: Programs;

beforeAll(async () => {
  missing = namespacesMissing();
  if (missing !== undefined) return console.warn(`The test in network namespaces is skipped: ${missing}.`);
  programs = new Programs();
  spaces = await buildNamespaces(port);
  certificate = makeCertificate(spaces.relayAddress, spaces.gateway);
}, 120_000);
afterAll(async () => {
  await spaces?.close();
  await programs?.close();
  certificate?.remove();
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

/** Runs a few lines in a namespace, where the relay's certificate is trusted, and gives what they print. */
async function inside(namespace: string, script: string): Promise<string> {
  const env = { PATH: process.env["PATH"], NODE_EXTRA_CA_CERTS: certificate?.cert };
  const { stdout } = await run("ip", ["netns", "exec", namespace, process.execPath, "-e", script], { env });
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
    if (certificate === undefined) return skip("openssl, which makes the certificate, is not installed");
    const { internet, home, relayAddress, gateway, homeAddress, routerAddress } = spaces;
    const key = await programs.keyOf("home");
    const parent = path.join(import.meta.dirname, "../support/tunnel-runtime-parent.ts");
    const runtime = spaces.node(home, ["--import", import.meta.resolve("tsx"), parent, "0", "0.0.0.0"]);
    const runtimePort = new URL(await until(runtime, /(http:\S+)/)).port;
    const env = {
      HOME: programs.folder,
      LLM_V1_PROXY_TOKEN: callerKey,
      LAIR_AUTH_ADMIN: "operators",
      LAIR_HOSTS: `${relayAddress},${gateway}`,
    };
    const relay = spaces.node(
      internet,
      [
        ...lairProgram(),
        "cloud",
        "--host",
        "0.0.0.0",
        "--agents",
        programs.agentsFile,
        "--tls-cert",
        certificate.cert,
        "--tls-key",
        certificate.key,
      ],
      env,
    );
    await until(relay, /"url":"([^"]+)"/);

    // The runtime's port is open at home; on the internet there is no way to it, nor past the router.
    expect(await reach(home, homeAddress, runtimePort)).toBe("connected");
    expect(await reach(internet, homeAddress, runtimePort)).toMatch(/ENETUNREACH|EHOSTUNREACH|silence/);
    expect(await reach(internet, routerAddress, runtimePort)).toBe("ECONNREFUSED");
    expect(await reach(internet, routerAddress, String(port))).toBe("ECONNREFUSED");

    const flags = [
      "--cloud",
      `https://${gateway}:${port}`,
      "--tls-ca",
      certificate.cert,
      `--openai=http://127.0.0.1:${runtimePort}`,
    ];
    const agent = spaces.node(home, [...lairProgram(), "agent", ...flags], {
      HOME: programs.folder,
      LAIR_AGENT_KEY: key,
    });
    const connected = until(agent, /home/);
    const call = (text: string): string => `
    const headers = { authorization: "Bearer ${callerKey}", "content-type": "application/json" };
    const url = "https://${relayAddress}:${port}";
    (async () => { ${text} })().catch((error) => { console.error(error); process.exit(1); });`;
    await connected;
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
      call(`headers.authorization = "Bearer operators";
      console.log(JSON.stringify(await (await fetch(url + "/admin/agents", { headers })).json()));`),
    );
    expect(status).toContain(routerAddress);
    expect(status).not.toContain(homeAddress);
    const ended = once(agent, "exit");
    agent.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
  },
);
