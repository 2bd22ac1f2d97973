import { UsageError } from "../command.ts";

/** Where a program is to run by itself: the machine's own way of starting it, and for whom. */
export interface Site {
  readonly platform: NodeJS.Platform;
  /** Name of the service, e.g. `lair-agent`: letters, digits and `-`. */
  readonly name: string;
  /** For the whole machine from its start, rather than for one user from the login. */
  readonly system: boolean;
  /** Who runs it; on Windows with the domain, `HOST\name`. */
  readonly user: string;
  /** The user's number; undefined on Windows. */
  readonly uid: number | undefined;
  readonly home: string;
  /** Where files of ours beside the definition lie: its log, where the system keeps none, and its key. */
  readonly folder: string;
}

/** What is to run. */
export interface Program {
  /** One sentence for people. */
  readonly about: string;
  /** Absolute path of the program, then its arguments. Never a secret. */
  readonly command: readonly [string, ...string[]];
  /** Variables that it needs beside those that the system gives. */
  readonly env: Readonly<Record<string, string>>;
  /** Milliseconds that it may take to stop. */
  readonly stopTimeout: number;
}

/** A command of the system's, with its arguments. */
export interface Step {
  readonly command: readonly [string, ...string[]];
  /** Its failure means nothing: what it ends was not there. */
  readonly optional?: true;
}

/** How the system learns of a service, starts, stops and forgets it. */
export interface Registration {
  /** Path of the definition. */
  readonly file: string;
  readonly encoding: "utf8" | "utf16le";
  readonly start: readonly [Step, ...Step[]];
  /** Before the definition is removed. */
  readonly stop: readonly Step[];
  /** After the definition was removed. */
  readonly forget: readonly Step[];
  /** Tells whether it runs: exit code 0 when it is known to the system. */
  readonly status: Step;
  /** How its log is read. */
  readonly logs: string;
  /** What else a person may want to do, one line each. */
  readonly hints: readonly string[];
}

/** Said in every definition, so that only what was written here is ever overwritten or removed. */
export const mark = "Written by lair agent install-service; lair agent uninstall-service removes it.";

/** Text of an XML element or attribute. Throws `UsageError` for what XML cannot hold. */
export function toXml(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;" };
  return withoutControls(text).replace(/[&<>"']/g, (letter) => entities[letter] ?? letter);
}

/** The text, where it has no control character. Throws `UsageError` for one that has: no definition could say it. */
export function withoutControls(text: string): string {
  if (/\p{Cc}/u.test(text))
    throw new UsageError(`${JSON.stringify(text)} holds a control character, which a service definition cannot say`);
  return text;
}
