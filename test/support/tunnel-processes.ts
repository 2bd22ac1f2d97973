import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { isBuilt, program } from "../../scripts/bootstrap.mjs";
import type { JsonObject } from "../../src/core/json.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { type Program, start } from "../cli/program.ts";
import { get } from "./tunnel-caller.ts";
import { asCaller, callerKey } from "./tunnel-chain.ts";
import { waitUntil } from "./tunnel-log.ts";

const mainFile = path.join(import.meta.dirname, "../../src/cli/main.ts");

/** A relay that runs as a program of its own. */
export interface RelayProgram extends Program {
  readonly url: string;
}

/** The programs of a test, in a folder of their own: each may be killed, frozen, and started anew. */
export class Programs {
  readonly folder = mkdtempSync(path.join(tmpdir(), "lair-programs-"));
  readonly agentsFile = path.join(this.folder, "agents.json");
  readonly #keys = new Map<string, string>();
  readonly #started: { child: Program["child"]; ended: Promise<unknown> }[] = [];

  /** `lair cloud`, at this port or any; waits until it listens. */
  async relay(port = 0, env: Record<string, string> = {}): Promise<RelayProgram> {
    const relay = this.#lair(["cloud", "--port", String(port), "--agents", this.agentsFile], {
      LLM_V1_PROXY_TOKEN: callerKey,
      ...env,
    });
    const [, url = ""] = await relay.until(/"url":"(https?:[^"]+)"/);
    return { ...relay, url };
  }

  /** `lair agent`; connected or not. */
  async agent(name: string, cloud: string, openai: string, env: Record<string, string> = {}): Promise<Program> {
    const key = await this.keyOf(name);
    return this.#lair(["agent", "--cloud", cloud, `--openai=${openai}`], { LAIR_AGENT_KEY: key, ...env });
  }

  /** The key of an agent of that name, which is made where there is none. */
  async keyOf(name: string): Promise<string> {
    const known = this.#keys.get(name);
    if (known !== undefined) return known;
    const keys = new AgentKeys(this.agentsFile);
    const { key } = await keys.add(name);
    keys.close();
    this.#keys.set(name, key);
    return key;
  }

  /** A busy runtime, at this port or any. */
  async runtime(port = 0): Promise<{ child: Program["child"]; url: string }> {
    const script = path.join(import.meta.dirname, "tunnel-runtime-parent.ts");
    const child = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), script, String(port)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#started.push({ child, ended: once(child, "close") });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    return { child, url: line.toString().trim() };
  }

  async close(): Promise<void> {
    for (const { child } of this.#started) child.kill("SIGKILL");
    await Promise.all(this.#started.map(({ ended }) => ended));
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10 });
  }

  #lair(args: readonly string[], env: Record<string, string>): Program {
    const started = start(args, { cwd: this.folder, env, ...(isBuilt() ? { script: program } : {}) });
    this.#started.push(started);
    return started;
  }
}

/** What node is told to run `lair`: the built program where it is that of the sources, as in `npm test`, else the sources. */
export function lairProgram(): string[] {
  return isBuilt() ? [program] : ["--import", import.meta.resolve("tsx"), mainFile];
}

/** Who offers the model `demo` at the relay now. */
export async function agentsAt(relayUrl: string): Promise<string[]> {
  const answer = await get(`${relayUrl}/v1/models`, asCaller).catch(() => undefined);
  if (answer?.status !== 200) return [];
  const { data } = JSON.parse(answer.text) as { data: JsonObject[] };
  return (data.find(({ id }) => id === "demo")?.agents as string[] | undefined) ?? [];
}

/** Waits until exactly these agents offer the model `demo`. */
export async function untilAgents(relayUrl: string, ...names: string[]): Promise<void> {
  const wanted = names.toSorted().join();
  await waitUntil(async () => (await agentsAt(relayUrl)).toSorted().join() === wanted, `agents ${wanted}`);
}

/** Ends a program as a crash does, and waits until it is gone. */
export async function crash({ child }: { child: Program["child"] }): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
