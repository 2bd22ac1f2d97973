import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type Wanted, checkSpace, download } from "../../src/hub/download.ts";
import { pickFiles } from "../../src/hub/pick.ts";
import { parseReference } from "../../src/hub/reference.ts";
import { type Hub, type Repository, readRepository } from "../../src/hub/repository.ts";
import { plainGet } from "../../src/providers/plain-get.ts";
import { FakeHub } from "../support/fake-hub.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const model = randomBytes(40 * 1024 * 1024 + 123);

async function open(files: Record<string, Buffer> = { "tiny-Q4_K_M.gguf": model }) {
  const fake = await FakeHub.start(files);
  const web = plainGet({ proxyFor: () => undefined, timeout: 10_000 });
  const folder = mkdtempSync(join(tmpdir(), "lair-hub-"));
  const stop = new AbortController();
  closers.push(
    () => fake.close(),
    () => web.close(),
    () => rmSync(folder, { recursive: true, force: true }),
  );
  const hub: Hub = {
    get: web.get,
    endpoints: { huggingface: fake.url, modelscope: fake.url },
    signal: stop.signal,
  };
  const seen: [phase: string, done: number][] = [];
  const options = {
    get: web.get,
    signal: stop.signal,
    retryDelay: 1,
    onProgress: (phase: string, done: number) => void seen.push([phase, done]),
  };
  return { fake, hub, folder, stop, seen, options };
}

function only(repository: Repository, folder: string): Wanted {
  const [file] = repository.files;
  if (file === undefined) throw new Error("no file");
  const { url, size, sha256 } = file;
  return { url, size, sha256, headers: repository.headers, path: join(folder, file.path) };
}

const reference = (text: string) => parseReference(text) as ReturnType<typeof parseReference> & { kind: "repository" };

test("fetches a file in parallel pieces, verified, with progress up to its size", async () => {
  const { hub, folder, options, seen, fake } = await open();
  const wanted = only(await readRepository(hub, reference("hf:user/repo")), folder);
  expect(await download(wanted, options)).toBe(true);
  expect(readFileSync(wanted.path).equals(model)).toBe(true);
  expect(fake.ranges).toHaveLength(3);
  expect(seen.findLast(([phase]) => phase === "download")?.[1]).toBe(model.length);
  expect(seen.at(-1)).toEqual(["verify", model.length]);
  expect(readdirSync(folder)).toEqual(["tiny-Q4_K_M.gguf"]);
  expect(await download(wanted, options)).toBe(false);
});

test("fetches the same from ModelScope", async () => {
  const { hub, folder, options } = await open();
  const wanted = only(await readRepository(hub, reference("ms:user/repo")), folder);
  await download(wanted, options);
  expect(readFileSync(wanted.path).equals(model)).toBe(true);
});

test("goes on after connections that are cut, from where they were cut", async () => {
  const { hub, folder, options, fake } = await open();
  fake.moods.cuts = { times: 3, after: 1_000_000 };
  const wanted = only(await readRepository(hub, reference("user/repo")), folder);
  await download(wanted, options);
  expect(readFileSync(wanted.path).equals(model)).toBe(true);
  expect(
    fake.ranges.some((range) => /^bytes=[1-9]\d*-/.test(range) && !/^bytes=(16777216|33554432)-/.test(range)),
  ).toBe(true);
});

test("a second run fetches only the pieces that the first one had not", async () => {
  const { hub, folder, options, fake, stop } = await open();
  const wanted = only(await readRepository(hub, reference("user/repo")), folder);
  const broken = download(wanted, {
    ...options,
    onProgress: (_phase, done) => {
      if (done > 17 * 1024 * 1024) stop.abort();
    },
  });
  await expect(broken).rejects.toThrow();
  expect(existsSync(wanted.path)).toBe(false);
  const before = fake.ranges.length;
  await download(wanted, { ...options, signal: new AbortController().signal });
  expect(readFileSync(wanted.path).equals(model)).toBe(true);
  expect(fake.ranges.slice(before)).not.toContain("bytes=0-16777215");
});

test("what an earlier try left of another file is not mixed in", async () => {
  const { hub, folder, options } = await open();
  const wanted = only(await readRepository(hub, reference("user/repo")), folder);
  writeFileSync(`${wanted.path}.part`, Buffer.alloc(model.length));
  writeFileSync(
    `${wanted.path}.part.json`,
    JSON.stringify({ size: model.length, sha256: "0".repeat(64), pieceSize: 16777216, done: [0, 1, 2] }),
  );
  await download(wanted, options);
  expect(readFileSync(wanted.path).equals(model)).toBe(true);
});

test("a damaged ledger counts for nothing", async () => {
  const { hub, folder, options } = await open();
  const wanted = only(await readRepository(hub, reference("user/repo")), folder);
  writeFileSync(`${wanted.path}.part`, "x");
  writeFileSync(`${wanted.path}.part.json`, '{"size":');
  await download(wanted, options);
  expect(readFileSync(wanted.path).equals(model)).toBe(true);
});

test("a wrong byte is found, the file thrown away, and both sums are named", async () => {
  const { hub, folder, options, fake } = await open();
  fake.moods.wrongByte = 20_000_000;
  const wanted = only(await readRepository(hub, reference("user/repo")), folder);
  await expect(download(wanted, options)).rejects.toThrow(
    /SHA-256 is [0-9a-f]{64} instead of [0-9a-f]{64}; run it again/,
  );
  expect(readdirSync(folder)).toEqual([]);
});

test("a server without ranges gives the file whole, and whole again after a cut", async () => {
  const { hub, folder, options, fake } = await open();
  fake.moods.whole = true;
  fake.moods.cuts = { times: 1, after: 3_000_000 };
  const wanted = only(await readRepository(hub, reference("user/repo")), folder);
  await download(wanted, options);
  expect(readFileSync(wanted.path).equals(model)).toBe(true);
});

test("the token goes to the hub and never to where it redirects", async () => {
  const { hub, folder, options, fake } = await open();
  fake.moods.token = "hf_secret";
  await expect(readRepository(hub, reference("user/repo"))).rejects.toThrow(/set HF_TOKEN/);
  const repository = await readRepository({ ...hub, token: "hf_secret" }, reference("user/repo"));
  await download(only(repository, folder), options);
  expect(fake.fileHeaders.length).toBeGreaterThan(0);
  expect(fake.fileHeaders.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
});

test("a disk without room is refused before anything is fetched", async () => {
  const { folder } = await open();
  await expect(checkSpace(folder, 1e18)).rejects.toThrow(/free .* more, or name another folder/);
});

test("a file name that leads out of the folder is refused", async () => {
  const { hub } = await open({ "../../evil.gguf": Buffer.from("x") });
  await expect(readRepository(hub, reference("user/repo"))).rejects.toThrow(/cannot be one here/);
});

test("a repository without GGUF files says what to look for", async () => {
  const { hub } = await open({ "model.safetensors": Buffer.from("x") });
  await expect(readRepository(hub, reference("user/repo"))).rejects.toThrow(/ends in -GGUF/);
});

test.each([
  ["hf:user/repo", { hub: "huggingface", repository: "user/repo" }],
  ["user/repo:Q8_0", { repository: "user/repo", quantisation: "Q8_0" }],
  ["hf:user/repo/sub/file.gguf", { repository: "user/repo", file: "sub/file.gguf" }],
  ["hf:user/repo@v1.0:Q4_0", { revision: "v1.0", quantisation: "Q4_0" }],
  ["ms:user/repo", { hub: "modelscope" }],
  [
    "https://huggingface.co/user/repo/resolve/main/a-Q4_0.gguf?download=true",
    { repository: "user/repo", revision: "main", file: "a-Q4_0.gguf" },
  ],
  ["https://huggingface.co/user/repo/tree/main", { repository: "user/repo", revision: "main" }],
  ["https://www.modelscope.cn/models/user/repo", { hub: "modelscope", repository: "user/repo" }],
  ["https://example.com/a/b.gguf", { kind: "url", file: "b.gguf" }],
])("%s is read", (text, parts) => {
  expect(parseReference(text)).toMatchObject(parts);
});

test.each(["", "qwen", "hf:user", "https://example.com/page.html", "hf:../etc/passwd", "hf:user/repo:Q4 0"])(
  "%j is refused with the forms that there are",
  (text) => {
    expect(() => parseReference(text)).toThrow(/hf:user\/repo:Q8_0/);
  },
);

const bytes = Buffer.from("x");
test.each([
  ["the preferred quantisation", "user/repo", ["a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-Q2_K.gguf"], ["a-Q4_K_M.gguf"]],
  ["the nearest to it", "user/repo", ["a-Q8_0.gguf", "a-Q5_K_M.gguf", "a-F16.gguf"], ["a-Q5_K_M.gguf"]],
  ["the one that is named, in any case", "user/repo:q8_0", ["a-q8_0.gguf", "a-q4_k_m.gguf"], ["a-q8_0.gguf"]],
  [
    "Unsloth's dynamic ones by the plain name",
    "user/repo:Q4_K_XL",
    ["a-UD-Q4_K_XL.gguf", "a-Q4_K_M.gguf"],
    ["a-UD-Q4_K_XL.gguf"],
  ],
  [
    "all parts of one",
    "user/repo:Q8_0",
    ["b-Q8_0-00002-of-00002.gguf", "b-Q8_0-00001-of-00002.gguf"],
    ["b-Q8_0-00001-of-00002.gguf", "b-Q8_0-00002-of-00002.gguf"],
  ],
  ["the only file there is", "user/repo", ["model.gguf"], ["model.gguf"]],
])("takes %s", async (_what, text, files, chosen) => {
  const { hub } = await open(Object.fromEntries(files.map((name) => [name, bytes])));
  const named = reference(text);
  expect(pickFiles(await readRepository(hub, named), named).files.map(({ path }) => path)).toEqual(chosen);
});

test("a projector comes with its model and is never the model", async () => {
  const { hub } = await open({ "mmproj-F16.gguf": bytes, "mmproj-F32.gguf": bytes, "vl-Q4_K_M.gguf": bytes });
  const named = reference("user/repo");
  const choice = pickFiles(await readRepository(hub, named), named);
  expect(choice.files.map(({ path }) => path)).toEqual(["vl-Q4_K_M.gguf"]);
  expect(choice.projector?.path).toBe("mmproj-F16.gguf");
});

test("a quantisation that is not there is refused with those that are", async () => {
  const { hub } = await open({ "a-Q8_0.gguf": bytes, "a-Q4_K_M.gguf": bytes });
  const named = reference("user/repo:Q3_K_M");
  const repository = await readRepository(hub, named);
  expect(() => pickFiles(repository, named)).toThrow(/has no Q3_K_M; it has Q4_K_M, Q8_0/);
});
