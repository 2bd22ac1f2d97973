import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { modelSources } from "../../src/config/model-sources.ts";

const folder = mkdtempSync(join(tmpdir(), "lair-sources-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const home = join(folder, "home");
const own = join(home, "models-of-pull");

function pathsOf(
  model: string | string[] | undefined,
  { env = {}, platform = "linux" }: { env?: Record<string, string>; platform?: NodeJS.Platform } = {},
): string[] {
  return modelSources(model, { env: { LAIR_MODELS: own, ...env }, home, platform }).map(({ path }) => path);
}

describe("where models lie", () => {
  test("a text may hold several paths, separated as in PATH; what lair pull fetched is always there", () => {
    expect(pathsOf(undefined)).toEqual([own]);
    expect(pathsOf("/a:/b/c.gguf: /d ")).toEqual(["/a", "/b/c.gguf", "/d", own]);
    expect(pathsOf("M:\\a;D:\\b.gguf", { platform: "win32" })).toEqual(["M:\\a", "D:\\b.gguf", own]);
    expect(pathsOf(["/a:b", "~/models"])).toEqual(["/a:b", join(home, "models"), own]);
  });

  test("a colon that belongs to a name does not separate", () => {
    expect(pathsOf("M:\\llm_models")).toEqual(["M:\\llm_models", own]);
    const odd = join(folder, "a:b");
    mkdirSync(odd);
    expect(pathsOf(odd)).toEqual([odd, own]);
  });

  test("huggingface, lmstudio and ollama stand for those programs' stores, by their own variables", () => {
    expect(modelSources("huggingface", { env: {}, home, platform: "linux" })[0]).toEqual({
      kind: "huggingface",
      path: join(home, ".cache", "huggingface", "hub"),
      optional: true,
    });
    expect(pathsOf("hf-cache", { env: { HF_HOME: "/h" } })[0]).toBe(join("/h", "hub"));
    expect(pathsOf("huggingface", { env: { HF_HUB_CACHE: "/c", HF_HOME: "/h" } })[0]).toBe("/c");
    expect(pathsOf("lmstudio")).toEqual([
      join(home, ".lmstudio", "models"),
      join(home, ".cache", "lm-studio", "models"),
      own,
    ]);
    expect(pathsOf("ollama", { platform: "darwin" })[0]).toBe(join(home, ".ollama", "models"));
    expect(pathsOf("Ollama", { env: { OLLAMA_MODELS: "/o" } })).toEqual(["/o", own]);
    // A folder of that name is written as a path.
    expect(modelSources("./ollama", { env: {}, home, platform: "linux" })[0]?.kind).toBe("files");
  });
});

describe("settings of single models", () => {
  async function load(text: string): Promise<Awaited<ReturnType<typeof loadConfig>>> {
    const path = join(folder, "lair.yaml");
    writeFileSync(path, text);
    return loadConfig({ flags: { config: path }, env: {}, cwd: folder, home });
  }

  test("are read with units and spellings, by ids that hold dots and slashes", async () => {
    const { config } = await load(
      "llama:\n  model: [a.gguf, ollama]\n  models:\n    'user/Qwen2.5-7B*':\n      contextLength: 8192\n" +
        "      gpuLayers: max\n      keepAlive: 5m\n      memory: 6GB\n      pinned: yes\n",
    );
    expect(config.llama.model).toEqual(["a.gguf", "ollama"]);
    expect(config.llama.models).toEqual({
      "user/Qwen2.5-7B*": {
        contextLength: 8192,
        gpuLayers: "all",
        keepAlive: 300_000,
        memory: 6 * 1024 ** 3,
        pinned: true,
      },
    });
  });

  test("that do not exist, or are the engine's alone, are refused with their path", async () => {
    const refused = await load("llama:\n  models:\n    a:\n      pinnd: true\n      library: /x\n").catch(String);
    expect(refused).toMatch(/llama\.models\.a\.pinnd[\s\S]*did you mean "pinned"[\s\S]*llama\.models\.a\.library/);
  });

  test("the budget is a size or unlimited", async () => {
    expect((await load("llama: { memoryBudget: 12GiB }")).config.llama.memoryBudget).toBe(12 * 1024 ** 3);
    expect((await load("llama: { memoryBudget: unlimited }")).config.llama.memoryBudget).toBe("unlimited");
    await expect(load("llama: { memoryBudget: much }")).rejects.toThrow(/memoryBudget[\s\S]*a size such as/);
  });
});
