import { LlamaEngine } from "../../src/engines/llama/engine.ts";
import { chatRequest } from "./chat-request.ts";

// A program whose model reads a long prompt: prints the process id of its child while it does, then waits to be killed.
const [model = ""] = process.argv.slice(2);
const engine = new LlamaEngine("llama_cpp", { model, threads: 1, contextLength: 32_768, ubatchSize: 512 });
const request = chatRequest("reader", "quick brown foxes ".repeat(1900), { maxTokens: 1 });
for await (const event of engine.chat(request, new AbortController().signal)) {
  if (event.type === "progress" && event.phase === "prefill") console.log(engine.processes()[0]?.pid);
}
