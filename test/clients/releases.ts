import releases from "./releases.json" with { type: "json" };

/** The programs that the suite drives, as npm names them. */
export const { programs } = releases;
/** Libraries that are installed beside the project, for they ask for a newer Node than it does. */
export const { libraries } = releases;
/** Libraries that the project itself is tested with: in its own package.json, exactly these. */
export const { ownLibraries } = releases;

export type ProgramName = keyof typeof programs;

/** Every client by its npm name → its version. */
export function versions(): Map<string, string> {
  return new Map([...Object.values(programs), ...ownLibraries, ...libraries].map((release) => splitRelease(release)));
}

/** `@openai/codex@0.169.0` → name and version. */
export function splitRelease(release: string): [name: string, version: string] {
  const at = release.lastIndexOf("@");
  return [release.slice(0, at), release.slice(at + 1)];
}
