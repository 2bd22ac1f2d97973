import { createHash } from "node:crypto";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { ModelSource } from "../../src/core/model.ts";
import { type GgufContent, writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { type ModelFile, ModelFiles } from "../../src/engines/models/model-files.ts";
import { findModel } from "../../src/engines/models/model-lookup.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { readAnswer, startEngine } from "../support/llama.ts";

const folder = mkdtempSync(join(tmpdir(), "lair-stores-"));
const opened: ModelFiles[] = [];
afterAll(() => {
  for (const files of opened) files.close();
  rmSync(folder, { recursive: true, force: true });
});

const small = scriptedModel({ scripts: [{ after: "\n", say: "Hi." }] });
const whole = join(folder, "whole.gguf");
writeGguf(whole, small);

/** Puts the small model at a path below the folder. */
function put(...path: string[]): string {
  const target = join(folder, ...path);
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(whole, target);
  return target;
}

function open(...sources: (Partial<ModelSource> & { path: string })[]): ModelFiles {
  const files = new ModelFiles({ sources: sources.map((source) => ({ kind: "files", ...source })) });
  opened.push(files);
  return files;
}

async function list(...sources: (Partial<ModelSource> & { path: string })[]): Promise<readonly ModelFile[]> {
  return open(...sources).list();
}

/** The small model as one of several shards, with its number of all. */
function putShard(path: string, count: number): void {
  const metadata = new Map(small.metadata).set("split.count", { type: "u32", value: count });
  mkdirSync(dirname(path), { recursive: true });
  writeGguf(path, { ...small, metadata } satisfies GgufContent);
}

describe("a folder of models", () => {
  test("groups shards, sums up their sizes, and says which one is missing or broken", async () => {
    const root = join(folder, "shards");
    const shard = (name: string, number: number): string => join(root, `${name}-0000${number}-of-00003.gguf`);
    for (const number of [1, 2, 3]) {
      putShard(shard("good", number), 3);
      putShard(shard("cut", number), 3);
      if (number !== 2) putShard(shard("holed", number), 3);
      if (number !== 1) putShard(shard("headless", number), 3);
    }
    truncateSync(shard("cut", 3), 3000);
    const models = await list({ path: root });
    expect(models.map(({ id, problem }) => [id, problem])).toEqual([
      ["cut", expect.stringMatching(/^the shard cut-00003-of-00003\.gguf: .*cut off/)],
      ["good", null],
      ["headless", "its first shard is missing"],
      ["holed", expect.stringMatching(/^the shard holed-00002-of-00003\.gguf: .*does not exist/)],
    ]);
    const good = models[1];
    expect(good?.files).toEqual([1, 2, 3].map((number) => shard("good", number)));
    expect(good?.bytes).toBe(3 * readFileSync(shard("good", 1)).length);
    const one = (await list({ path: whole }))[0];
    expect(good?.header?.parameters).toBe(3 * (one?.header?.parameters ?? 0));
  });

  test("pairs projectors with the models of their name, or with the only model beside them", async () => {
    put("eyes", "Gemma-3-4B-it-Q4_K_M.gguf");
    put("eyes", "Qwen2.5-VL-7B-Q8_0.gguf");
    put("eyes", "blind-Q4_0.gguf");
    put("eyes", "mmproj-gemma-3-4b-it-F32.gguf");
    put("eyes", "mmproj-gemma-3-4b-it-F16.gguf");
    put("eyes", "Qwen2.5-VL-7B-mmproj-f16.gguf");
    put("eyes", "alone", "Any-Q4_K_M.gguf");
    put("eyes", "alone", "Any-Q8_0.gguf");
    const nameless = put("eyes", "alone", "mmproj-model-f16.gguf");
    const models = await list({ path: join(folder, "eyes") });
    expect(models.map(({ id, projector }) => [id, projector && relative(join(folder, "eyes"), projector)])).toEqual([
      ["Any-Q4_K_M", join("alone", "mmproj-model-f16.gguf")],
      ["Any-Q8_0", join("alone", "mmproj-model-f16.gguf")],
      ["Gemma-3-4B-it-Q4_K_M", "mmproj-gemma-3-4b-it-F16.gguf"],
      ["Qwen2.5-VL-7B-Q8_0", "Qwen2.5-VL-7B-mmproj-f16.gguf"],
      ["blind-Q4_0", null],
    ]);
    // A model that is named by its file alone finds its projector as well.
    const [gemma] = await list({ path: join(folder, "eyes", "Gemma-3-4B-it-Q4_K_M.gguf") });
    expect(gemma?.projector).toBe(join(folder, "eyes", "mmproj-gemma-3-4b-it-F16.gguf"));
    rmSync(nameless);
  });

  test("follows links to folders once, and does not run in circles", async () => {
    put("links", "a.gguf");
    put("elsewhere", "b.gguf");
    symlinkSync(join(folder, "elsewhere"), join(folder, "links", "more"), "junction");
    symlinkSync(join(folder, "links"), join(folder, "elsewhere", "back"), "junction");
    expect((await list({ path: join(folder, "links") })).map(({ id }) => id)).toEqual(["a", "b"]);
  });

  test("lists a model once however many sources reach it, and like names apart", async () => {
    const [first, second] = [put("twice", "x", "same.gguf"), put("twice", "y", "same.gguf")];
    const models = await list({ path: first }, { path: join(folder, "twice") }, { path: second });
    expect(models.map(({ id, path }) => [id, path])).toEqual([
      ["same", first],
      ["y/same", second],
    ]);
  });

  test("says what is no model by itself", async () => {
    const adapter = new Map(small.metadata).set("general.type", { type: "string", value: "adapter" });
    mkdirSync(join(folder, "odd"));
    writeGguf(join(folder, "odd", "lora.gguf"), { ...small, metadata: adapter });
    writeFileSync(join(folder, "odd", "half.gguf.part"), "GGUF");
    mkdirSync(join(folder, "odd", "folder.gguf"));
    expect((await list({ path: join(folder, "odd") })).map(({ id, problem }) => [id, problem])).toEqual([
      ["lora", expect.stringContaining("adapter")],
    ]);
    expect((await list({ path: join(folder, "nowhere") }))[0]?.problem).toContain("does not exist");
    expect(await list({ path: join(folder, "nowhere"), optional: true })).toEqual([]);
  });
});

describe("while files come and go", () => {
  test("a model that is being copied is broken only until it is whole", async () => {
    const bytes = readFileSync(whole);
    const path = join(folder, "copied", "new.gguf");
    mkdirSync(dirname(path));
    const files = open({ path: dirname(path) });
    expect(await files.list()).toEqual([]);
    writeFileSync(path, bytes.subarray(0, 2000));
    expect((await files.list())[0]?.problem).toContain("cut off");
    appendFileSync(path, bytes.subarray(2000));
    expect((await files.list())[0]?.problem).toBeNull();
    renameSync(path, join(folder, "copied", "other.gguf"));
    expect((await files.list()).map(({ id }) => id)).toEqual(["other"]);
  });

  test("changes in new folders are seen too", async () => {
    const root = join(folder, "grows");
    put("grows", "a.gguf");
    const files = open({ path: root });
    await files.list();
    put("grows", "deep", "b.gguf");
    await files.list();
    put("grows", "deep", "c.gguf");
    expect((await files.list()).map(({ id }) => id)).toEqual(["a", "b", "c"]);
  });

  test("nothing is read while nothing changes", async () => {
    const path = put("still", "a.gguf");
    const files = open({ path: dirname(path) });
    await files.list();
    const [before] = await files.list();
    expect((await files.list())[0]).toBe(before);
    expect(await files.find((all) => all.find(({ id }) => id === "a"))).toBe(before);
  });

  test("a request for a model that has just come is not refused, and one for a replaced model gets the new one", async () => {
    const root = join(folder, "served");
    const write = (name: string, say: string): void => {
      writeGguf(join(root, `${name}.new`), scriptedModel({ scripts: [{ after: "\n", say }] }));
      renameSync(join(root, `${name}.new`), join(root, `${name}.gguf`));
    };
    mkdirSync(root);
    write("first", "I am here.");
    const engine = startEngine({ model: root });
    const say = async (model: string): Promise<string> =>
      (await readAnswer(engine.chat(chatRequest(model, "Who?"), new AbortController().signal))).text;
    expect(await say("first")).toBe("I am here.");
    write("second", "So am I.");
    expect(await say("second")).toBe("So am I.");
    write("first", "I am another one now.");
    await expect.poll(() => say("first"), { timeout: 10_000 }).toBe("I am another one now.");
    await expect.poll(() => engine.processes().length).toBe(2);
    rmSync(join(root, "second.gguf"));
    await expect.poll(async () => (await engine.models()).map(({ id }) => id)).toEqual(["first"]);
  });
});

describe("Hugging Face's cache", () => {
  const hub = join(folder, "hub");
  const repository = join(hub, "models--user--Some-Model-GGUF");

  function link(revision: string, name: string): void {
    const blob = join(
      repository,
      "blobs",
      createHash("sha256")
        .update(revision + name)
        .digest("hex"),
    );
    mkdirSync(dirname(blob), { recursive: true });
    copyFileSync(whole, blob);
    const path = join(repository, "snapshots", revision, name);
    mkdirSync(dirname(path), { recursive: true });
    symlinkSync(relative(dirname(path), blob), path);
  }

  test("is read in place, main's revision first, by file names and by user/repo:quantisation", async () => {
    link("aaaa", "Some-Model-Q4_K_M.gguf");
    link("aaaa", "Some-Model-Q2_K.gguf");
    link("bbbb", "Some-Model-Q4_K_M.gguf");
    link("bbbb", "sub/Some-Model-Q8_0.gguf");
    link("bbbb", "mmproj-Some-Model-f16.gguf");
    mkdirSync(join(repository, "refs"));
    writeFileSync(join(repository, "refs", "main"), "bbbb\n");
    // Touched last, and yet not the newest.
    utimesSync(join(repository, "snapshots", "aaaa"), 4e9, 4e9);
    symlinkSync("../../blobs/gone", join(repository, "snapshots", "bbbb", "lost.gguf"));
    mkdirSync(join(hub, "datasets--user--data", "snapshots"), { recursive: true });
    const models = await list({ kind: "huggingface", path: hub });
    expect(models.map(({ id, path }) => [id, relative(join(repository, "snapshots"), path)])).toEqual([
      ["Some-Model-Q2_K", join("aaaa", "Some-Model-Q2_K.gguf")],
      ["Some-Model-Q4_K_M", join("bbbb", "Some-Model-Q4_K_M.gguf")],
      ["Some-Model-Q8_0", join("bbbb", "sub", "Some-Model-Q8_0.gguf")],
      ["lost", join("bbbb", "lost.gguf")],
    ]);
    expect(models[1]?.projector).toContain("mmproj-Some-Model-f16.gguf");
    expect(models[3]?.problem).toContain("links to");
    const find = (name: string): string | undefined => findModel(models, name)?.id;
    expect(find("user/Some-Model-GGUF:q8_0")).toBe("Some-Model-Q8_0");
    expect(find("user/some-model-gguf")).toBe("Some-Model-Q4_K_M");
    expect(find("user/some-model")).toBeUndefined();
  });
});

describe("Ollama's store", () => {
  const store = join(folder, "ollama");

  function addBlob(content: string | Buffer): { digest: string; path: string } {
    const hash = createHash("sha256").update(content).digest("hex");
    const path = join(store, "blobs", `sha256-${hash}`);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return { digest: `sha256:${hash}`, path };
  }

  function addManifest(name: string, layers: Record<string, string>): void {
    const path = join(store, "manifests", ...name.split("/"));
    mkdirSync(dirname(path), { recursive: true });
    const list = Object.entries(layers).map(([kind, digest]) => ({
      mediaType: `application/vnd.ollama.image.${kind}`,
      digest,
      size: 1,
    }));
    writeFileSync(path, JSON.stringify({ schemaVersion: 2, config: { digest: "sha256:0" }, layers: list }));
  }

  const weights = addBlob(readFileSync(whole));
  const projector = addBlob("projector");
  const notGguf = addBlob("safetensors, perhaps");
  const gone = `sha256:${"0".repeat(64)}`;
  const registry = "registry.ollama.ai";
  addManifest(`${registry}/library/qwen3/8b`, { model: weights.digest, template: projector.digest });
  addManifest(`${registry}/library/llava/latest`, { model: weights.digest, projector: projector.digest });
  addManifest(`${registry}/someone/tuned/v1`, { model: weights.digest, adapter: projector.digest });
  addManifest("hf.co/user/repo/Q4_K_M", { model: weights.digest });
  addManifest(`${registry}/library/broken/latest`, { model: notGguf.digest });
  addManifest(`${registry}/library/gone/latest`, { model: gone });
  addManifest(`${registry}/library/cloudy/cloud`, { license: projector.digest });
  addManifest(`${registry}/library/evil/latest`, { model: "sha256:../../../../etc/passwd" });
  writeFileSync(join(store, "manifests", registry, "library", "qwen3", "torn"), '{"layers": [');

  test("is read in place: names with their tags, projectors, and what cannot be used with the reason", async () => {
    const models = await list({ kind: "ollama", path: store });
    expect(models.map(({ id, problem }) => [id, problem])).toEqual([
      ["broken:latest", expect.stringContaining("no GGUF")],
      ["gone:latest", expect.stringContaining("missing")],
      ["hf.co/user/repo:Q4_K_M", null],
      ["llava:latest", null],
      ["qwen3:8b", null],
      ["qwen3:torn", expect.stringContaining("manifest")],
      ["someone/tuned:v1", expect.stringContaining("adapter")],
    ]);
    expect(models.find(({ id }) => id === "llava:latest")).toMatchObject({
      path: weights.path,
      projector: projector.path,
    });
    expect(findModel(models, "llava")?.id).toBe("llava:latest");
    expect(findModel(models, "qwen3")).toBeUndefined();
  });

  test("answers with its models", async () => {
    const engine = startEngine({ model: null, sources: [{ kind: "ollama", path: store }] });
    const { text } = await readAnswer(engine.chat(chatRequest("qwen3:8b", "Who?"), new AbortController().signal));
    expect(text).toBe("Hi.");
  });
});

describe("the name of a model", () => {
  test("may be its id, an alias, default or a forgiving spelling, but never stands for another model", async () => {
    put("names", "publisher", "repo", "Nice-7B-Q4_K_M.gguf");
    put("names", "a-broken.gguf");
    truncateSync(join(folder, "names", "a-broken.gguf"), 100);
    put("names", "b-plain.gguf");
    const models = await list({ path: join(folder, "names") });
    const settings = { aliases: { "gpt-4o": "nice-7b-q4_k_m", default: "b-plain" }, defaultModel: "Nice-7B-Q4_K_M" };
    const find = (name: string, used = {}): string | undefined => findModel(models, name, used)?.id;
    expect(find("Nice-7B-Q4_K_M")).toBe("Nice-7B-Q4_K_M");
    expect(find("nice-7b-q4_k_m.GGUF")).toBe("Nice-7B-Q4_K_M");
    expect(find("publisher/repo/nice-7b-q4_k_m")).toBe("Nice-7B-Q4_K_M");
    expect(find("publisher/repo:Q4_K_M")).toBe("Nice-7B-Q4_K_M");
    expect(find("publisher/repo:Q8_0")).toBeUndefined();
    expect(find("nice")).toBeUndefined();
    expect(find("gpt-4o", settings)).toBe("Nice-7B-Q4_K_M");
    expect(find("gpt-4o")).toBeUndefined();
    // The first that is sound.
    expect(find("default")).toBe("Nice-7B-Q4_K_M");
    expect(find("default", { defaultModel: "b-plain" })).toBe("b-plain");
    expect(find("default", settings)).toBe("b-plain");
    expect(find("constructor", settings)).toBeUndefined();
  });
});
