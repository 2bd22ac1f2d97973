import { LlamaEngine } from "../../src/engines/llama/engine.ts";
import { chatRequest } from "./chat-request.ts";

// A program with a loaded model: prints the process id of its child, then waits to be killed.
const [model = ""] = process.argv.slice(2);
const engine = new LlamaEngine("llama_cpp", { model, threads: 1, contextLength: 256 });
for await (const event of engine.chat(chatRequest("orphan", "Hi"), new AbortController().signal)) void event;
console.log(engine.processes()[0]?.pid);
setInterval(() => undefined, 1000);
