import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Listing } from "../core/model.ts";
import type { Config } from "./schema.ts";

/** The built-in demo model's file, and when it is offered. */
export interface DemoModel {
  readonly path: string;
  readonly listing: Listing;
}

/** Beside the built program; a program that runs from its sources finds that of the repository. */
const places = ["../assets/demo.gguf", "../../assets/demo.gguf"];

/**
 * The built-in model under this configuration; undefined: it is not there, or not wanted. Nobody who has real models shall
 * get a toy's answers unasked:
 *
 * - `llama.demo` offers it beside all others;
 * - with `llama.model` (a folder `models` sets it too) there is none, and the name `demo` is a wrong name like any other;
 * - with a provider that was configured it is not offered, not even while that one is down: who has named a server wants
 *   its answers, or to hear that there are none;
 * - else it is offered while nobody has another model, neither `lair pull` nor an Ollama that happens to run.
 *
 * In the last two cases it answers to its own name although it may not be listed: so the README's first example holds on a
 * machine with an Ollama too.
 */
export function demoModel({ llama, providers }: Pick<Config, "llama" | "providers">): DemoModel | undefined {
  if (llama.model !== undefined && !llama.demo) return undefined;
  const path = places.map((place) => fileURLToPath(new URL(place, import.meta.url))).find((file) => existsSync(file));
  if (path === undefined) return undefined;
  const configured = Object.values(providers).some(({ assumed }) => assumed !== true);
  return { path, listing: llama.demo ? "always" : configured ? "never" : "alone" };
}
