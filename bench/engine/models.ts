import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { type GgufContent, writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { randomBert, randomDecoder } from "../../test/support/gguf.ts";
import { cacheFolder } from "../support/native.ts";

/** Tokens of the generated decoder's vocabulary. */
export const vocabulary = 151_936;

/** Qwen2.5-0.5B's shape with random weights: 24 layers, width 896, Q4_0, embeddings Q8_0; 351 MB. Returns its path. */
export function decoderFile(): string {
  return made("qwen2-0.5b-random", () =>
    randomDecoder({
      architecture: "qwen2",
      layers: 24,
      width: 896,
      headSize: 64,
      keyValueHeads: 2,
      feedForward: 4864,
      vocabulary,
      type: "q4_0",
      embeddingType: "q8_0",
      contextLength: 32_768,
    }),
  );
}

/** The shape of a small BERT (6 layers, width 384) with random F16 weights; mean pooling. Returns its path. */
export function bertFile(): string {
  return made("bert-small-random", () => randomBert({ layers: 6, width: 384, heads: 12, feedForward: 1536 }));
}

/** Made once; kept between runs. */
function made(name: string, content: () => GgufContent): string {
  const path = join(cacheFolder, `${name}.gguf`);
  if (existsSync(path)) return path;
  mkdirSync(cacheFolder, { recursive: true });
  console.log(`making ${name}.gguf`);
  writeGguf(`${path}.part`, content());
  renameSync(`${path}.part`, path);
  return path;
}
