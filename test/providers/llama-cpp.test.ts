import { fromEngine } from "../../src/dialects/translate.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { startEngine, writeModel } from "../support/llama.ts";
import { providerContract } from "./contract.ts";

const model = writeModel("hello.gguf", scriptedModel({ scripts: [{ after: "\n", say: "Hello" }] }));
// Loaded once for all tests; the support file closes it.
const provider = { ...fromEngine(startEngine({ model })), close: (): Promise<void> => Promise.resolve() };

providerContract("llama_cpp", {
  model: "hello",
  start: () => Promise.resolve({ provider }),
  tooLong: "word ".repeat(5000),
});
