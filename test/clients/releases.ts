import releases from "./releases.json" with { type: "json" };

/** The programs that the suite drives, as npm names them. */
export const { programs } = releases;
/** Libraries that are installed beside the project, for they ask for a newer Node than it does. */
export const { libraries } = releases;
/** Libraries that the project itself is tested with: in its own package.json, exactly these. */
export const { ownLibraries } = releases;

export type ProgramName = keyof typeof programs;

const versions = new Map([...Object.values(programs), ...ownLibraries, ...libraries].map(splitRelease));

/** The npm names of all clients. */
export const clientNames: readonly string[] = [...versions.keys()];

/** The version of a client; with that of the AI SDK's core for its providers. */
export function versionOf(client: string): string {
  const version = versions.get(client) ?? "";
  return client.startsWith("@ai-sdk/") ? `${version} with ai ${versions.get("ai")}` : version;
}

/** `@openai/codex@0.169.0` → name and version. */
export function splitRelease(release: string): [name: string, version: string] {
  const at = release.lastIndexOf("@");
  return [release.slice(0, at), release.slice(at + 1)];
}
