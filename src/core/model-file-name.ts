const shardName = /^(.*)-(\d{5})-of-(\d{5})$/;
const quantizationName = /(?:^|[-._])((?:UD-)?I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|BF16|FP?16|FP?32|MXFP4(?:_MOE)?|NVFP4)$/i;

/** Which shard of how many a file name says it is; null for a whole model's. */
export function shardOf(name: string): { readonly stem: string; readonly number: number; readonly of: string } | null {
  const found = shardName.exec(withoutEnding(name));
  return found === null ? null : { stem: found[1] ?? "", number: Number(found[2]), of: found[3] ?? "" };
}

/** A file name (or path) without `.gguf` and without the number of its shard. */
export function stemOf(name: string): string {
  return shardOf(name)?.stem ?? withoutEnding(name);
}

/** The quantisation that a stem ends in, e.g. `Q4_K_M`, in capitals; null when it names none. */
export function quantizationOf(stem: string): string | null {
  return quantizationName.exec(stem)?.[1]?.toUpperCase() ?? null;
}

/** Whether a file is a projector for images, by the name that llama.cpp's converter gives those. */
export function isProjector(name: string): boolean {
  return /(^|[-._])mmproj([-._]|$)/i.test(withoutEnding(name));
}

/** What a model and its projector have in common: the name without quantisation, `mmproj`, `model` and punctuation. */
export function baseNameOf(name: string): string {
  const stem = stemOf(name);
  const quantization = quantizationName.exec(stem);
  return (quantization === null ? stem : stem.slice(0, quantization.index))
    .toLowerCase()
    .replace(/(^|[-._])(mmproj|model)(?=[-._]|$)/g, "")
    .replace(/[^a-z0-9]/g, "");
}

function withoutEnding(name: string): string {
  return name.replace(/\.gguf$/i, "");
}
