import type { JsonObject } from "../core/json.ts";
import { type Capabilities, chatModel, type Model } from "../core/model.ts";
import { encodeLimits, encodeModel } from "../dialects/model-card.ts";
import type { Backend } from "./backend.ts";
import type { Names } from "./names.ts";
import type { Stage } from "./plan.ts";

/** The cards of all models, each name once: the gateway's own first, the others as the first of their upstreams shows them. */
export function listCards(names: Names): JsonObject[] {
  const cards = new Map<string, JsonObject>();
  for (const name of names.virtual.keys()) cards.set(name, virtualCard(names, name));
  for (const backend of names.backends.values()) {
    for (const model of backend.list.models) {
      const known = cards.get(model.id);
      if (known === undefined) cards.set(model.id, { ...toCard(model, backend), upstreams: [backend.name] });
      else if (!names.virtual.has(model.id)) (known.upstreams as string[]).push(backend.name);
    }
  }
  return [...cards.values()];
}

/** The card of a model under any name by which calls reach it; undefined: nobody lists it. */
export function findCard(names: Names, name: string): JsonObject | undefined {
  if (names.virtual.has(name)) return virtualCard(names, name);
  const listed = names.find(name).flatMap(listedAt);
  const [first] = listed;
  if (first === undefined) return undefined;
  return { ...toCard(first.model, first.backend), id: name, upstreams: listed.map(({ backend }) => backend.name) };
}

interface Listed {
  readonly backend: Backend;
  readonly model: Model;
}

function listedAt({ model, backends }: Stage): Listed[] {
  return backends.flatMap((backend) => {
    const found = backend.list.find(model);
    return found === undefined ? [] : [{ backend, model: found }];
  });
}

/** As its server shows it, with what the gateway's owner knows better. */
function toCard(model: Model, { provider }: Backend): JsonObject {
  const { card, id, contextLength, maxOutput } = model;
  if (card === undefined) return encodeModel(model, { name: id, provider: provider.name, kind: provider.kind });
  return { ...card, id, ...encodeLimits({ contextLength, maxOutput }) };
}

/**
 * Its limits are the smallest of its targets', so that what fits is sure of an answer whoever gives it; a skill that one
 * of them has, it has, for calls go to whoever can.
 */
function virtualCard(names: Names, name: string): JsonObject {
  const aims = names.virtual.get(name) ?? [];
  const models = names.find(name).flatMap(listedAt);
  const model: Model = {
    id: name,
    state: models.length === 0 ? "failed" : "available",
    ...(models.length === 0 ? { problem: "no upstream lists any of its targets now" } : {}),
    capabilities: skills(models.map((listed) => listed.model.capabilities)),
    ...smallest("contextLength", models),
    ...smallest("maxOutput", models),
  };
  return {
    ...encodeModel(model, { name, provider: "gateway", kind: "gateway" }),
    targets: aims.map((aim) => (aim.upstream === undefined ? aim.model : `${aim.upstream}/${aim.model}`)),
    upstreams: [...new Set(models.map(({ backend }) => backend.name))],
  };
}

function skills(all: readonly Capabilities[]): Capabilities {
  const [first = chatModel] = all;
  const merged = { ...first };
  for (const skill of Object.keys(merged) as (keyof Capabilities)[]) merged[skill] ||= all.some((one) => one[skill]);
  return merged;
}

function smallest(limit: "contextLength" | "maxOutput", models: readonly Listed[]): Partial<Model> {
  const known = models.flatMap(({ model }) => model[limit] ?? []);
  return known.length === 0 ? {} : { [limit]: Math.min(...known) };
}
