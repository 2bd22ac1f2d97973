// `npm run llama:check -- <checkout of llama.cpp>`: compares what src/engines/llama declares of llama.cpp with the
// headers of a checkout, and exits 1 on any difference. With a C compiler it also compares sizes and offsets.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { measureStructs } from "../src/engines/llama/native/binding.ts";
import { constants, releases, structLayouts } from "../src/engines/llama/native/layouts.ts";
import { prototypes } from "../src/engines/llama/native/prototypes.ts";
import { compareHeader, type Difference } from "./compare-llama-header.ts";
import { readHeader } from "./llama-header.ts";

const headers = ["ggml/include/ggml.h", "ggml/include/ggml-backend.h", "ggml/include/ggml-cpu.h", "include/llama.h"];
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const [checkout] = process.argv.slice(2);
if (checkout === undefined || headers.some((name) => !existsSync(path.join(checkout, name)))) {
  say("usage: npm run llama:check -- <checkout of llama.cpp>");
  say(`It must hold ${headers.join(", ")}.`);
  process.exit(2);
}
const header = readHeader(headers.map((name) => readFileSync(path.join(checkout, name), "utf8")).join("\n"));
const own = {
  prototypes: Object.fromEntries(Object.entries(prototypes).map(([name, [, prototype]]) => [name, prototype])),
  structs: structLayouts,
  constants,
};
const differences = compareHeader(own, header);
const measured = await compareMeasures(checkout);
report([...differences, ...(measured ?? [])]);

function report(found: readonly Difference[]): void {
  for (const { name, ours, theirs } of found) say(`${name}\n  ours:   ${ours}\n  theirs: ${theirs}`);
  const counts = [own.prototypes, own.structs, own.constants].map((part) => Object.keys(part).length);
  say(`compared ${counts[0]} functions, ${counts[1]} structs, ${counts[2]} constants: ${found.length} differences`);
  say(measured === null ? "sizes and offsets: not compared, no C compiler was found" : "sizes and offsets: compared");
  if (found.length === 0) say(`known releases: ${releases.map((release) => release.join(" ")).join(", ")}`);
  process.exit(found.length === 0 ? 0 : 1);
}

/** What a compiler makes of the headers against what koffi makes of our layouts; null without a compiler. */
async function compareMeasures(folder: string): Promise<Difference[] | null> {
  const compiler = ["cc", "gcc", "clang"].find((name) => runs(name));
  if (compiler === undefined) return null;
  const theirs = compileMeasures(compiler, folder);
  const known = new Set(differences.map(({ name }) => name.split(",")[0]));
  const found: Difference[] = [];
  for (const [struct, { size, offsets }] of Object.entries(await measureStructs())) {
    if (known.has(struct)) continue;
    const rows = [["sizeof", size] as const, ...Object.entries(offsets)];
    for (const [field, value] of rows) {
      const other = theirs.get(`${struct}.${field}`);
      if (other === value) continue;
      found.push({ name: `${struct}.${field}`, ours: `${value}`, theirs: other === undefined ? "none" : `${other}` });
    }
  }
  return found;
}

/** `struct.sizeof` and `struct.field` → bytes. A field that the header lacks is left out. */
function compileMeasures(compiler: string, folder: string): Map<string, number> {
  const lines = Object.entries(structLayouts).flatMap(([struct, layout]) => {
    const fields = new Set(header.structs.get(struct)?.map(({ name }) => name));
    if (fields.size === 0) return [];
    const offsets = Object.keys(layout).filter((field) => fields.has(field));
    return [
      `printf("${struct}.sizeof %zu\\n", sizeof(struct ${struct}));`,
      ...offsets.map((field) => `printf("${struct}.${field} %zu\\n", offsetof(struct ${struct}, ${field}));`),
    ];
  });
  const scratch = mkdtempSync(path.join(tmpdir(), "lair-header-"));
  try {
    const source = path.join(scratch, "measure.c");
    const program = path.join(scratch, "measure");
    const includes = ["stdio.h", "stddef.h", "llama.h", "ggml-cpu.h"].map((name) => `#include <${name}>`);
    writeFileSync(source, `${includes.join("\n")}\nint main(void) {\n${lines.join("\n")}\nreturn 0;\n}\n`);
    const folders = ["include", "ggml/include"].flatMap((name) => ["-I", path.join(folder, name)]);
    execFileSync(compiler, [...folders, source, "-o", program], { stdio: ["ignore", "ignore", "inherit"] });
    const rows = execFileSync(program, { encoding: "utf8" }).trim().split("\n");
    return new Map(rows.map((row) => [row.split(" ")[0] ?? "", Number(row.split(" ")[1])]));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function runs(name: string): boolean {
  try {
    execFileSync(name, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
