import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parse as parseToml } from "smol-toml";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { differenceLines } from "../../src/cli/clients/difference.ts";
import { commandOf, findProgram } from "../../src/cli/clients/find-program.ts";
import { editJson } from "../../src/cli/clients/json-file.ts";
import {
  quoteArgumentForPowerShell,
  quoteForBatch,
  quoteForPowerShell,
  quoteForSh,
  quoteForWindows,
} from "../../src/cli/clients/quoting.ts";
import { toTomlFile, toTomlValue } from "../../src/cli/clients/toml-text.ts";
import { npmShim } from "../support/recording-program.ts";

/** Words that mean something to some shell. */
const words = [
  "",
  "plain",
  "two words",
  "it's",
  '"quoted"',
  'it\'s "both" $HOME `id` \\',
  "$(id)",
  "a&calc&b|c>d<e^f",
  "%PATH%",
  "%OS:~0,1%",
  "!x!",
  "trailing\\",
  'slash\\" inside',
  "(x)[y]{z}",
  "@splat",
  "--flag=va lue",
  "ü日本‘’",
  "*?~;,#",
  "model_providers.lair={ name = 'Local AI Runtime' }",
];

describe("a word for a shell", () => {
  it.skipIf(process.platform === "win32")("comes out of sh as it went in, also with line ends", () => {
    const all = [...words, "two\nlines", "tab\there"];
    const script = `${JSON.stringify(process.execPath)} -e 'console.log(JSON.stringify(process.argv.slice(1)))' -- ${all.map(quoteForSh).join(" ")}`;
    expect(JSON.parse(spawnSync("sh", ["-c", script], { encoding: "utf8" }).stdout)).toEqual(all);
  });

  it("comes out of PowerShell's single quotes as it went in, typographic quotes too", () => {
    for (const word of words) expect(readPowerShell(quoteForPowerShell(word))).toBe(word);
    expect(quoteArgumentForPowerShell("--model")).toBe("--model");
    expect(quoteArgumentForPowerShell("a,b")).toBe("'a,b'");
    expect(quoteArgumentForPowerShell("@splat")).toBe("'@splat'");
    expect(quoteArgumentForPowerShell("-x;y")).toBe("'-x;y'");
  });

  it("comes out of Windows' own parser as it went in", () => {
    const line = words.map(quoteForWindows).join(" ");
    expect(readWindows(line)).toEqual(words);
  });

  it("goes through cmd.exe and a batch file as it went in, and nothing of it is ever bare", () => {
    for (const word of words) {
      const quoted = quoteForBatch(word);
      expect(bareOf(quoted)).toEqual([]);
      const once = withoutCarets(quoted);
      expect(bareOf(once)).toEqual([]);
      expect(readWindows(withoutCarets(once))).toEqual([word]);
    }
  });
});

describe("a program", () => {
  let folder: string;
  const script = "opencode script.js";

  beforeAll(() => {
    folder = realpathSync.native(mkdtempSync(path.join(tmpdir(), "lair-programs-")));
    mkdirSync(path.join(folder, "bin"));
    for (const name of ["node.cjs", script, "native.exe"]) writeFileSync(path.join(folder, name), "");
    writeFileSync(path.join(folder, "opencode.cmd"), npmShim(script));
    writeFileSync(path.join(folder, "codex.cmd"), '@"%~dp0\\native.exe"   %*\r\n');
    writeFileSync(path.join(folder, "gone.cmd"), npmShim("node_modules\\gone.js"));
    writeFileSync(path.join(folder, "other.bat"), "@echo off\r\necho %*\r\n");
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));

  const find = (name: string): ReturnType<typeof findProgram> =>
    findProgram(name, { Path: `relative${path.delimiter}${folder}`, PathExt: ".EXE;.BAT;.CMD" }, "win32");

  it("behind npm's or pnpm's batch file on Windows is started itself, without cmd.exe", async () => {
    const program = await find("opencode");
    expect(program).toEqual({ file: process.execPath, before: [path.join(folder, script)], batch: false });
    expect(commandOf(program!, ["a&b"], {})).toEqual({
      file: process.execPath,
      args: [path.join(folder, script), "a&b"],
      verbatim: false,
    });
    expect(await find("codex")).toEqual({ file: path.join(folder, "native.exe"), before: [], batch: false });
  });

  it("that is a batch file of another kind goes through cmd.exe, every word escaped", async () => {
    for (const name of ["other", "gone"]) {
      const program = await find(name);
      expect(program).toMatchObject({ batch: true });
      const { file, args, verbatim } = commandOf(program!, ["a&calc", 'x" & calc "'], { COMSPEC: "C:\\cmd.exe" });
      expect([file, args.slice(0, 3), verbatim]).toEqual(["C:\\cmd.exe", ["/d", "/s", "/c"], true]);
      expect(bareOf(args[3]!.slice(1, -1))).toEqual([]);
      expect(() => commandOf(program!, ["two\r\nlines"], {})).toThrow(/batch file/);
    }
  });

  it("that is nowhere in PATH is none", async () => {
    expect(await find("claude")).toBeUndefined();
    expect(await findProgram("sh", {}, process.platform)).toBeUndefined();
  });
});

describe("TOML", () => {
  it("says what was meant, whatever is in a text", () => {
    const texts = [...words, "line\nend", "del\u007f", "nul\u0000", "tab\t"];
    const document = { texts, flag: false, count: 3, deep: { "odd key": { "a.b": "x" } }, name: "n" };
    expect(parseToml(toTomlFile(document))).toEqual(document);
    expect(parseToml(`x = ${toTomlValue(document.deep)}`)).toEqual({ x: document.deep });
  });
});

describe("a user's JSON file", () => {
  const change = [{ at: ["provider", "lair"], value: { a: 1 } }];

  it("keeps its comments, its indentation and its line ends", () => {
    const tabs = '{\r\n\t// one\r\n\t"x": 1, // two\r\n}\r\n';
    expect(editJson(tabs, "f", change)).toBe(
      '{\r\n\t// one\r\n\t"x": 1, // two\r\n\t"provider": {\r\n\t\t"lair": {\r\n\t\t\t"a": 1\r\n\t\t}\r\n\t}\r\n}\r\n',
    );
    const nested = '{\n  "provider": {\n    "x": 1 // one\n    /* two */\n  }\n}\n';
    expect(editJson(nested, "f", change)).toBe(
      '{\n  "provider": {\n    "x": 1, // one\n    /* two */\n    "lair": {\n      "a": 1\n    }\n  }\n}\n',
    );
    expect(editJson("", "f", change)).toBe('{\n  "provider": {\n    "lair": {\n      "a": 1\n    }\n  }\n}\n');
  });

  it("is the same after the same change again", () => {
    const once = editJson('{\n    "a": [1,2], /* odd */ "b": {}}', "f", change);
    expect(editJson(once, "f", change)).toBe(once);
  });

  it("is refused where it is no object, or no JSON", () => {
    expect(() => editJson("[]", "f.json", change)).toThrow(/f\.json does not hold a JSON object/);
    expect(() => editJson('{"a": }', "f.json", change)).toThrow(/f\.json is no valid JSON/);
  });
});

describe("what changes in a file", () => {
  it("is shown with the line before and after", () => {
    expect(differenceLines("a\nb\nc\nd\ne\n", "a\nb\nX\nd\ne\n")).toEqual(["  b", "- c", "+ X", "  d"]);
    expect(differenceLines("", "a\n")).toEqual(["+ a"]);
    expect(differenceLines("a\n", "a\n")).toEqual([]);
  });
});

/** What PowerShell makes of a text in single quotes: two of any of its single quotes are one. */
function readPowerShell(text: string): string {
  expect(text).toMatch(/^'.*'$/s);
  const inner = text.slice(1, -1);
  expect(inner.replace(/(['\u2018-\u201b])\1/g, "")).not.toMatch(/['\u2018-\u201b]/);
  return inner.replace(/(['\u2018-\u201b])\1/g, "$1");
}

/** `CommandLineToArgvW`, as Microsoft's C runtime documents it. */
function readWindows(line: string): string[] {
  const found: string[] = [];
  let word: string | undefined;
  let quoted = false;
  for (let at = 0; at < line.length; at++) {
    const slashes = /^\\*/.exec(line.slice(at))![0].length;
    if (slashes > 0 && line[at + slashes] === '"') {
      word = (word ?? "") + "\\".repeat(Math.floor(slashes / 2));
      at += slashes;
      if (slashes % 2 === 1) word += '"';
      else quoted = !quoted;
    } else if (line[at] === '"') {
      quoted = !quoted;
      word ??= "";
    } else if (line[at] === " " && !quoted) {
      if (word !== undefined) found.push(word);
      word = undefined;
    } else word = (word ?? "") + line[at];
  }
  return word === undefined ? found : [...found, word];
}

/** cmd.exe's second phase outside of quotes: a caret takes the meaning of the next character. */
function withoutCarets(text: string): string {
  return text.replace(/\^(.)/gs, "$1");
}

/** Characters with a meaning to cmd.exe that no caret takes away. */
function bareOf(text: string): string[] {
  return text.replace(/\^./gs, "").match(/["&|<>()%!^]/g) ?? [];
}
