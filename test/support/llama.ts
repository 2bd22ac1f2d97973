import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { ChatEvent, Usage } from "../../src/core/chat.ts";
import { LlamaEngine } from "../../src/engines/llama/engine.ts";
import { type GgufContent, writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import type { LlamaSettings } from "../../src/engines/llama/settings.ts";
import type { Log } from "../../src/core/log.ts";

const folder = mkdtempSync(join(tmpdir(), "lair-llama-"));
const engines: LlamaEngine[] = [];

afterAll(async () => {
  await Promise.all(engines.map((engine) => engine.close()));
  rmSync(folder, { recursive: true, force: true });
});

/** Writes a model of this test file and returns its path. */
export function writeModel(name: string, content: GgufContent): string {
  const path = join(folder, name);
  writeGguf(path, content);
  return path;
}

/** An engine with one compute thread, closed after the tests of the file. */
export function startEngine(settings: LlamaSettings, log?: Log): LlamaEngine {
  const engine = new LlamaEngine("llama_cpp", { threads: 1, contextLength: 1024, temperature: 0, ...settings }, log);
  engines.push(engine);
  return engine;
}

export interface Answer {
  readonly events: ChatEvent[];
  readonly text: string;
  readonly reasoning: string;
  readonly calls: { name: string; arguments: string; id: string }[];
  readonly reason: string | undefined;
  readonly usage: Usage | undefined;
}

/** Reads an answer to its end. */
export async function readAnswer(stream: AsyncIterable<ChatEvent>): Promise<Answer> {
  const events: ChatEvent[] = [];
  for await (const event of stream) events.push(event);
  const calls: { name: string; arguments: string; id: string }[] = [];
  for (const event of events) {
    if (event.type !== "tool-call") continue;
    const call = (calls[event.index] ??= { name: "", arguments: "", id: "" });
    call.name += event.name ?? "";
    call.id += event.id ?? "";
    call.arguments += event.arguments;
  }
  const finish = events.find((event) => event.type === "finish");
  const join = (type: "text" | "reasoning"): string =>
    events.map((event) => (event.type === type ? event.text : "")).join("");
  return {
    events,
    text: join("text"),
    reasoning: join("reasoning"),
    calls,
    reason: finish?.reason,
    usage: finish?.usage,
  };
}

/** Whether a process of that id runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
