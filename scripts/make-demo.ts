import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { writeGguf } from "../src/engines/gguf/gguf-writer.ts";
import { chatmlTemplate, scriptedModel } from "../src/engines/gguf/scripted-model.ts";

const answer =
  "This is the demo: llama.cpp runs here on a tiny scripted GGUF that always says this. " +
  "Set LLAMA_CPP_MODEL to a GGUF file or folder, or OLLAMA_HOST, to talk to a real model.";

/** Writes the model of the first run, about 0.6 MB: the same bytes every time. */
export function writeDemoModel(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeGguf(path, scriptedModel({ name: "demo", template: chatmlTemplate, scripts: [{ after: "\n", say: answer }] }));
}
