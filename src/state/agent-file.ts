import { readFileSync, statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { AgentChange, AgentPlace } from "./agent-place.ts";
import { AgentFileError, type AgentRecords, decodeAgents, encodeAgents } from "./agent-records.ts";
import { takeLock } from "./file-lock.ts";
import { watchFile } from "./file-watch.ts";
import { replaceFile } from "./replace-file.ts";

const largestFile = 4 * 1024 * 1024;

/** The list of agents in a file, which is made with the first agent. */
export function agentFile(path: string): AgentPlace {
  return {
    name: `file of agents ${path}`,
    read: () => readAgentFile(path),
    change: (change) => changeAgentFile(path, change),
    watch: (onChange) => watchFile(path, onChange),
  };
}

/** The agents of the file; none when there is no such file. Throws `AgentFileError` for one that cannot be understood. */
export function readAgentFile(path: string): AgentRecords {
  let text: string;
  try {
    const { size } = statSync(path);
    if (size > largestFile) throw new Error(`it is ${size} bytes large; allowed: ${largestFile}`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return new Map();
    throw broken(path, error);
  }
  try {
    return decodeAgents(text);
  } catch (error) {
    throw broken(path, error);
  }
}

/**
 * Changes the file, which is made when there is none: `change` gets what is in it and returns what shall be, with what
 * the caller wants to know. Changes of several processes follow one another. Throws `AgentFileError`, or what `change` throws.
 */
async function changeAgentFile<Result>(path: string, change: AgentChange<Result>): Promise<Result> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const lock = await takeLock(`${path}.lock`);
  try {
    const { agents, result } = change(readAgentFile(path));
    await replaceFile(path, encodeAgents(agents), () => lock.isHeld());
    return result;
  } finally {
    await lock.release();
  }
}

function broken(path: string, error: unknown): AgentFileError {
  const reason = error instanceof Error ? error.message : String(error);
  return new AgentFileError(
    `the file of agents ${path} cannot be used, and no agent may connect: ${reason}. Mend it, or delete it and register the agents anew`,
    { cause: error },
  );
}
