import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/** The program running as a process of its own. */
export interface Running {
  /** Where it listens, e.g. `http://127.0.0.1:40001`. */
  readonly url: string;
  /** Everything it has printed so far. */
  output(): string;
  /** Asks it to stop, waits until it has; gives its exit code. */
  stop(): Promise<number | null>;
}

/** Variables of this test run without those that would configure the program. */
export function cleanEnvironment(home: string): NodeJS.ProcessEnv {
  const own =
    /^(LAIR|LLAMA_CPP|RUNTIME|OLLAMA|LMDEPLOY|MNN|VLLM|OPENAI|LLM_V1|VITEST|NODE_OPTIONS|(HTTPS?|ALL|NO)_PROXY)/i;
  const kept = Object.entries(process.env).filter(([name]) => !own.test(name));
  return { ...Object.fromEntries(kept), HOME: home, USERPROFILE: home, APPDATA: home, XDG_CONFIG_HOME: home };
}

/** Starts `node <script> <args>` and waits until it says where it listens. Throws with its output when it ends before. */
export async function startProgram(
  script: string,
  args: readonly string[],
  options: { cwd: string; env: NodeJS.ProcessEnv },
): Promise<Running> {
  const child = spawn(process.execPath, [script, ...args], { ...options, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer): void => {
      output += chunk.toString();
      const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(output);
      if (found !== null) resolve(found[0]);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the program ended with ${code} before it listened:\n${output}`)));
  });
  return { url, output: () => output, stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  return child.exitCode;
}
