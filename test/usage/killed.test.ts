import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import type { State } from "../../src/state/state.ts";
import { Journal } from "../../src/usage/journal.ts";
import { seeded } from "../support/bytes.ts";
import { redisMissing, startRedis } from "../support/redis.ts";

const program = fileURLToPath(new URL("../support/usage-server.ts", import.meta.url));
const children: ChildProcess[] = [];
const folders: string[] = [];

afterEach(() => {
  for (const child of children.splice(0)) if (child.exitCode === null) child.kill("SIGKILL");
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

interface Server {
  readonly child: ChildProcess;
  readonly url: string;
}

async function startServer(state: string, folder: string): Promise<Server> {
  const args = ["--import", import.meta.resolve("tsx"), program, state, folder];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [port] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { child, url: `http://127.0.0.1:${port}` };
}

/** Calls one server on several connections until it is killed, which it is after so many answers; returns the ids of those that came whole. */
async function killUnderLoad({ child, url }: Server, after: number, name: string): Promise<string[]> {
  const whole: string[] = [];
  const gone = once(child, "exit");
  const client = async (number: number): Promise<void> => {
    for (let count = 0; ; count++) {
      const id = `${name}-${number}-${count}`;
      try {
        const reply = await fetch(`${url}/v1/chat/completions`, {
          method: "POST",
          headers: { "content-type": "application/json", "x-request-id": id },
          body: JSON.stringify({ model: "m", messages: [] }),
        });
        await reply.text();
      } catch {
        return;
      }
      if (whole.push(id) === after) child.kill("SIGKILL");
    }
  };
  await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(client));
  await gone;
  return whole;
}

async function allIds(state: State): Promise<string[]> {
  const { usage } = state;
  const ids: string[] = [];
  for (let before = Number.MAX_SAFE_INTEGER; ;) {
    const page = await usage.list({ before, limit: 1000 });
    ids.push(...page.map(({ id }) => id));
    if (page.length < 1000) return ids;
    // Those of one millisecond stand on one page or the next.
    const last = page.at(-1)?.time ?? 0;
    const first = page.findIndex(({ time }) => time === last);
    ids.splice(ids.length - (page.length - first));
    before = last + 1 === before ? last : last + 1;
  }
}

async function killAndCount(url: string, folder: string, rounds: number): Promise<void> {
  const random = seeded(7);
  const whole: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const servers = await Promise.all([0, 1, 2, 3].map(() => startServer(url, folder)));
    const ends = servers.map((server, at) =>
      killUnderLoad(server, 20 + Math.floor(random() * 200), `round-${round}-server-${at}`),
    );
    whole.push(...(await Promise.all(ends)).flat());
  }
  const state = await openState(url, { log: silent, replica: "after" });
  const journal = await Journal.open(folder, { state, log: silent });
  try {
    await journal.flush();
    const kept = await allIds(state);
    expect(new Set(kept).size, "no call counts twice").toBe(kept.length);
    const known = new Set(kept);
    expect(whole.filter((id) => !known.has(id))).toEqual([]);
    const [sum] = await state.usage.sums({ from: "2000-01-01", to: "2999-12-31", by: [] });
    expect(sum?.requests).toBe(kept.length);
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    await journal.close();
    await state.close();
  }
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "lair-killed-"));
  folders.push(folder);
  return folder;
}

describe("every answer that a client has received whole is on record, though its server was killed", () => {
  it("in SQLite, by four servers at a time that share file and folder, eight times", async () => {
    const folder = newFolder();
    await killAndCount(join(folder, "state.db"), join(folder, "usage"), 2);
  }, 60_000);

  const missing = redisMissing();
  it.skipIf(missing !== undefined)(
    `in Redis${missing === undefined ? "" : ` (skipped: ${missing})`}`,
    async () => {
      const redis = await startRedis();
      try {
        await killAndCount(redis.url, join(newFolder(), "usage"), 1);
      } finally {
        await redis.close();
      }
    },
    60_000,
  );
});
