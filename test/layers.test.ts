import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { doors, findViolations, readImports, rooms } from "./layers.ts";

const src = path.join(import.meta.dirname, "../src");
const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => name.replaceAll("\\", "/"));

describe("the sources", () => {
  it("are there to be read", () => {
    expect(files).toContain("core/call.ts");
    const call = readFileSync(path.join(src, "core/call.ts"), "utf8");
    expect(readImports("core/call.ts", call).map(({ specifier }) => specifier)).toContain("./errors.ts");
  });

  it("keep to the rooms and doors", () => {
    const problems = files.flatMap((file) => findViolations(file, readFileSync(path.join(src, file), "utf8")));
    expect(problems).toEqual([]);
  });

  it("have a door only for packages that the program declares", () => {
    const declared = JSON.parse(readFileSync(path.join(src, "../package.json"), "utf8"));
    const names = Object.keys({ ...declared.dependencies, ...declared.optionalDependencies });
    const packages = Object.keys(doors).filter((name) => !name.startsWith("node:"));
    expect(names).toEqual(expect.arrayContaining(packages));
  });
});

describe("the checker", () => {
  it.each([
    [
      "a room that may not be imported",
      "core/call.ts",
      `import { x } from "../wire/sse.ts";`,
      /core may not import wire/,
    ],
    [
      "a type from a room that may not be imported",
      "http/server.ts",
      `import type { X } from "../pipeline/auth.ts";`,
      /http may not import pipeline/,
    ],
    [
      "an import over several lines",
      "wire/sse.ts",
      `import {\n  a,\n  b,\n} from "../providers/upstream.ts";`,
      /wire may not import providers/,
    ],
    [
      "an export from another room",
      "core/call.ts",
      `export { x } from "../http/server.ts";`,
      /core may not import http/,
    ],
    [
      "a dynamic import",
      "pipeline/routes.ts",
      `const x = await import("../providers/index.ts");`,
      /pipeline may not import providers/,
    ],
    ["an import for its effect", "state/sqlite.ts", `import "../app.ts";`, /state may not import app/],
    [
      "a second import on one line",
      "core/a.ts",
      `import { b } from "./b.ts"; import { c } from "../wire/c.ts";`,
      /core may not import wire/,
    ],
    ["an undeclared room", "helpers/strings.ts", `export const x = 1;`, /"helpers" is not declared/],
    ["an undeclared file beside app.ts", "server.ts", `export const x = 1;`, /"server" is not declared/],
    [
      "a second door for a part of Node",
      "providers/upstream.ts",
      `import { request } from "node:http";`,
      /one door is http\/server.ts/,
    ],
    [
      "a second door for a package",
      "providers/ollama.ts",
      `import { parse } from "yaml";`,
      /one door is config\/load.ts/,
    ],
    [
      "a second door for a package's part",
      "pipeline/limits.ts",
      `import { z } from "zod/mini";`,
      /one door is config\//,
    ],
    ["a package without a door", "wire/sse.ts", `import parse from "eventsource-parser";`, /no door/],
    ["a scoped package without a door", "wire/sse.ts", `import { x } from "@scope/name/part";`, /no door/],
    ["a bare name of a part of Node", "wire/sse.ts", `import { readFileSync } from "fs";`, /no door/],
    ["the environment", "engines/store.ts", `const home = process.env.HOME;`, /process.env/],
    ["the environment by brackets", "engines/store.ts", `const home = process["env"].HOME;`, /process.env/],
    ["the environment by import", "engines/store.ts", `import { env } from "node:process";`, /process.env/],
    ["a test", "core/call.ts", `import { x } from "../../test/support/fake.ts";`, /outside of src/],
    ["a bench", "cli/main.ts", `import { x } from "../../bench/proxy.ts";`, /outside of src/],
    ["a missing extension", "core/call.ts", `import { x } from "./errors";`, /without its extension/],
  ])("catches %s", (_what, file, source, problem) => {
    expect(findViolations(file, source)).toEqual([expect.stringMatching(problem)]);
  });

  it.each([
    ["an import within the room", "core/call.ts", `import { x } from "./errors.ts";`],
    ["a declared room", "dialects/ollama.ts", `import { x } from "../wire/ndjson.ts";`],
    ["anything in app.ts", "app.ts", `import { x } from "./providers/index.ts";`],
    ["a folder inside a room", "engines/llama/engine.ts", `import { x } from "../../wire/splice.ts";`],
    ["the door itself", "http/server.ts", `import { createServer } from "node:http";`],
    ["a harmless part of Node", "wire/sse.ts", `import { Buffer } from "node:buffer";`],
    [
      "an import in a comment",
      "core/call.ts",
      `// import { x } from "../wire/sse.ts";\n/* import "yaml"; process.env */`,
    ],
    [
      "a URL in a string before an import",
      "core/a.ts",
      `const a = "http://x"; // process.env\nimport { b } from "./b.ts";`,
    ],
  ])("allows %s", (_what, file, source) => {
    expect(findViolations(file, source)).toEqual([]);
  });

  it("knows only rooms that exist in its own table", () => {
    const allowed = Object.values(rooms).flatMap((names) => (names === "*" ? [] : names));
    expect(Object.keys(rooms)).toEqual(expect.arrayContaining(allowed));
  });
});
