import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import { someKey } from "../state/records.ts";
import { usageRecord } from "../support/usage-record.ts";
import { type Ended, run } from "./program.ts";

let cwd: string;
const key = someKey({ name: "laptop" });
const day = Date.UTC(2025, 10, 22, 10, 30);

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), "lair-usage-"));
  const state = await openState(join(cwd, "state.db"), { log: silent, replica: "test" });
  await state.keys.insert([key]);
  const today = { time: Date.now(), key: "token-1", agent: "", spend: 0 };
  const records = [
    ...Array.from({ length: 1200 }, (_, at) =>
      usageRecord({ id: `many-${at}`, time: day + at, key: key.id, spend: 2500 }),
    ),
    usageRecord({ id: "left", time: day + 90_000_000, key: key.id, outcome: "left", counted: "estimated" }),
    usageRecord({ id: "odd", time: day, key: "token-1", model: "=1+1 \u001b[31m", spend: 30, firstToken: null }),
    usageRecord({ id: "today", ...today }),
  ];
  await state.usage.add({ writer: "w", sequence: 1, records });
  await state.close();
});

afterAll(() => rmSync(cwd, { recursive: true, force: true }));

function usage(...args: string[]): Promise<Ended> {
  return run(["usage", "--state", join(cwd, "state.db"), ...args], { cwd });
}

const november = ["--from", "2025-11-01", "--to", "2025-11-30"];

test("lair usage adds up by day and model, with a total, in columns that can be read", async () => {
  const { code, stdout, stderr } = await usage(...november);
  expect([code, stderr]).toEqual([0, ""]);
  const lines = stdout.split("\n");
  expect(lines[0]).toBe("2025-11-01 to 2025-11-30, days of UTC");
  expect(lines[2]).toMatch(/^DAY +MODEL +REQUESTS +FAILED +PROMPT +CACHED +ANSWER +SPEND$/);
  expect(stdout).toMatch(/^2025-11-22 +home:qwen +1,200 +0 +120,000 +48,000 +24,000 +3\.0000$/m);
  expect(stdout).toMatch(/^2025-11-22 +=1\+1 {2}\[31m +1 +0 .*<0\.0001$/m);
  expect(stdout).toMatch(/^2025-11-23 +home:qwen +1 +1 /m);
  expect(stdout).not.toContain("\u001b");
  const total = lines.findIndex((line) => line.startsWith("total"));
  expect(lines[total]).toMatch(/^total +1,20\d +1 /);
  // Numbers end below one another.
  expect(
    new Set(
      lines
        .slice(2)
        .filter((line) => line !== "")
        .map((line) => line.length),
    ).size,
  ).toBe(1);
});

test("lair usage names keys beside their ids, and takes either", async () => {
  const { stdout } = await usage(...november, "--by", "key");
  expect(stdout).toContain(`laptop (${key.id})`);
  expect(stdout).toMatch(/^token-1 /m);
  for (const name of ["laptop", key.id]) {
    const one = await usage(...november, "--by", "month,key", "--key", name, "--json");
    const { sums, total, names } = JSON.parse(one.stdout);
    expect(sums).toHaveLength(1);
    expect(sums[0].group).toEqual({ month: "2025-11", key: key.id });
    expect(total.requests).toBe(1201);
    expect(names).toEqual({ [key.id]: "laptop" });
  }
});

test("lair usage without flags is about this month, and CSV defuses what would be a formula", async () => {
  const { stdout } = await usage("--json");
  const { from, to, by } = JSON.parse(stdout);
  const today = new Date().toISOString().slice(0, 10);
  expect([from, to, by]).toEqual([`${today.slice(0, 8)}01`, today, ["day", "model"]]);
  const csv = (await usage(...november, "--by", "model", "--csv")).stdout.split("\r\n");
  expect(csv[0]).toBe("model,requests,failures,prompt_tokens,cached_tokens,completion_tokens,spend,seconds");
  expect(csv).toContainEqual(expect.stringMatching(/^'=1\+1 /));
});

test("lair usage --records shows single calls, and which were only estimated", async () => {
  const { stdout } = await usage("--records", "--key", "laptop", "--limit", "3");
  const lines = stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(4);
  expect(lines[1]).toMatch(/^2025-11-23 11:30:00 +laptop .* ~20 .* left/);
  expect(lines[2]).toMatch(/^2025-11-22 10:30:01 .*home attic .* complete/);
  expect((await usage("--records", "--csv")).stdout.split("\r\n")).toHaveLength(22);
});

test("lair usage says what is wrong with a flag, and with a state that it cannot read", async () => {
  const wrong: [string[], RegExp][] = [
    [["--from", "soon"], /--from wants a day such as/],
    [["--by", "hour"], /--by wants some of day, month, key/],
    [["--csv", "--json"], /exclude each other/],
    [["--limit", "5"], /--limit belongs to lair usage --records/],
    [["--records", "--by", "day"], /--by does not belong/],
    [["--records", "--limit", "0"], /whole number from 1/],
    [["november"], /takes flags only/],
  ];
  const ends = await Promise.all(wrong.map(([args]) => usage(...args)));
  for (const [at, { code, stderr }] of ends.entries()) {
    expect(code).toBe(2);
    expect(stderr).toMatch(wrong[at]?.[1] as RegExp);
  }
  const broken = await run(["usage", "--state", cwd], { cwd });
  expect(broken.code).toBe(1);
  expect(broken.stderr).toMatch(/^lair usage: /m);
  const none = await run(["usage", "--state", "none"], { cwd });
  expect([none.code, none.stderr]).toEqual([2, expect.stringContaining("nothing is kept")]);
});
