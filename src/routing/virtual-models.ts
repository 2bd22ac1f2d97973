/** Where a model is asked for: at that upstream, or, where none is named, at any that lists it. */
export interface Aim {
  readonly upstream: string | undefined;
  readonly model: string;
}

/** A name with an upstream before it; undefined when it has none. */
export function toAim(name: string, upstreams: { has(name: string): boolean }): Aim | undefined {
  const slash = name.indexOf("/");
  if (slash <= 0 || slash === name.length - 1 || !upstreams.has(name.slice(0, slash))) return undefined;
  return { upstream: name.slice(0, slash), model: name.slice(slash + 1) };
}

/**
 * Virtual models with what answers for them in the end, in order, each once: a target that is a virtual model stands for
 * that one's targets. Throws `Error` for a name that an upstream's models would hide, and for a circle, with its path.
 */
export function resolveTargets(
  models: Readonly<Record<string, readonly string[]>>,
  upstreams: ReadonlySet<string>,
): ReadonlyMap<string, readonly Aim[]> {
  const given = new Map(Object.entries(models));
  const resolved = new Map<string, readonly Aim[]>();
  for (const name of given.keys()) {
    const own = toAim(name, upstreams);
    if (own !== undefined)
      throw new Error(
        `gateway.models: "${name}" cannot be a model of the gateway's own, for what begins with "${own.upstream}/" is the upstream's; take a name without it`,
      );
    resolve(name, [], { given, resolved, upstreams });
  }
  return resolved;
}

interface Resolving {
  readonly given: ReadonlyMap<string, readonly string[]>;
  readonly resolved: Map<string, readonly Aim[]>;
  readonly upstreams: ReadonlySet<string>;
}

function resolve(name: string, path: readonly string[], resolving: Resolving): readonly Aim[] {
  const known = resolving.resolved.get(name);
  if (known !== undefined) return known;
  if (path.includes(name)) {
    const circle = [...path.slice(path.indexOf(name)), name].map((one) => `"${one}"`).join(" → ");
    throw new Error(`gateway.models: targets lead in a circle: ${circle}`);
  }
  const aims = new Map<string, Aim>();
  for (const target of resolving.given.get(name) ?? []) {
    const found = resolving.given.has(target)
      ? resolve(target, [...path, name], resolving)
      : [toAim(target, resolving.upstreams) ?? { upstream: undefined, model: target }];
    for (const aim of found) aims.set(`${aim.upstream ?? ""}/${aim.model}`, aim);
  }
  const list = [...aims.values()];
  resolving.resolved.set(name, list);
  return list;
}
