import { readFileSync, statSync } from "node:fs";
import { parseArgs } from "node:util";
import { type GgufContent, type TensorType, writeGguf } from "../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../src/engines/gguf/scripted-model.ts";
import { randomBert, randomDecoder } from "../test/support/gguf.ts";

// Writes small GGUF models for tests and benches: tsx scripts/make-gguf.ts <preset> <out.gguf> [options].
const usage = `presets: llama, qwen2, embed-decoder, bert, rerank, scripted
options: --layers N --width N --vocabulary N --type f16|q8_0|q4_0 --context N --seed N --template FILE
         --say TEXT --after TOKEN   (scripted; both may be given several times)`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    layers: { type: "string" },
    width: { type: "string" },
    vocabulary: { type: "string" },
    type: { type: "string" },
    context: { type: "string" },
    seed: { type: "string" },
    template: { type: "string" },
    say: { type: "string", multiple: true },
    after: { type: "string", multiple: true },
  },
});
const [preset, path] = positionals;
if (preset === undefined || path === undefined) {
  console.error(usage);
  process.exit(2);
}
writeGguf(path, build(preset));
console.log(`${path}: ${(statSync(path).size / 1e6).toFixed(1)} MB`);

function build(name: string): GgufContent {
  const number = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));
  const given = {
    layers: number(values.layers),
    width: number(values.width),
    vocabulary: number(values.vocabulary),
    contextLength: number(values.context),
    seed: number(values.seed),
    type: values.type as TensorType | undefined,
    template: values.template === undefined ? undefined : readFileSync(values.template, "utf8"),
  };
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  switch (name) {
    case "llama":
    case "qwen2":
      return randomDecoder({ architecture: name, ...options });
    case "embed-decoder":
      return randomDecoder({ architecture: "qwen2", pooling: 3, ...options });
    case "bert":
    case "rerank":
      return randomBert({ rank: name === "rerank", ...options });
    case "scripted": {
      const after = values.after ?? [];
      const scripts = (values.say ?? ["Hello."]).map((say, index) => ({ after: after[index] ?? "\n", say }));
      const specials = after.filter((token) => token.length > 1);
      return scriptedModel({ scripts, specials: [...new Set(specials)], ...options });
    }
    default:
      console.error(`unknown preset ${name}\n${usage}`);
      return process.exit(2);
  }
}
