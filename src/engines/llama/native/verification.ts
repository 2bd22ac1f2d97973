import { brokenSamplers } from "./contract.ts";
import type { LlamaFunctions } from "./declarations.ts";
import { defaultContextParams, defaultModelParams, releases, structSizes } from "./layouts.ts";
import { LibraryError } from "./library-error.ts";

/**
 * What can be told about a library before any of its functions is trusted: its release, the layout of its structs by
 * the defaults that it fills in, and the signatures of samplers by what they do. A wrong declaration would not throw,
 * it would overwrite memory.
 */

/** The release as people know it, e.g. `0.5.0-dev (0ad4a86)`. Throws `LibraryError` for one that is not known. */
export function verifyRelease(
  { llama_version, ggml_commit }: Pick<LlamaFunctions, "llama_version" | "ggml_commit">,
  folder: string,
): string {
  const version = llama_version();
  const commit = ggml_commit();
  if (!isKnown(version, commit)) {
    const known = releases.map(([knownVersion, knownCommit]) => `${knownVersion} (${knownCommit})`).join(", ");
    throw new LibraryError(
      `llama.cpp ${version} (${commit}) in ${folder} is not a release that this runtime was written for; it knows ${known}`,
    );
  }
  return `${version} (${commit})`;
}

/** A build of the release itself (without `-dev`) is known by its version; others may be of any commit in between. */
function isKnown(version: string, commit: string): boolean {
  return releases.some(
    ([knownVersion, knownCommit]) =>
      version === knownVersion.replace("-dev", "") || (version === knownVersion && isSameCommit(commit, knownCommit)),
  );
}

/** Git shortens a hash to as many digits as make it unique in the clone at hand. */
function isSameCommit(commit: string, known: string): boolean {
  return /^[0-9a-f]{7,40}$/.test(commit) && (commit.startsWith(known) || known.startsWith(commit));
}

/** Throws `LibraryError` when the structs are laid out otherwise than declared. `sizeOf` measures a declared struct. */
export function verifyLayout(
  functions: Pick<LlamaFunctions, "llama_model_default_params" | "llama_context_default_params">,
  release: string,
  sizeOf: (struct: string) => number,
): void {
  const wrong: string[] = [];
  for (const [name, size] of Object.entries(structSizes)) if (sizeOf(name) !== size) wrong.push(`size of ${name}`);
  const compare = (found: object, expected: object): void => {
    for (const [field, value] of Object.entries(expected)) {
      const actual = (found as Record<string, unknown>)[field];
      if (typeof actual === "bigint" ? BigInt(value as number) !== actual : actual !== value) wrong.push(field);
    }
  };
  compare(functions.llama_model_default_params(), defaultModelParams);
  compare(functions.llama_context_default_params(), defaultContextParams);
  if (wrong.length > 0) {
    throw new LibraryError(`llama.cpp ${release} lays out its structs otherwise than expected (${wrong.join(", ")})`);
  }
}

/** Throws `LibraryError` when samplers do otherwise than their declared parameters say. */
export function verifySamplers(
  functions: LlamaFunctions,
  release: string,
  allocate: (bytes: number) => { readonly address: bigint; readonly buffer: ArrayBuffer },
): void {
  const broken = brokenSamplers(functions, allocate);
  if (broken.length > 0) {
    throw new LibraryError(
      `llama.cpp ${release} has functions of other parameters than expected (${broken.join(", ")})`,
    );
  }
}
