import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, program, root } from "../../scripts/bootstrap.mjs";
import { schema } from "../../src/config/schema.ts";
import { type Program, start } from "../cli/program.ts";
import { fencedBlocks, readCurl, readPowerShell } from "./markdown.ts";

const page = readFileSync(path.join(root, "examples/relay/README.md"), "utf8");
const blocks = fencedBlocks(page);
const [relayLine, runtimeLine, callLine] = blocks.filter(({ language }) => language === "sh").map(({ text }) => text);
const where = "http://127.0.0.1:8081";

let place: string;
const programs: Program[] = [];

/** What a line of the page starts, on a free port. */
function follow(line: string, relay = where): Program {
  const said = /^npm (?:run lair|start) -- (.*)$/.exec(line)?.[1];
  if (said === undefined) throw new Error(`not a line that starts the program: ${line}`);
  const words = said.replaceAll(where, relay).split(" ");
  const args = line.startsWith("npm start") ? ["serve", ...words] : words;
  const started = start([...args, "--port", "0"], { cwd: place, script: program });
  programs.push(started);
  return started;
}

beforeAll(async () => {
  await ensureBuilt();
  place = mkdtempSync(path.join(tmpdir(), "lair-relay-example-"));
}, 120_000);

afterAll(async () => {
  for (const { child } of programs) child.kill();
  await Promise.all(programs.map(({ ended }) => ended));
  rmSync(place, { recursive: true, force: true });
});

describe("the recipe of the relay", () => {
  it("leads from nothing to an answer through the relay", async () => {
    const relay = (await follow(relayLine!).until(/"url":"([^"]+)"/))[1]!;
    await follow(runtimeLine!, relay).until(/connected to the relay/);
    const { url, method, headers, body } = readCurl(callLine!);
    const answer = await fetch(url.replace(where, relay), { method, headers, body: JSON.stringify(body) });
    expect(answer.status).toBe(200);
    const { choices } = (await answer.json()) as { choices: { message: { content: string } }[] };
    expect(choices[0]!.message.content).toMatch(/\S/);
  });

  it("names the address where the relay listens by default", () => {
    const { host, port } = schema.parse({}).relay;
    expect(`http://${host}:${port}`).toBe(where);
  });

  it("asks for the same in PowerShell", () => {
    const power = blocks.find(({ text }) => text.startsWith("Invoke-RestMethod"))!;
    const [here, there] = [readCurl(callLine!), readPowerShell(power.text)];
    expect({ ...there, headers: {} }).toEqual({ ...here, headers: {} });
  });
});
