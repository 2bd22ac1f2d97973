import { isObject, type Json } from "../core/json.ts";
import type { Reference } from "./reference.ts";
import { type Get, HubError, follow, readText } from "./transport.ts";

/** A file of a repository. */
export interface RemoteFile {
  /** Path in the repository, with `/`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** In lower-case hex; null where the hub does not tell. */
  readonly sha256: string | null;
  readonly url: string;
}

export interface Repository {
  /** `user/repo` */
  readonly name: string;
  /** The GGUF files, sorted by path. */
  readonly files: readonly RemoteFile[];
  /** Sent with each request for a file. */
  readonly headers: Readonly<Record<string, string>>;
}

/** How a hub is reached. */
export interface Hub {
  readonly get: Get;
  /** e.g. `https://huggingface.co`, or a mirror's address. */
  readonly endpoints: { readonly huggingface: string; readonly modelscope: string };
  /** Access token of Hugging Face, for gated and private repositories. */
  readonly token?: string | undefined;
  readonly signal: AbortSignal;
}

type Named = Reference & { readonly kind: "repository" };

/** Lists with thousands of files are no models of ours. */
const listLimit = 32 * 1024 * 1024;

/** Reads what a repository holds. Throws `HubError`. */
export function readRepository(hub: Hub, reference: Named): Promise<Repository> {
  return reference.hub === "huggingface" ? readHuggingFace(hub, reference) : readModelScope(hub, reference);
}

/** `GET /api/models/<repo>/revision/<revision>?blobs=true`: https://huggingface.co/docs/hub/api */
async function readHuggingFace(hub: Hub, { repository, revision = "main" }: Named): Promise<Repository> {
  const endpoint = hub.endpoints.huggingface.replace(/\/+$/, "");
  const headers = hub.token === undefined ? {} : { authorization: `Bearer ${hub.token}` };
  const address = `${endpoint}/api/models/${repository}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const answer = await readJson(hub, address, { headers, repository });
  const commit = isObject(answer) && typeof answer["sha"] === "string" ? answer["sha"] : revision;
  const listed = isObject(answer) && Array.isArray(answer["siblings"]) ? answer["siblings"] : [];
  const files = listed.filter(isObject).map((entry) => {
    const lfs = isObject(entry["lfs"]) ? entry["lfs"] : {};
    const path = String(entry["rfilename"]);
    return {
      path,
      size: Number(lfs["size"] ?? entry["size"]),
      sha256: toSha256(lfs["sha256"] ?? lfs["oid"]),
      url: `${endpoint}/${repository}/resolve/${commit}/${encodePath(path)}`,
    };
  });
  return { name: repository, files: onlyModels(files, repository), headers };
}

/** `GET /api/v1/models/<repo>/repo/files`: what ModelScope's own client asks (modelscope/hub/api.py). */
async function readModelScope(hub: Hub, { repository, revision = "master" }: Named): Promise<Repository> {
  const endpoint = hub.endpoints.modelscope.replace(/\/+$/, "");
  const query = `Revision=${encodeURIComponent(revision)}&Recursive=true`;
  const answer = await readJson(hub, `${endpoint}/api/v1/models/${repository}/repo/files?${query}`, {
    headers: {},
    repository,
  });
  const content = isObject(answer) && isObject(answer["Data"]) ? answer["Data"] : {};
  const listed = Array.isArray(content["Files"]) ? content["Files"] : [];
  const files = listed.filter(isObject).map((entry) => {
    const path = String(entry["Path"]);
    return {
      path,
      size: Number(entry["Size"]),
      sha256: toSha256(entry["Sha256"]),
      url: `${endpoint}/models/${repository}/resolve/${encodeURIComponent(revision)}/${encodePath(path)}`,
    };
  });
  return { name: repository, files: onlyModels(files, repository), headers: {} };
}

function onlyModels(files: readonly RemoteFile[], repository: string): RemoteFile[] {
  const models = files.filter(({ path, size }) => /\.gguf$/i.test(path) && Number.isSafeInteger(size) && size > 0);
  const unsafe = models.find(({ path }) => !isSafePath(path));
  if (unsafe !== undefined)
    throw new HubError(`${repository} has a file whose name cannot be one here: ${JSON.stringify(unsafe.path)}`);
  if (models.length === 0) {
    throw new HubError(
      `${repository} has no GGUF files. Look for a repository whose name ends in -GGUF: llama.cpp reads no other format`,
    );
  }
  return models.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

/** Plain names only: a path from outside must stay below its folder, on Windows too. */
function isSafePath(path: string): boolean {
  return path
    .split("/")
    .every((part) => /^[\w(][\w.()+@=, -]*$/.test(part) && !/[. ]$/.test(part) && part.length <= 200);
}

async function readJson(
  hub: Hub,
  url: string,
  { headers, repository }: { headers: Readonly<Record<string, string>>; repository: string },
): Promise<Json> {
  const { host } = new URL(url);
  const reply = await follow(hub.get, url, { headers: { ...headers, accept: "application/json" }, signal: hub.signal });
  const text = await readText(reply, listLimit);
  if (reply.status === 401 || reply.status === 403) {
    const hint =
      hub.token === undefined ? "set HF_TOKEN to a token of an account that may read it" : "HF_TOKEN may not read it";
    throw new HubError(`${host} does not give ${repository} out: it is private, gated or does not exist; ${hint}`);
  }
  if (reply.status === 404) throw new HubError(`${host} has no ${repository}, or not at this revision`);
  if (reply.status !== 200) throw new HubError(`${host} answered ${reply.status} to the list of ${repository}`);
  try {
    return JSON.parse(text) as Json;
  } catch {
    throw new HubError(`${host} answered with something else than JSON; is it a mirror of the hub?`);
  }
}

function toSha256(value: Json | undefined): string | null {
  return typeof value === "string" && /^[0-9a-f]{64}$/i.test(value) ? value.toLowerCase() : null;
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
