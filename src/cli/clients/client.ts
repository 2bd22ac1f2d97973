import { homedir } from "node:os";
import type { Environment } from "../../config/environment.ts";
import type { OfferedModel } from "./offered-models.ts";

/** The variable from which clients take the server's key. */
export const keyVariable = "LAIR_KEY";

/** What a client is to be configured for. */
export interface Aim {
  /** The server without `/v1`, e.g. `http://127.0.0.1:18080`. */
  readonly url: string;
  /** Whether the server is asked with a key. The key itself is nobody's here: a client is told the variable that holds it. */
  readonly keyed: boolean;
  readonly model: OfferedModel;
  /** All that can be chatted with, the chosen one among them. */
  readonly models: readonly OfferedModel[];
}

/** The machine and user where the client runs. */
export interface Place {
  readonly env: Environment;
  readonly home: string;
  /** Where it is started. */
  readonly folder: string;
  readonly platform: NodeJS.Platform;
}

/** This machine, with the home that programs started here find. */
export function placeOf(env: Environment, platform: NodeJS.Platform = process.platform): Place {
  return {
    env,
    platform,
    folder: process.cwd(),
    home: env[platform === "win32" ? "USERPROFILE" : "HOME"] || homedir(),
  };
}

/** How a program is started for a server, without a change to any file of its user. */
export interface Configuration {
  /** Variables, none of which is secret. */
  readonly env: Readonly<Record<string, string>>;
  /** Variables that take the server's key. */
  readonly keyVariables: readonly string[];
  /** Variables that the program must not see: credentials for elsewhere, which it would send to this server. */
  readonly unset: readonly string[];
  readonly args: readonly string[];
  /** Files of ours, each for the eyes of its owner only. */
  readonly files: readonly OwnFile[];
}

export interface OwnFile {
  readonly path: string;
  readonly text: string;
}

/** How the same is written into the program's own configuration of this user. */
export interface Saving {
  /** Files of the program. */
  readonly edits: readonly Edit[];
  /** Files of ours that the program reads. */
  readonly files: readonly OwnFile[];
  /** What to know or do afterwards, a sentence each. */
  readonly hints: readonly string[];
}

export interface Edit {
  readonly path: string;
  /** The file's next text by its present one ("": there is none). Throws `ClientError` when the present one cannot be read. */
  readonly change: (text: string) => string;
}

/** A coding agent that `lair launch` starts. */
export interface Client {
  readonly name: string;
  /** As its makers write it. */
  readonly title: string;
  /** What it is called on the command line. */
  readonly command: string;
  /** The npm package that brings it. */
  readonly package: string;
  /** The release that our tests drive. */
  readonly tested: string;
  /** Tokens of context: below `least` its first question does not fit; below `sensible` it forgets early. */
  readonly context: { readonly least: number; readonly sensible: number };
  configure(aim: Aim, place: Place): Promise<Configuration>;
  save(aim: Aim, place: Place): Promise<Saving>;
}

/** What stands in the way; the message is for the user. */
export class ClientError extends Error {}

/** The address that OpenAI's clients are told. */
export function openaiUrl({ url }: Pick<Aim, "url">): string {
  return `${url}/v1`;
}

/** A server in the name of a file, e.g. `127.0.0.1-18080`. */
export function fileNameOf(url: string): string {
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`.replace(/[^A-Za-z0-9.]+/g, "-").replace(/^-|-$/g, "");
}
