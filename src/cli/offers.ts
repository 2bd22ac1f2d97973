import type { Config } from "../config/schema.ts";
import type { Provider } from "../core/provider.ts";
import { plainText } from "./command.ts";

/** What one provider offers at the start. */
export interface Offer {
  readonly name: string;
  /** Its addresses, or the engine's model file or folder. */
  readonly where: string;
  /** Ids of the models that can be asked. */
  readonly models: readonly string[];
  /** Why it, or some of its models, cannot be asked now. */
  readonly problem?: string;
}

/** What every provider offers; one that does not tell within `probe` milliseconds is said to be silent. */
export function askOffers(
  providers: readonly Provider[],
  whereOf: (provider: string) => string,
  probe: number,
): Promise<Offer[]> {
  return Promise.all(providers.map((provider) => askOffer(provider, whereOf(provider.name), probe)));
}

/** The lines that a person sees when the server is ready; labels in one column. */
export function offerLines(
  offers: readonly Offer[],
  config: Config,
  { file, asksForKey }: { readonly file: string | undefined; readonly asksForKey: boolean },
): string[] {
  const first = offers.find(({ name }) => name === config.defaultProvider)?.models[0];
  const rows: [label: string, text: string][] = offers.map((offer) => [offer.name, offerText(offer)]);
  rows.push(["default model", first ?? `none: ${config.defaultProvider} offers no model now`]);
  rows.push(["configuration", file ?? "defaults, environment and flags (no lair.yaml)"]);
  rows.push(["keys", keysText(config, asksForKey)]);
  const width = Math.max(...rows.map(([label]) => label.length));
  return [
    ...rows.map(([label, text]) => `  ${label.padEnd(width)}   ${plainText(text)}`),
    "",
    ...nextStep(offers, config).map((line) => `  ${line}`),
  ];
}

/** What to do next while there is no model, or none but the demo; nothing otherwise. */
export function nextStep(offers: readonly Offer[], { llama }: Config): string[] {
  const others = offers.some(({ name, models }) => name !== "llama_cpp" && models.length > 0);
  if (llama.model !== undefined || others) return [];
  const own = offers.flatMap(({ models }) => models);
  if (own.some((model) => model !== "demo")) return [];
  const demo = own.length > 0;
  const state = demo ? "Only the built-in demo model is there, for trying the connection" : "There is no model yet";
  return [
    `${state}. For real answers, one of:`,
    "  lair pull hf:Qwen/Qwen3-8B-GGUF (then start again)",
    "  LLAMA_CPP_MODEL=<a .gguf file, or a folder of them>",
    "  OLLAMA_HOST=http://127.0.0.1:11434",
  ];
}

async function askOffer(provider: Provider, where: string, probe: number): Promise<Offer> {
  const limit = AbortSignal.timeout(probe);
  const late = new Promise<never>((_, reject) => {
    limit.addEventListener("abort", () => reject(new Error("no answer yet")), { once: true });
  });
  try {
    // Some servers' lists are constants: only their health tells whether they are there.
    const [models, health] = await Promise.race([Promise.all([provider.models(limit), provider.health(limit)]), late]);
    const failed = models.find(({ state }) => state === "failed");
    const problem = health.ok ? failed && `${failed.id}: ${failed.problem ?? "cannot be loaded"}` : health.detail;
    const able = health.ok ? models.filter(({ state }) => state !== "failed").map(({ id }) => id) : [];
    return { name: provider.name, where, models: able, ...(problem === undefined ? {} : { problem }) };
  } catch (error) {
    return { name: provider.name, where, models: [], problem: error instanceof Error ? error.message : String(error) };
  }
}

/** One line about it: where it is, what it offers, what is wrong. */
export function offerText({ where, models, problem }: Offer): string {
  const [only = ""] = models;
  const count = models.length === 1 ? only : `${models.length} models`;
  if (problem === undefined) return `${where}: ${models.length === 0 ? "no models" : count}`;
  if (models.length > 0) return `${where}: ${count}; ${problem}`;
  return problem.includes(where) ? problem : `${where}: ${problem}`;
}

function keysText({ auth, listen, insecure }: Config, asked: boolean): string {
  if (auth.keys.length > 0) return `${auth.keys.length} (callers send one as a Bearer token)`;
  if (asked) return "callers send one as a Bearer token";
  return insecure ? `none: whoever reaches ${listen.host} may use the models` : "none needed on this machine";
}
