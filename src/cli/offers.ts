import type { Config } from "../config/schema.ts";
import type { Environment } from "../config/environment.ts";
import { demoOwner, listedOf, type Model } from "../core/model.ts";
import type { Provider } from "../core/provider.ts";
import { plainText } from "./command.ts";
import { demoText, modelWays, wrap } from "./demo-text.ts";

/** What one provider offers at the start. */
export interface Offer {
  readonly name: string;
  /** Its addresses, or the engine's model file or folder. */
  readonly where: string;
  /** Ids of the models that can be asked. */
  readonly models: readonly string[];
  /** The built-in demo model, where it is one of them. */
  readonly demo?: Model;
  /** Why it, or some of its models, cannot be asked now. */
  readonly problem?: string;
}

/** What to know and do next. */
export interface NextStep {
  readonly text: string;
  /** Ways to a model, a line each. */
  readonly ways: readonly string[];
}

/** What every provider offers; one that does not tell within `probe` milliseconds is said to be silent. */
export async function askOffers(
  providers: readonly Provider[],
  whereOf: (provider: string) => string,
  probe: number,
): Promise<Offer[]> {
  const answers = await Promise.all(providers.map((provider) => askProvider(provider, probe)));
  const listed = new Set(
    listedOf(
      answers.flatMap(({ models }) => models),
      ({ listing }) => listing,
    ),
  );
  return answers.map(({ name, models, up, problem }) => {
    // Some servers' lists are constants: only their health tells whether they are there.
    const able = up ? models.filter((model) => listed.has(model) && model.state !== "failed") : [];
    const demo = able.find(({ ownedBy }) => ownedBy === demoOwner);
    return {
      name,
      where: whereOf(name),
      models: able.map(({ id }) => id),
      ...(demo === undefined ? {} : { demo }),
      ...(problem === undefined ? {} : { problem }),
    };
  });
}

/** What else is said beside the offers. */
export interface OfferNotes {
  /** The configuration's file. */
  readonly file: string | undefined;
  readonly asksForKey: boolean;
  readonly env: Environment;
}

/** The lines that a person sees when the server is ready; labels in one column. */
export function offerLines(offers: readonly Offer[], config: Config, { file, asksForKey, env }: OfferNotes): string[] {
  const rows: [label: string, text: string][] = offers.map((offer) => [offer.name, offerText(offer)]);
  rows.push(["default model", defaultText(offers, config)]);
  rows.push(["configuration", file ?? "defaults, environment and flags (no lair.yaml)"]);
  rows.push(["keys", keysText(config, asksForKey)]);
  const width = Math.max(...rows.map(([label]) => label.length));
  return [
    ...rows.map(([label, text]) => `  ${label.padEnd(width)}   ${plainText(text)}`),
    "",
    ...nextStepLines(nextStep(offers, config, env)).map((line) => `  ${line}`),
  ];
}

/** The model that stands for the default provider's; where it has none, how another provider's are named. */
function defaultText(offers: readonly Offer[], { defaultProvider }: Config): string {
  const [first] = offers.find(({ name }) => name === defaultProvider)?.models ?? [];
  if (first !== undefined) return first;
  const other = offers.find(({ models }) => models.length > 0);
  const hint =
    other === undefined
      ? ""
      : `; name one in full, e.g. ${other.name}:${other.models[0]}, or set RUNTIME_PROVIDER=${other.name}`;
  return `none: ${defaultProvider} offers no model now${hint}`;
}

function nextStepLines(step: NextStep | undefined): string[] {
  return step === undefined ? [] : [...wrap(step.text), ...step.ways.map((way) => `  ${way}`)];
}

/** What to know and do while there is no model, or the built-in demo is among those offered; undefined otherwise. */
export function nextStep(offers: readonly Offer[], config: Config, env: Environment): NextStep | undefined {
  const { llama, providers, defaultProvider } = config;
  const models = offers.flatMap((offer) => offer.models);
  const [demo] = offers.flatMap((offer) => (offer.demo === undefined ? [] : [{ ...offer.demo, provider: offer.name }]));
  const ways = modelWays(env);
  if (demo !== undefined) {
    const name = demo.provider === defaultProvider ? demo.id : `${demo.provider}:${demo.id}`;
    const text = demoText(name, demo.weights);
    return models.length > 1 ? { text, ways: [] } : { text: `${text} For real answers, one of:`, ways };
  }
  if (models.length > 0 || llama.model !== undefined) return undefined;
  const named = Object.values(providers).some(({ assumed }) => assumed !== true);
  return { text: `${named ? "No provider offers a model now" : "There is no model yet"}. To have one, one of:`, ways };
}

interface Answer {
  readonly name: string;
  /** All, also those that are not listed. */
  readonly models: readonly Model[];
  readonly up: boolean;
  readonly problem?: string | undefined;
}

async function askProvider(provider: Provider, probe: number): Promise<Answer> {
  const limit = AbortSignal.timeout(probe);
  const late = new Promise<never>((_, reject) => {
    limit.addEventListener("abort", () => reject(new Error("no answer yet")), { once: true });
  });
  const { name } = provider;
  try {
    const [models, health] = await Promise.race([Promise.all([provider.models(limit), provider.health(limit)]), late]);
    const failed = models.find(({ state }) => state === "failed");
    const problem = health.ok ? failed && `${failed.id}: ${failed.problem ?? "cannot be loaded"}` : health.detail;
    return { name, models, up: health.ok, problem };
  } catch (error) {
    return { name, models: [], up: false, problem: error instanceof Error ? error.message : String(error) };
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
