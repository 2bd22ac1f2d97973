import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

/** What a program was started with. */
export interface Started {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

/** A program that writes down how it was started. */
export interface RecordingProgram {
  /** The folder for PATH. */
  readonly folder: string;
  /** What it was last started with, beyond being asked for its version; undefined: not at all. */
  started(): Started | undefined;
}

/**
 * Puts a program into a folder as npm does, on Windows behind npm's batch file: it says the version when it is asked for,
 * else writes down how it was started and ends with the code of the variable `RECORDED_EXIT`.
 */
export function makeRecordingProgram(folder: string, name: string, version = "999.0.0"): RecordingProgram {
  mkdirSync(folder, { recursive: true });
  const record = path.join(folder, `${name}.started.json`);
  const script = path.join(folder, `${name}.cjs`);
  const code = `#!${process.execPath}
if (process.argv[2] === "--version") { console.log(${JSON.stringify(version)}); process.exit(0); }
const started = { args: process.argv.slice(2), env: process.env, cwd: process.cwd() };
require("node:fs").writeFileSync(${JSON.stringify(record)}, JSON.stringify(started));
if (process.env.RECORDED_WAIT) { process.on("SIGTERM", () => process.exit(43)); setInterval(() => {}, 1000); console.log("waiting"); }
else process.exitCode = Number(process.env.RECORDED_EXIT ?? 0);
`;
  const windows = process.platform === "win32";
  writeFileSync(windows ? script : path.join(folder, name), code);
  if (windows) writeFileSync(path.join(folder, `${name}.cmd`), npmShim(`${name}.cjs`));
  else chmodSync(path.join(folder, name), 0o755);
  return {
    folder,
    started: () => (existsSync(record) ? (JSON.parse(readFileSync(record, "utf8")) as Started) : undefined),
  };
}

/** A batch file as npm's cmd-shim 7 writes it for a script of node. */
export function npmShim(script: string): string {
  return [
    "@ECHO off",
    "GOTO start",
    ":find_dp0",
    "SET dp0=%~dp0",
    "EXIT /b",
    ":start",
    "SETLOCAL",
    "CALL :find_dp0",
    "",
    'IF EXIST "%dp0%\\node.exe" (',
    '  SET "_prog=%dp0%\\node.exe"',
    ") ELSE (",
    '  SET "_prog=node"',
    "  SET PATHEXT=%PATHEXT:;.JS;=;%",
    ")",
    "",
    `endLocal & goto #_undefined_# 2>NUL || title %COMSPEC% & "%_prog%"  "%dp0%\\${script}" %*`,
    "",
  ].join("\r\n");
}
