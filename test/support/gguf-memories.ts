import type { GgufContent, GgufValue, Tensor } from "../../src/engines/gguf/gguf-writer.ts";
import { Random, ones, randomDecoder, zeros } from "./gguf.ts";

/** A decoder of random weights, every other layer of which looks back on no more than `window` tokens. */
export function slidingDecoder(window: number): GgufContent {
  const base = randomDecoder({ architecture: "llama", layers: 4 });
  const width = 128;
  const metadata = renamed(base.metadata, "llama", "gemma2");
  metadata.set("gemma2.attention.sliding_window", { type: "u32", value: window });
  metadata.set("gemma2.attention.key_length", { type: "u32", value: 32 });
  metadata.set("gemma2.attention.value_length", { type: "u32", value: 32 });
  const norms = [0, 1, 2, 3].flatMap((layer) => [
    ones(`blk.${layer}.post_attention_norm.weight`, width),
    ones(`blk.${layer}.post_ffw_norm.weight`, width),
  ]);
  return { metadata, tensors: [...base.tensors, ...norms] };
}

/** A decoder of random weights that remembers what it read in a state of fixed size: Mamba. */
export function recurrentDecoder(): GgufContent {
  const base = randomDecoder({ architecture: "llama" });
  const [width, inner, state, rank] = [128, 256, 16, 8];
  const metadata = renamed(base.metadata, "llama", "mamba");
  const numbers = {
    feed_forward_length: 0,
    "attention.head_count": 0,
    "attention.head_count_kv": 0,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": inner,
    "ssm.state_size": state,
    "ssm.time_step_rank": rank,
  };
  for (const [key, value] of Object.entries(numbers)) metadata.set(`mamba.${key}`, { type: "u32", value });
  const random = new Random(3);
  const tensors: Tensor[] = base.tensors.filter(({ name }) => !name.startsWith("blk."));
  for (let layer = 0; layer < 2; layer++) {
    const name = (part: string): string => `blk.${layer}.${part}`;
    tensors.push(
      ones(name("attn_norm.weight"), width),
      random.tensor(name("ssm_in.weight"), "f32", [width, 2 * inner], 0.12),
      random.tensor(name("ssm_conv1d.weight"), "f32", [4, inner], 0.3),
      zeros(name("ssm_conv1d.bias"), inner),
      random.tensor(name("ssm_x.weight"), "f32", [inner, rank + 2 * state], 0.12),
      random.tensor(name("ssm_dt.weight"), "f32", [rank, inner], 0.12),
      zeros(name("ssm_dt.bias"), inner),
      decay(name("ssm_a"), state, inner),
      ones(name("ssm_d"), inner),
      random.tensor(name("ssm_out.weight"), "f32", [inner, width], 0.12),
    );
  }
  return { metadata, tensors };
}

/** Rates at which a state fades: all negative. */
function decay(name: string, state: number, inner: number): Tensor {
  const rates = Float32Array.from({ length: state * inner }, (_, index) => -0.02 * (1 + (index % state)));
  return { name, type: "f32", shape: [state, inner], fill: () => Buffer.from(rates.buffer) };
}

function renamed(metadata: ReadonlyMap<string, GgufValue>, from: string, to: string): Map<string, GgufValue> {
  const entries = [...metadata].map(([key, value]): [string, GgufValue] => [
    key.startsWith(`${from}.`) ? `${to}${key.slice(from.length)}` : key,
    value,
  ]);
  return new Map([...entries, ["general.architecture", { type: "string", value: to }]]);
}
