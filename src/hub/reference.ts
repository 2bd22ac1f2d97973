/** Where a model is to be fetched from. */
export type Reference =
  | {
      readonly kind: "repository";
      readonly hub: "huggingface" | "modelscope";
      /** `user/repo` */
      readonly repository: string;
      /** Branch, tag or commit; absent: the hub's main branch. */
      readonly revision?: string;
      /** Path of one file; absent: the quantisation, or the best that there is. */
      readonly file?: string;
      /** e.g. `Q4_K_M` */
      readonly quantisation?: string;
    }
  | { readonly kind: "url"; readonly url: string; readonly file: string };

/** The text is no reference; the message says which forms there are. */
export class ReferenceError extends Error {}

export const referenceForms = `hf:user/repo              the repository's Q4_K_M, or the nearest that it has
  hf:user/repo:Q8_0         another quantisation
  hf:user/repo/file.gguf    one file (of several parts: the first of them)
  hf:user/repo@revision     of a branch, tag or commit
  ms:user/repo              the same from ModelScope
  https://host/file.gguf    any address`;

const hosts: Readonly<Record<string, "huggingface" | "modelscope">> = {
  "huggingface.co": "huggingface",
  "hf.co": "huggingface",
  "hf-mirror.com": "huggingface",
  "www.modelscope.cn": "modelscope",
  "modelscope.cn": "modelscope",
};

/** Reads `hf:user/repo:Q4_K_M` and the like, `user/repo` alone, and addresses of the hubs' pages. Throws `ReferenceError`. */
export function parseReference(text: string): Reference {
  const trimmed = text.trim();
  if (/^https?:\/\//i.test(trimmed)) return parseUrl(trimmed);
  const [, scheme = "hf", rest = ""] = /^(?:(hf|huggingface|ms|modelscope):(?:\/\/)?)?(.*)$/is.exec(trimmed) ?? [];
  const hub = /^(ms|modelscope)$/i.test(scheme) ? "modelscope" : "huggingface";
  const parts =
    /^(?<repository>[\w.-]+\/[\w.-]+)(?:@(?<revision>[\w./-]+?))?(?:\/(?<file>[^:]+\.gguf)|:(?<quantisation>[\w.-]+))?$/i.exec(
      rest,
    )?.groups;
  if (parts === undefined) throw unreadable(text);
  return { kind: "repository", hub, ...withoutAbsent(parts) } as Reference;
}

function parseUrl(text: string): Reference {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw unreadable(text);
  }
  const hub = hosts[url.hostname];
  const path = decodeURIComponent(url.pathname).replace(/^\/models\//, "/");
  if (hub !== undefined) {
    const page =
      /^\/(?<repository>[\w.-]+\/[\w.-]+)(?:\/(?:resolve|blob|tree)\/(?<revision>[^/]+)(?:\/(?<file>.+\.gguf))?)?\/?$/i;
    const parts = page.exec(path)?.groups;
    if (parts === undefined) throw unreadable(text);
    return { kind: "repository", hub, ...withoutAbsent(parts) } as Reference;
  }
  const file = path.split("/").pop() ?? "";
  if (!/\.gguf$/i.test(file)) throw unreadable(text);
  return { kind: "url", url: url.href, file };
}

function withoutAbsent(parts: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.entries(parts).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function unreadable(text: string): ReferenceError {
  return new ReferenceError(`${JSON.stringify(text)} names no model. These do:\n  ${referenceForms}`);
}
