import type { TaskMeta } from "vitest";

export type Dialect = "chat" | "responses" | "messages" | "ollama";

/** How a client reached a model: a provider of the runtime, or a role before the runtime with its embedded engine. */
export const ways = ["llama_cpp", "ollama", "lmdeploy", "mnn", "vllm", "openai", "relay", "gateway", "launch"] as const;
export type Way = (typeof ways)[number];
/** Those in which a client is told the server's address; `lair launch` has tests of its own. */
export const served: readonly Way[] = ways.filter((way) => way !== "launch");

/** What a test says of a client: that it finishes the task this way, or what it does when something goes wrong. */
export interface Row {
  /** Its npm name. */
  readonly client: string;
  readonly dialect: Dialect;
  readonly way?: Way;
  /** e.g. `the model is not there` */
  readonly trouble?: string;
  /** What it does then. */
  readonly outcome?: string;
}

declare module "vitest" {
  interface TaskMeta {
    row?: Row;
  }
}

/** Notes for the compatibility table what the test shows, if it passes. */
export function noteRow(task: { meta: TaskMeta }, row: Row): void {
  task.meta.row = row;
}
