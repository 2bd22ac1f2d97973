import { affinity } from "../core/affinity.ts";
import type { Demand } from "../core/demand.ts";
import type { Model } from "../core/model.ts";
import type { Backend } from "./backend.ts";

/** Upstreams that answer for the same model by the same name: any of them will do. */
export interface Stage {
  /** The name there. */
  readonly model: string;
  readonly backends: readonly Backend[];
}

/** Where a call may go. */
export interface RouteTarget {
  readonly backend: Backend;
  /** The name there. */
  readonly model: string;
}

export interface Planning {
  /** In the order of preference. */
  readonly stages: readonly Stage[];
  /** The conversation that the call belongs to, if it tells: whoever had it before has its beginning in a cache. */
  readonly session: string | undefined;
  readonly demand: Demand | undefined;
}

/** Shares the calls of the same upstreams out by weight. */
export class Planner {
  readonly #rotations = new Map<string, Rotation>();

  /**
   * Where a call goes first, and where next: stage by stage, in each by weight or by session; who cannot do what it asks
   * for is left out where another can, and who is unwell or wants to be left alone comes last.
   */
  plan({ stages, session, demand }: Planning): RouteTarget[] {
    const [stage] = stages;
    if (stages.length === 1 && stage?.backends.length === 1)
      return [{ backend: stage.backends[0] as Backend, model: stage.model }];
    const all = stages.flatMap(({ model, backends }) =>
      this.#inOrder(backends, session).map((backend) => ({ backend, model })),
    );
    const able = demand === undefined ? all : all.filter((target) => suits(cardOf(target), demand));
    const chosen = able.length > 0 ? able : all;
    return chosen.toSorted((one, other) => rank(one.backend) - rank(other.backend));
  }

  #inOrder(backends: readonly Backend[], session: string | undefined): readonly Backend[] {
    if (backends.length < 2) return backends;
    if (session !== undefined) return backends.toSorted((one, other) => score(session, other) - score(session, one));
    // Who gets no calls now has no turn that it could miss.
    const here = backends.filter((backend) => rank(backend) === 0);
    if (here.length === 0) return backends;
    return [...this.#rotation(here).next(), ...backends.filter((backend) => !here.includes(backend))];
  }

  #rotation(backends: readonly Backend[]): Rotation {
    const key = backends.map(({ name }) => name).join(" ");
    let rotation = this.#rotations.get(key);
    if (rotation === undefined) {
      rotation = new Rotation(backends);
      this.#rotations.set(key, rotation);
    }
    return rotation;
  }
}

/** Whether a model is known to have what the call asks for; one of whom nothing is known may have it. */
export function suits(model: Model | undefined, { promptTokens, outputTokens = 0, tools, images }: Demand): boolean {
  if (model === undefined) return true;
  const { contextLength, capabilities } = model;
  if ((tools && !capabilities.tools) || (images && !capabilities.vision)) return false;
  // An answer rarely takes all that it may: for its sake alone nobody is left out who has a quarter of the window for it.
  return contextLength === undefined || promptTokens + Math.min(outputTokens, contextLength / 4) <= contextLength;
}

/** What the target's upstream says of the model. */
export function cardOf({ backend, model }: RouteTarget): Model | undefined {
  return backend.list.find(model);
}

/** 0: it may be chosen; the higher, the later. */
function rank(backend: Backend): number {
  if (!backend.breaker.passable) return 3;
  if (!backend.healthy) return 2;
  return backend.avoided ? 1 : 0;
}

function score(session: string, { name, weight }: Backend): number {
  return affinity(session, name, weight);
}

/** Turns by weight, spread evenly: of 2 and 1, a b a and not a a b (nginx's smooth weighted round robin). */
class Rotation {
  readonly #places: { readonly backend: Backend; current: number }[];
  readonly #total: number;

  constructor(backends: readonly Backend[]) {
    this.#places = backends.map((backend) => ({ backend, current: 0 }));
    this.#total = backends.reduce((sum, { weight }) => sum + weight, 0);
  }

  /** Whose turn it is, and who would be next if that one could not. */
  next(): Backend[] {
    for (const place of this.#places) place.current += place.backend.weight;
    const order = this.#places.toSorted((one, other) => other.current - one.current);
    if (order[0] !== undefined) order[0].current -= this.#total;
    return order.map(({ backend }) => backend);
  }
}
