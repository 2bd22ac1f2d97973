import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KeyRing } from "../../src/access/key-ring.ts";
import type { Terminal } from "../../src/cli/command.ts";
import { keys } from "../../src/cli/keys.ts";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import { type AccessServer, startAccessServer } from "../support/access-server.ts";
import { redisMissing, startRedis } from "../support/redis.ts";
import { run } from "./program.ts";

let folder: string;
const toClose: (() => unknown)[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-keys-"));
});
afterEach(async () => {
  for (const close of toClose.splice(0).toReversed()) await close();
  rmSync(folder, { recursive: true, force: true });
});

interface Said {
  readonly code: number;
  readonly out: string;
  readonly trouble: string;
}

/** Runs `lair keys` in this process, on a state of its own; what was asked wrongly is in `trouble`, too. */
async function lair(args: readonly string[], input = ""): Promise<Said> {
  const out: string[] = [];
  const trouble: string[] = [];
  const terminal: Terminal = {
    env: { LAIR_STATE: path.join(folder, "state.db"), HOME: folder, USERPROFILE: folder, LAIR_CONFIG: configFile() },
    print: (line) => void out.push(line),
    write: (text) => void out.push(text),
    complain: (line) => void trouble.push(line),
    input: Readable.from([input]) as NodeJS.ReadStream,
    output: process.stdout,
    interactive: false,
  };
  try {
    const code = await keys.run(args, terminal);
    return { code, out: out.join("\n"), trouble: trouble.join("\n") };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { code: 2, out: out.join("\n"), trouble: error.message };
  }
}

function configFile(): string {
  const file = path.join(folder, "lair.yaml");
  writeFileSync(file, "gateway:\n  port: 9999\n");
  return file;
}

const keyText = /lair_k[a-z2-7]{12}_[A-Za-z0-9_-]{43}/;

describe("lair keys", () => {
  test("leads a new user from nothing to a key and its end", async () => {
    expect((await lair([])).out).toBe("There is no key yet. Create one: lair keys create NAME");
    const made = await lair([
      "create",
      "ci",
      "--expires",
      "90d",
      "--models",
      "qwen*,coder",
      "--tokens-per-day",
      "200k",
    ]);
    expect(made).toMatchObject({ code: 0, trouble: "" });
    expect(made.out).toMatch(/^The key ci \(k[a-z2-7]{12}\), good until .*It is not shown again:/);
    expect(made.out).toContain("OPENAI_BASE_URL=http://127.0.0.1:9999/v1");
    const [text = ""] = keyText.exec(made.out) ?? [];
    const listed = await lair(["list"]);
    expect(listed.out).toMatch(
      /^ci +k\w+ +….{4} +works +inference +qwen\*, coder +200000 tokens\/day +\d{4}-\d\d-\d\d +-/m,
    );
    expect(listed.out).toContain(`…${text.slice(-4)}`);
    const shown = await lair(["show", "ci"]);
    expect(shown.out).toMatch(/^limits +200000 tokens\/day$/m);
    for (const { out } of [listed, shown, await lair(["list", "--json"]), await lair(["show", "ci", "--json"])])
      expect(out).not.toContain(text.slice(-12));
    for (const file of readdirSync(folder))
      expect(readFileSync(path.join(folder, file)).includes(text.slice(-12))).toBe(false);
    const rotated = await lair(["rotate", "ci", "--grace", "1h"]);
    expect(rotated.out).toMatch(keyText);
    expect(rotated.out).toContain("The old one works for 1h more");
    expect((await lair(["revoke", "ci"])).out).toContain("is revoked");
    expect((await lair(["revoke", "ci"])).out).toBe("ci was revoked before");
    expect(await lair(["rotate", "ci"])).toMatchObject({
      code: 1,
      trouble: "lair keys: the key ci is revoked, for good; create another one",
    });
    expect((await lair(["list"])).out).toMatch(/^ci .* revoked /m);
  });

  test("changes what its flags say, and takes bounds away by none", async () => {
    await lair([
      "create",
      "ci",
      "--owner",
      "Ana",
      "--concurrent",
      "2",
      "--spend-per-month",
      "9.5",
      "--expires",
      "2100-01-31",
    ]);
    await lair([
      "change",
      "ci",
      "--name",
      "build",
      "--concurrent",
      "none",
      "--requests-per-minute",
      "60",
      "--role",
      "admin,inference",
      "--expires",
      "never",
    ]);
    const shown = JSON.parse((await lair(["show", "build", "--json"])).out) as object;
    expect(shown).toMatchObject({
      name: "build",
      owner: "Ana",
      expires: null,
      roles: ["admin", "inference"],
      limits: { spendPerMonth: 9.5, requestsPerMinute: 60 },
    });
    expect(shown).not.toHaveProperty("limits.concurrent");
    const { id } = shown as { id: string };
    await lair(["change", id, "--owner", "none", "--models", "*"]);
    expect(JSON.parse((await lair(["show", id, "--json"])).out)).toMatchObject({ owner: null, models: [] });
  });

  test("says the key as JSON for programs, and nothing else", async () => {
    const made = JSON.parse((await lair(["create", "ci", "--json"])).out) as { key: string; name: string };
    expect(made).toMatchObject({ name: "ci", state: "works" });
    expect(made.key).toMatch(keyText);
  });

  test.each<[string, string[], number, string]>([
    ["an unknown word", ["crate", "a"], 2, 'did you mean "create"?'],
    ["no name", ["create"], 2, "keys create takes NAME"],
    ["two names", ["create", "a", "b"], 2, "not 2 words"],
    ["a word after list", ["list", "a"], 2, "keys list takes nothing"],
    ["an unknown flag", ["create", "a", "--expire", "1d"], 2, 'did you mean "--expires"?'],
    ["a flag of another word", ["revoke", "a", "--grace", "1h"], 2, "--grace does not belong to keys revoke"],
    [
      "a role that there is not",
      ["create", "a", "--role", "admn"],
      2,
      '--role must be one of inference, admin, metrics; did you mean "admin"?',
    ],
    ["a negative limit", ["create", "a", "--tokens-per-day=-5"], 2, "--tokens-per-day must be a whole number"],
    ["an endless limit", ["create", "a", "--tokens-per-day", "1e400"], 2, "--tokens-per-day must be a whole number"],
    ["half a token", ["create", "a", "--tokens-per-day", "0.5"], 2, "--tokens-per-day must be a whole number"],
    [
      "a limit in words",
      ["create", "a", "--tokens-per-day", "many"],
      2,
      "--tokens-per-day wants a number such as 60, 200k",
    ],
    ["an expiry in the past", ["create", "a", "--expires", "2020-01-01"], 2, "--expires is in the past"],
    ["an expiry of no time", ["create", "a", "--expires", "0"], 2, "--expires wants a duration"],
    ["an expiry in words", ["create", "a", "--expires", "soon"], 2, "--expires must be a time"],
    ["a name like an id", ["create", "kaaaaaaaaaaaa"], 2, "look like the id"],
    ["a taken name", ["create", "there"], 1, '"there"'],
    ["a change of nothing", ["change", "there"], 2, "at least one flag"],
    ["a key that is not there", ["show", "ther"], 1, 'there is no key "ther"; did you mean "there"?'],
    ["a grace of years", ["rotate", "there", "--grace", "9999d"], 2, "--grace may be at most 90d"],
    ["a grace in words", ["rotate", "there", "--grace", "long"], 2, "--grace wants a duration"],
    ["a file that is not there", ["import", "absent.csv"], 1, "cannot be read (ENOENT)"],
  ])("refuses %s", async (_name, args, code, words) => {
    await lair(["create", "there"]);
    const said = await lair(args);
    expect(said.trouble).toContain(words);
    expect(said.code).toBe(code);
    expect(JSON.parse((await lair(["list", "--json"])).out)).toHaveLength(1);
  });
});

describe("lair keys import", () => {
  const one = "sk-planted-number-one";
  const digest = "0f".repeat(32);
  const names = async (): Promise<string[]> =>
    (JSON.parse((await lair(["list", "--json"])).out) as { name: string }[]).map(({ name }) => name);

  test.each([
    ["lines", `# old keys\nmy laptop ${one}\r\n\nci\tsha256:${digest}\n`],
    [
      "CSV",
      `name,key,models,owner,tokensPerDay\n"my laptop",${one},a b;c,"Ana, or ""Bo""",5\nci,sha256:${digest},,,\n`,
    ],
    [
      "JSON",
      JSON.stringify([
        { name: "my laptop", key: one },
        { name: "ci", digest },
      ]),
    ],
    [
      "JSON as the admin's reply has it",
      JSON.stringify({
        keys: [
          { name: "my laptop", key: one },
          { name: "ci", digest },
        ],
      }),
    ],
  ])("takes %s that are piped in", async (form, text) => {
    const said = await lair(["import", "-"], text);
    expect(said).toMatchObject({ code: 0, out: "2 keys imported. See them: lair keys list" });
    expect(await names()).toEqual(["ci", "my laptop"]);
    if (form !== "CSV") return;
    const shown = JSON.parse((await lair(["show", "my laptop", "--json"])).out) as object;
    expect(shown).toMatchObject({
      owner: 'Ana, or "Bo"',
      models: ["a", "b", "c"],
      limits: { tokensPerDay: 5 },
      ending: "-one",
    });
  });

  test.each([
    ["a line without a key", `a ${one}\nplanted-alone\n`, "line 2"],
    ["a key twice", `a ${one}\nb ${one}\n`, "line 2: has the same key as line 1"],
    ["a name twice", `a ${one}\na ${one}x\n`, 'line 2: has the name "a" as line 1'],
    ["a name that is taken", `b ${one}x\nthere ${one}\n`, '"there"'],
    [
      "an unknown column",
      `name,key,modles\na,${one},m\n`,
      'line 2: there is no field "modles"; did you mean "models"?',
    ],
    ["a limit in words", `name,key,tokensPerDay\na,${one},many\n`, "limits.tokensPerDay must be a whole number"],
    ["half a JSON", `[{"name":"a","key":"${one}"`, "begins like JSON and is none"],
    ["nothing", "\n", "no key to import"],
  ])("refuses %s as a whole, without a word of any key", async (_name, text, words) => {
    await lair(["create", "there"]);
    const file = path.join(folder, "keys.txt");
    writeFileSync(file, text);
    const said = await lair(["import", file]);
    expect(said.code).not.toBe(0);
    expect(said.trouble).toContain(words);
    expect(said.trouble + said.out).not.toContain("planted");
    expect(await names()).toEqual(["there"]);
  });
});

const missing = redisMissing();
const places: [string, () => Promise<string>][] = [
  ["an SQLite file", () => Promise.resolve(path.join(folder, "state.db"))],
];
if (missing === undefined)
  places.push([
    "Redis",
    async () => {
      const redis = await startRedis();
      toClose.push(() => redis.close());
      return redis.url;
    },
  ]);
else process.stderr.write(`lair keys over Redis is not tested: ${missing}\n`);

describe.each(places)("a server and the command line on %s", (_name, place) => {
  async function startServer(url: string): Promise<{ server: AccessServer; ring: KeyRing }> {
    const state = await openState(url, { log: silent, replica: "server" });
    toClose.push(() => state.close());
    const ring = await KeyRing.open(state, silent);
    toClose.push(() => ring.close());
    const server = await startAccessServer({ ring });
    toClose.push(() => server.close());
    return { server, ring };
  }

  const changed = (ring: KeyRing): Promise<number> =>
    new Promise((resolve) => {
      const end = ring.onChange(() => {
        end();
        resolve(performance.now());
      });
    });

  test("agree about every key, while the server runs", async () => {
    const url = await place();
    const { server, ring } = await startServer(url);
    const ask = async (key: string): Promise<number> =>
      (await fetch(`${server.url}/v1/models`, { headers: { "x-api-key": key } })).status;
    const command = async (...args: string[]): Promise<string> => {
      const heard = changed(ring);
      const { code, stdout, stderr } = await run(["keys", ...args], { cwd: folder, env: { LAIR_STATE: url } });
      expect([code, stderr]).toEqual([0, ""]);
      await heard;
      return stdout;
    };
    expect(await ask("anything")).toBe(200);
    const [text = ""] = keyText.exec(await command("create", "ci")) ?? [];
    expect([await ask(text), await ask("anything")]).toEqual([200, 401]);
    const [next = ""] = keyText.exec(await command("rotate", "ci", "--grace", "0")) ?? [];
    expect([await ask(text), await ask(next)]).toEqual([401, 200]);
    await command("revoke", "ci");
    expect(await ask(next)).toBe(401);
    // Nor is the server open again.
    expect(await ask("anything")).toBe(401);
    expect(server.lines.join() + server.arrived.join()).not.toMatch(keyText);
  });
});
