import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Log } from "../../src/core/log.ts";
import { chooseLibrary, type ProbeMessage, probeLibrary } from "../../src/engines/llama/builds/backends.ts";
import { loadLibrary } from "../../src/engines/llama/native/binding.ts";
import { brokenSamplers } from "../../src/engines/llama/native/contract.ts";
import type { LlamaFunctions } from "../../src/engines/llama/native/declarations.ts";
import { cudaLibraries } from "../../src/engines/llama/builds/gpu-files.ts";
import { releases } from "../../src/engines/llama/native/layouts.ts";
import {
  dataPlace,
  findLibraryFolder,
  packageName,
  publishedBackends,
} from "../../src/engines/llama/builds/packages.ts";
import { prototypes } from "../../src/engines/llama/native/prototypes.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const scratch = mkdtempSync(join(tmpdir(), "lair-backends-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const never = new AbortController().signal;
const [[version, commit] = ["", ""]] = releases.slice(-1);
const extension = { darwin: "dylib", win32: "dll" }[process.platform as string] ?? "so";
const compiler = process.platform === "win32" ? undefined : ["cc", "gcc", "clang"].find((name) => runs(name));
const withCompiler = it.skipIf(compiler === undefined);
const skipped = compiler === undefined ? " (those of a made-up library skipped: there is no C compiler)" : "";

function runs(name: string): boolean {
  try {
    execFileSync(name, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Three libraries with these C functions; all else that we call does nothing. */
function stubLibrary(
  name: string,
  functions: Readonly<Record<string, string>>,
  without: readonly string[] = [],
): string {
  const folder = join(scratch, name);
  mkdirSync(folder);
  for (const [library, stem] of Object.entries({ llama: "llama", ggml: "ggml", base: "ggml-base" })) {
    const ours = Object.entries(prototypes).filter(([key, [place]]) => place === library && !without.includes(key));
    const source = ours.map(([key]) => functions[key] ?? `void *${key}(void) { return 0; }`);
    const file = join(folder, `${stem}.c`);
    writeFileSync(
      file,
      `#include <stdlib.h>\nstruct m { char b[80]; }; struct c { char b[160]; };\n${source.join("\n")}\n`,
    );
    execFileSync(compiler ?? "", ["-shared", "-fPIC", "-w", file, "-o", join(folder, `lib${stem}.${extension}`)]);
  }
  return folder;
}

const known = {
  llama_version: `const char *llama_version(void) { return "${version}"; }`,
  ggml_commit: `const char *ggml_commit(void) { return "${commit}"; }`,
};

describe(`a build of llama.cpp${skipped}`, () => {
  it("that npm installed is of a known release", async () => {
    const tried = await probeLibrary(findLibraryFolder(), null);
    expect(tried).toMatchObject({ ok: true, report: { gpuProblem: null } });
    if (!tried.ok) return;
    expect(tried.report.backends.some((name) => name.startsWith("cpu"))).toBe(true);
    const processor = tried.report.devices.find(({ type }) => type === "cpu");
    expect(processor?.totalBytes).toBeGreaterThan(0);
    expect(processor?.freeBytes).toBeLessThanOrEqual(processor?.totalBytes ?? 0);
  });

  it("that is not there, or is none, is refused with the place", async () => {
    expect(await probeLibrary(join(scratch, "none"), null)).toMatchObject({
      ok: false,
      problem: expect.stringMatching(/folder of llama\.cpp cannot be read: .*none/),
    });
    const folder = join(scratch, "garbage");
    mkdirSync(folder);
    expect(await probeLibrary(folder, null)).toMatchObject({
      problem: expect.stringContaining("no library ggml-base"),
    });
    for (const stem of ["llama", "ggml", "ggml-base"])
      writeFileSync(join(folder, `lib${stem}.${extension}`), "garbage");
    expect(await probeLibrary(folder, null)).toMatchObject({
      problem: expect.stringContaining("cannot be loaded from"),
    });
  });

  withCompiler("of another release is refused by its name, whatever it lacks", async () => {
    const other = { ...known, llama_version: 'const char *llama_version(void) { return "9.9.9-dev"; }' };
    expect(await probeLibrary(stubLibrary("other", other, ["llama_decode"]), null)).toMatchObject({
      ok: false,
      problem: expect.stringMatching(/llama\.cpp 9\.9\.9-dev \(\w+\) in .* is not a release .* it knows 0\./),
    });
    const dirty = { ...known, ggml_commit: 'const char *ggml_commit(void) { return "abcdef0-dirty"; }' };
    expect(await probeLibrary(stubLibrary("dirty", dirty), null)).toMatchObject({
      problem: expect.stringContaining("abcdef0-dirty"),
    });
  });

  withCompiler("that lacks a function is refused with its name", async () => {
    expect(await probeLibrary(stubLibrary("lacking", known, ["llama_decode"]), null)).toMatchObject({
      problem: expect.stringContaining("has no function llama_decode"),
    });
  });

  withCompiler("whose structs have moved is refused with the fields", async () => {
    // As if a release had put a field before the others: all that follow are off by four bytes.
    const moved = {
      ...known,
      llama_model_default_params: "struct m llama_model_default_params(void) { struct m p = {{0}}; return p; }",
      llama_context_default_params:
        "struct c llama_context_default_params(void) { struct c p = {{0}}; *(int *)(p.b + 4) = 512; return p; }",
    };
    expect(await probeLibrary(stubLibrary("moved", moved), null)).toMatchObject({
      problem: expect.stringMatching(/lays out its structs otherwise than expected \(n_gpu_layers, .*n_ctx, n_batch/),
    });
  });

  withCompiler("that aborts takes only the process with it that tried it", async () => {
    const fatal = { ...known, llama_version: "const char *llama_version(void) { abort(); }" };
    expect(await probeLibrary(stubLibrary("fatal", fatal), null)).toMatchObject({
      ok: false,
      problem: expect.stringContaining("SIGABRT"),
    });
  });

  it("whose samplers take other parameters is refused, which no layout would show", async () => {
    const { functions, allocate } = await loadLibrary();
    expect(brokenSamplers(functions, allocate)).toEqual([]);
    const { llama_sampler_init_penalties: penalties, llama_sampler_init_top_p: topP } = functions;
    const drifted: LlamaFunctions = {
      ...functions,
      // llama.cpp of 2025: without the vocabulary's size in front, our size arrives as the tokens to look back on.
      llama_sampler_init_penalties: (size, _last, repeat, frequency, presence) =>
        penalties(size, size, repeat, frequency, presence),
      llama_sampler_init_top_p: (probability) => topP(probability, 0),
    };
    expect(brokenSamplers(drifted, allocate)).toEqual(["llama_sampler_init_top_p", "llama_sampler_init_penalties"]);
  });
});

// The packages exist for x64 of Linux and Windows only.
describe.skipIf(!publishedBackends().includes("cuda"))("the choice of a build", () => {
  const dataFolder = join(scratch, "data");
  for (const backend of ["cuda", "vulkan"] as const) {
    const name = packageName(backend);
    mkdirSync(join(dataPlace(dataFolder, name), "bins", name), { recursive: true });
    writeFileSync(join(dataPlace(dataFolder, name), "package.json"), JSON.stringify({ version: "3.22.1" }));
  }
  const extensionFolder = join(dataPlace(dataFolder, `${packageName("cuda")}-ext`), "bins", "x", "fallback");
  mkdirSync(extensionFolder, { recursive: true });

  const tried: string[] = [];
  /** A machine on which the GPUs that `problems` does not name answer. */
  const machine =
    (problems: Readonly<Record<string, ProbeMessage | string>>): typeof probeLibrary =>
    (folder, fallback) => {
      const backend = folder.split("-").at(-1) ?? "";
      tried.push(`${backend}${fallback === null ? "" : " with fallback"}`);
      const problem = problems[backend] ?? null;
      if (typeof problem === "object" && problem !== null) return Promise.resolve(problem);
      const report = { release: "", gpuProblem: problem, koffi: "", devices: [], backends: [] };
      return Promise.resolve({ ok: true, report });
    };

  it("takes the best GPU that answers", async () => {
    tried.length = 0;
    const chosen = await chooseLibrary({ dataFolder }, machine({}));
    expect(chosen).toMatchObject({ backend: "cuda", fallback: extensionFolder, warnings: [] });
    expect(tried).toEqual(["cuda with fallback"]);
  });

  it("goes on to the next where one has no GPU, breaks or hangs, and says why", async () => {
    const broken: ProbeMessage = { ok: false, problem: "loading it ended by SIGSEGV" };
    expect(await chooseLibrary({ dataFolder }, machine({ cuda: broken }))).toMatchObject({
      backend: "vulkan",
      warnings: [expect.stringMatching(/-cuda is installed but not used: .*SIGSEGV/)],
    });
    expect(await chooseLibrary({ dataFolder }, machine({ cuda: broken, vulkan: "no driver" }))).toMatchObject({
      backend: "cpu",
      warnings: [expect.stringContaining("SIGSEGV"), expect.stringContaining("no driver")],
    });
  });

  it("tries nothing where the GPU is switched off, or a folder is named", async () => {
    tried.length = 0;
    expect(await chooseLibrary({ dataFolder, gpu: "off" }, machine({}))).toMatchObject({ backend: "cpu" });
    const own = await chooseLibrary({ dataFolder, library: "/own", gpu: "cuda" }, machine({}));
    expect(own).toMatchObject({ backend: "own", folder: "/own" });
    expect(tried).toEqual([]);
  });

  it("refuses a GPU that was asked for and is not there", async () => {
    await expect(chooseLibrary({ dataFolder, gpu: "vulkan" }, machine({ vulkan: "no driver" }))).rejects.toThrow(
      /gpu is vulkan, but no such GPU can be used: no driver/,
    );
    await expect(chooseLibrary({ gpu: "vulkan" }, machine({}))).rejects.toThrow(/run lair engine install vulkan/);
  });

  it("leaves a model to the processor where a GPU's package is broken", async () => {
    const broken = join(scratch, "broken");
    const name = packageName("vulkan");
    const bins = join(dataPlace(broken, name), "bins", name);
    mkdirSync(bins, { recursive: true });
    for (const stem of ["llama", "ggml", "ggml-base"]) writeFileSync(join(bins, `lib${stem}.${extension}`), "garbage");
    const warnings: string[] = [];
    const log: Log = { debug() {}, info() {}, error() {}, warn: (_, message) => void warnings.push(message) };
    const model = writeModel("spared.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Still here" }] }));
    const engine = startEngine({ model, dataFolder: broken }, log);
    expect((await readAnswer(engine.chat(chatRequest("spared", "Hi"), never))).text).toBe("Still here");
    expect(warnings).toContainEqual(expect.stringContaining(`${name} is installed but not used`));
  });
});

describe("the setting library", () => {
  const model = writeModel("own.gguf", scriptedModel({ scripts: [{ after: "\n", say: "By my own build" }] }));

  it("loads a build from another folder", async () => {
    const library = join(scratch, "own");
    symlinkSync(findLibraryFolder(), library, "junction");
    const engine = startEngine({ model, library });
    expect((await readAnswer(engine.chat(chatRequest("own", "Hi"), never))).text).toBe("By my own build");
  });

  it("is never passed over: where the folder has none, the request says so", async () => {
    const engine = startEngine({ model, library: join(scratch, "nowhere") });
    await expect(readAnswer(engine.chat(chatRequest("own", "Hi"), never))).rejects.toMatchObject({
      code: "unsupported_capability",
      message: expect.stringMatching(/nowhere/),
    });
  });
});

it("CUDA's libraries are found where its installers put them", () => {
  const root = join(scratch, "usr-local");
  const lib = join(root, "cuda-13.0", "targets", "x86_64-linux", "lib");
  mkdirSync(lib, { recursive: true });
  mkdirSync(join(root, "cuda-12.8", "lib64"), { recursive: true });
  for (const name of ["libcublas.so.13", "libcudart.so.13", "libcublasLt.so.13"]) writeFileSync(join(lib, name), "");
  writeFileSync(join(root, "cuda-12.8", "lib64", "libcudart.so.12"), "");
  const found = (folder: string): string[] => cudaLibraries(folder, [root, join(scratch, "none")]);
  // In the order in which they need one another.
  expect(found("bins/linux-x64-cuda")).toEqual(
    ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"].map((name) => join(lib, name)),
  );
  expect(found("bins/linux-x64-cuda/fallback")).toEqual([join(root, "cuda-12.8", "lib64", "libcudart.so.12")]);
});
