import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, program, root } from "../../scripts/bootstrap.mjs";
import { schema } from "../../src/config/schema.ts";
import { type Program, start } from "../cli/program.ts";
import { fencedBlocks } from "./markdown.ts";

const run = promisify(execFile);
const readme = readFileSync(path.join(root, "README.md"), "utf8");
const section = readme.slice(readme.indexOf("## For others"), readme.indexOf("## Windows"));
const shell = fencedBlocks(section).filter(({ language }) => language === "sh");
const [relayLine, agentLine, keyAndGateway, callsAndUsage] = shell.map(({ text }) => text);
const [keyLine, gatewayLine] = keyAndGateway!.split("\n");
const curls = callsAndUsage!.split("\n").filter((line) => line.startsWith("curl "));
const usageLine = callsAndUsage!.split("\n").at(-1)!;
const [relayPlace, gatewayPlace] = ["http://127.0.0.1:8081", "http://127.0.0.1:8082"];

let place: string;
const programs: Program[] = [];
/** Where the parts really listen, by where the README says. */
const places = new Map<string, string>();
let key: string;

/** What follows `lair` in a line of the README, with the addresses of this test. */
function wordsOf(line: string): string[] {
  const said = /^npm run (?:--silent )?lair -- (.*)$/.exec(line)?.[1];
  if (said === undefined) throw new Error(`not a line that runs the program: ${line}`);
  return here(said).split(" ");
}

function here(text: string): string {
  return [...places].reduce((changed, [from, to]) => changed.replaceAll(from, to), text);
}

function launch(words: readonly string[]): Program {
  const started = start(words, { cwd: place, script: program });
  programs.push(started);
  return started;
}

/** A curl line as it stands, and its status. */
async function curl(line: string): Promise<{ readonly status: number; readonly body: string; readonly head: string }> {
  const script = here(line).replace(/^curl/, "curl -sS -i -w '\\n%{http_code}'");
  const { stdout } = await run("sh", ["-c", script], { env: { ...process.env, LAIR_KEY: key } });
  const lines = stdout.split("\n");
  const [head = "", body = ""] = stdout.slice(0, stdout.lastIndexOf("\n")).split("\r\n\r\n");
  return { status: Number(lines.at(-1)), head, body };
}

beforeAll(async () => {
  await ensureBuilt();
  place = mkdtempSync(path.join(tmpdir(), "lair-readme-chain-"));
  const runtime = (await launch(["serve", "--port", "0"]).until(/"url":"([^"]+)"/))[1]!;
  places.set(relayPlace, (await launch([...wordsOf(relayLine!), "--port", "0"]).until(/"url":"([^"]+)"/))[1]!);
  await launch([...wordsOf(agentLine!), "--openai", runtime]).until(/connected to the relay/);
  const created = await launch(wordsOf(keyLine!)).ended;
  expect(created.stderr).toBe("");
  key = /lair_\S+/.exec(created.stdout)![0];
  places.set(gatewayPlace, (await launch([...wordsOf(gatewayLine!), "--port", "0"]).until(/"url":"([^"]+)"/))[1]!);
}, 120_000);

afterAll(async () => {
  for (const { child } of programs) child.kill();
  await Promise.all(programs.map(({ ended }) => ended));
  rmSync(place, { recursive: true, force: true });
});

describe.skipIf(process.platform === "win32")("the chain of the README", () => {
  it("says where relay and gateway listen by default", () => {
    const { relay, gateway } = schema.parse({});
    expect([relay, gateway].map(({ host, port }) => `http://${host}:${port}`)).toEqual([relayPlace, gatewayPlace]);
  });

  it("answers by a model at the far end, whichever form the key has", async () => {
    expect(curls).toHaveLength(6);
    for (const line of curls) {
      const { status, body } = await curl(line);
      expect(status, `${line}\n${body}`).toBe(200);
      expect(body).toMatch(line.includes("chat/completions") ? /"content":"[^"]/ : /"demo"/);
    }
  });

  it("lets nobody in without the key", async () => {
    const { status, body } = await curl(curls[1]!.replace(/ -H .*$/, ""));
    expect(status).toBe(401);
    expect(body).toContain("invalid_api_key");
  });

  it("shows the calls in the usage", async () => {
    // The last second of a gateway's calls may still be on its way.
    for (let shown = ""; !/demo\b.*\b2\b/.test(shown);) shown = (await launch(wordsOf(usageLine)).ended).stdout;
  });

  it("refuses the twenty-first call of a minute, and says when to come again", async () => {
    let refused: Awaited<ReturnType<typeof curl>> | undefined;
    for (let calls = 2; calls <= 22 && refused === undefined; calls++) {
      const answer = await curl(curls[0]!);
      if (answer.status === 429) refused = answer;
    }
    expect(refused?.head).toMatch(/^retry-after: \d+/im);
    expect(refused?.body).toMatch(/20 requests/);
    expect(refused?.body).toContain("rate_limit_exceeded");
  });

  it("leaves no trace of the key in any log", () => {
    const secret = key.slice(key.lastIndexOf("_") + 1);
    for (const one of programs)
      if (!one.output().includes("not shown again")) expect(one.output()).not.toContain(secret);
  });
});
