import { destination, pino, stdSerializers, stdTimeFunctions } from "pino";
import type { Log } from "../core/log.ts";
import { plainText } from "./command.ts";

export interface LogOptions {
  readonly level: "debug" | "info" | "warn" | "error" | "silent";
  readonly format: "pretty" | "json";
  /** Where lines go; default: standard output. */
  readonly write?: (line: string) => void;
  /** Whether readable lines may have colours; default: where standard output is a terminal. */
  readonly coloured?: boolean;
}

export interface Logger extends Log {
  /** Writes what is still held back; before the process ends. */
  flush(): void;
}

/** Fields that must not be in a log at all; should one slip in, its value is not written. */
const redacted = [
  "authorization",
  "key",
  "keys",
  "token",
  "headers.authorization",
  "headers.cookie",
  'headers["x-api-key"]',
  'headers["api-key"]',
  'headers["proxy-authorization"]',
];
const colours: Readonly<Record<string, string>> = { debug: "90", info: "32", warn: "33", error: "31" };

/** The program's log: JSON lines as pino writes them, or one readable line each. */
export function createLogger({ level, format, write, coloured }: LogOptions): Logger {
  const toStdout = (line: string): void => void process.stdout.write(line);
  const out = write ?? toStdout;
  const file =
    format === "json" && write === undefined ? new Gathered(destination({ dest: 1, sync: false })) : undefined;
  const stream = file ?? {
    write: format === "json" ? out : (line: string) => out(prettyLine(line, coloured ?? process.stdout.isTTY === true)),
  };
  const options = {
    level,
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    redact: { paths: redacted, censor: "***" },
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: stdSerializers.err, error: stdSerializers.err, cause: stdSerializers.err },
  };
  const log = pino(options, stream);
  const enabled = log.isLevelEnabled("info");
  return {
    debug: (fields, message) => log.debug(fields, message),
    // The line that every request writes: pino takes 4.6 µs for it, this 0.9.
    info: enabled ? (fields, message) => stream.write(infoLine(fields, message)) : () => undefined,
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
    flush: () => file?.flushSync(),
  };
}

/** Lines on their way to a file, several in one write: a write for each would cost more than all else about them. */
class Gathered {
  readonly #file: ReturnType<typeof destination>;
  #lines: string[] = [];

  constructor(file: ReturnType<typeof destination>) {
    this.#file = file;
  }

  write(line: string): void {
    const count = this.#lines.push(line);
    if (count === 1) setTimeout(() => this.#flush(), 100).unref();
    else if (count >= 512) this.#flush();
  }

  flushSync(): void {
    try {
      this.#flush();
      this.#file.flushSync();
    } catch {
      // Not open yet, or the reader is gone: there is nobody to tell.
    }
  }

  #flush(): void {
    if (this.#lines.length === 0) return;
    const text = this.#lines.join("");
    this.#lines = [];
    this.#file.write(text);
  }
}

/** A line as pino writes it, of fields that are plain values. */
function infoLine(fields: object, message: string): string {
  const said = JSON.stringify(fields);
  const more = said === "{}" ? "" : `${said.slice(1, -1)},`;
  return `{"level":"info","time":"${isoTime()}",${more}"msg":${JSON.stringify(message)}}\n`;
}

let lastTime = 0;
let lastText = "";

/** Now; a busy server writes many lines in one millisecond. */
function isoTime(): string {
  const now = Date.now();
  if (now !== lastTime) {
    lastTime = now;
    lastText = new Date(now).toISOString();
  }
  return lastText;
}

/** One of pino's JSON lines → `12:34:56 warn  message  field=value`, an error's stack below it. */
function prettyLine(line: string, coloured: boolean): string {
  const { time, level, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const name = String(level);
  const tint = (code: string | undefined, text: string): string =>
    coloured && code !== undefined ? `\u001b[${code}m${text}\u001b[0m` : text;
  const clock = new Date(String(time)).toTimeString().slice(0, 8);
  let stack = "";
  const words: string[] = [];
  for (const [key, value] of Object.entries(fields)) {
    const trace = typeof value === "object" && value !== null ? (value as { stack?: unknown }).stack : undefined;
    if (typeof trace === "string")
      stack += `${trace
        .split("\n")
        .map((one) => `    ${plainText(one)}`)
        .join("\n")}\n`;
    else
      words.push(`${key}=${typeof value === "string" && /^[\w./:@+*-]+$/.test(value) ? value : JSON.stringify(value)}`);
  }
  const rest = words.length === 0 ? "" : `  ${tint("90", plainText(words.join(" ")))}`;
  return `${tint("90", clock)} ${tint(colours[name], name.padEnd(5))} ${plainText(typeof msg === "string" ? msg : "")}${rest}\n${stack}`;
}
