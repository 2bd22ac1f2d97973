import { dirname } from "node:path";
import { keyVariable } from "./client.ts";
import type { Configuration } from "./client.ts";
import { quoteArgumentForPowerShell, quoteForPowerShell, quoteForSh } from "./quoting.ts";

export const shells = ["sh", "powershell"] as const;
export type Shell = (typeof shells)[number];

/** The shell of most users of a system. */
export function usualShell(platform: NodeJS.Platform): Shell {
  return platform === "win32" ? "powershell" : "sh";
}

/** Lines that do in a shell what `lair launch` does: files, variables, command. The key stands in none of them. */
export function toShellLines(configuration: Configuration, command: readonly string[], shell: Shell): string[] {
  return shell === "sh" ? toShLines(configuration, command) : toPowerShellLines(configuration, command);
}

/** Which variable to set to the key before anything else; nothing where there is no key. */
export function keyLines(keyed: boolean, shell: Shell): string[] {
  if (!keyed) return [];
  const line = shell === "sh" ? `export ${keyVariable}='…'` : `$env:${keyVariable} = '…'`;
  return [`# first, if it is not set yet, the server's key: ${line}`];
}

function toShLines({ env, keyVariables, unset, files, args }: Configuration, command: readonly string[]): string[] {
  const others = keyVariables.filter((name) => name !== keyVariable);
  return [
    ...keyLines(keyVariables.length > 0, "sh"),
    ...files.flatMap(({ path, text }) => [
      `mkdir -p ${quoteForSh(dirname(path))}`,
      `cat > ${quoteForSh(path)} <<'LAIR_END'`,
      ...text.trimEnd().split("\n"),
      "LAIR_END",
    ]),
    ...(unset.length === 0 ? [] : [`unset ${unset.join(" ")}`]),
    ...Object.entries(env).map(([name, value]) => `export ${name}=${quoteForSh(value)}`),
    ...others.map((name) => `export ${name}="$${keyVariable}"`),
    [...command, ...args].map(quoteForSh).join(" "),
  ];
}

function toPowerShellLines(
  { env, keyVariables, unset, files, args }: Configuration,
  command: readonly string[],
): string[] {
  const others = keyVariables.filter((name) => name !== keyVariable);
  return [
    ...keyLines(keyVariables.length > 0, "powershell"),
    ...files.flatMap(({ path, text }) => [
      `New-Item -ItemType Directory -Force ${quoteForPowerShell(dirname(path))} | Out-Null`,
      // Not Set-Content: what it calls UTF8 begins with a byte order mark in PowerShell 5.
      `[IO.File]::WriteAllText(${quoteForPowerShell(path)}, @'`,
      ...text.trimEnd().split("\n"),
      "'@)",
    ]),
    ...unset.map((name) => `$env:${name} = $null`),
    ...Object.entries(env).map(([name, value]) => `$env:${name} = ${quoteForPowerShell(value)}`),
    ...others.map((name) => `$env:${name} = $env:${keyVariable}`),
    [...command, ...args].map(quoteArgumentForPowerShell).join(" "),
  ];
}
