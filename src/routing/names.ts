import { ApiError } from "../core/errors.ts";
import { nearNames } from "../core/near-names.ts";
import type { Backend } from "./backend.ts";
import type { Stage } from "./plan.ts";
import { type Aim, resolveTargets, toAim } from "./virtual-models.ts";

/** Milliseconds: unknown names do not make the upstreams list their models more often than this. */
const listAge = 2000;

/** What the names of models mean. */
export class Names {
  readonly backends: ReadonlyMap<string, Backend>;
  /** Virtual models with what answers for them. */
  readonly virtual: ReadonlyMap<string, readonly Aim[]>;

  /** Throws `Error` for virtual models that lead in a circle. */
  constructor(backends: readonly Backend[], models: Readonly<Record<string, readonly string[]>>) {
    this.backends = new Map(backends.map((backend) => [backend.name, backend]));
    this.virtual = resolveTargets(models, new Set(this.backends.keys()));
  }

  /**
   * Where a name leads: a virtual model to its targets, `upstream/model` to that upstream, any other name to the upstreams
   * that list it, or to the only one there is; empty: nowhere.
   */
  find(name: string): readonly Stage[] {
    const aims = this.virtual.get(name) ?? [toAim(name, this.backends) ?? { upstream: undefined, model: name }];
    return aims.flatMap((aim) => this.#stage(aim));
  }

  /** The same; a name that leads nowhere is looked for once more in lists that are fresh. Throws `model_not_found`, or `service_unavailable` where an upstream never told. */
  async resolve(name: string, allows?: (name: string) => boolean): Promise<readonly Stage[]> {
    const found = this.find(name);
    if (found.length > 0) return found;
    await Promise.all([...this.backends.values()].map(({ list }) => list.refresh(listAge)));
    const now = this.find(name);
    if (now.length > 0) return now;
    throw this.notFound(name, allows);
  }

  #stage({ upstream, model }: Aim): Stage[] {
    const named = upstream === undefined ? undefined : this.backends.get(upstream);
    if (named !== undefined) return [{ model, backends: [named] }];
    const all = [...this.backends.values()];
    const listing = all.length === 1 ? all : all.filter(({ list }) => list.find(model) !== undefined);
    return listing.length === 0 ? [] : [{ model, backends: listing }];
  }

  /** The error for a name that leads nowhere; of the names that there are, those are told that the caller may use. */
  notFound(name: string, allows: (name: string) => boolean = () => true): ApiError {
    const all = [...this.backends.values()];
    const shown = name.slice(0, 200);
    if (all.length === 0)
      return new ApiError(
        "service_unavailable",
        "this gateway has no upstream; give it one: lair gateway --upstream http://127.0.0.1:8081",
      );
    const silent = all.filter(({ list }) => !list.known);
    if (silent.length > 0)
      return new ApiError(
        "service_unavailable",
        `nobody who is here lists the model '${shown}', and ${silent.map((one) => `'${one.name}'`).join(", ")} cannot be asked now`,
        { retryAfter: 2 },
      );
    if (this.virtual.has(name))
      return new ApiError("model_not_found", `no upstream lists any of the targets of the model '${shown}' now`, {
        param: "model",
      });
    const known = [...this.virtual.keys(), ...all.flatMap(({ list }) => list.models.map(({ id }) => id))];
    return new ApiError(
      "model_not_found",
      `the model '${shown}' does not exist; ${nearNames(name, known.filter(allows))}`,
      {
        param: "model",
      },
    );
  }
}
