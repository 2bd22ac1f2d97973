/** The samplers of llama.cpp, by the names that llama-server has for them, in its order. */
export const samplerNames = [
  "penalties",
  "dry",
  "top_n_sigma",
  "top_k",
  "typ_p",
  "top_p",
  "min_p",
  "xtc",
  "temperature",
] as const;
export type SamplerName = (typeof samplerNames)[number];

/** Other spellings that llama.cpp takes (common_sampler_types_from_names), and the letters of its short form (`"edskypmxt"`). */
const spellings: Readonly<Record<string, SamplerName>> = {
  ...Object.fromEntries(samplerNames.map((name) => [name, name])),
  ...Object.fromEntries([..."edskypmxt"].map((letter, index) => [letter, samplerNames[index] as SamplerName])),
  typical_p: "typ_p",
  typical: "typ_p",
  typ: "typ_p",
  nucleus: "top_p",
  temp: "temperature",
};

/** The sampler that a name means, with dashes or underscores; undefined for none that is known here. */
export function findSampler(name: string): SamplerName | undefined {
  const key = name.replaceAll("-", "_");
  return Object.hasOwn(spellings, key) ? spellings[key] : undefined;
}
