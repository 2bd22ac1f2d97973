import { isObject, type Json } from "../../core/json.ts";

const mostNodes = 100_000;

/** Why a reference leads nowhere. */
export class UnknownReference extends Error {}

/** A JSON Schema with its inner addresses: pointers, `$anchor`, `$id`. */
export class SchemaDocument {
  readonly root: Json;
  #named: Map<string, Json> | null = null;

  constructor(root: Json) {
    this.root = root;
  }

  /** What a `$ref` names. Throws `UnknownReference`. */
  resolve(reference: string): Json {
    if (reference === "#" || reference === "") return this.root;
    if (reference.startsWith("#/")) return this.#follow(reference);
    const named = this.#names().get(reference.startsWith("#") ? reference.slice(1) : reference);
    if (named !== undefined) return named;
    const [id = "", pointer] = reference.split("#", 2);
    const base = this.#names().get(id);
    if (base !== undefined && pointer !== undefined) return new SchemaDocument(base).resolve(`#${pointer}`);
    if (reference.startsWith("#")) throw new UnknownReference(`refers to ${shown(reference)}, which it does not hold`);
    throw new UnknownReference(`refers to another document, ${shown(reference)}: put its definitions under $defs`);
  }

  #follow(reference: string): Json {
    let target: Json | undefined = this.root;
    for (const step of reference.slice(2).split("/")) {
      const key = decoded(step).replaceAll("~1", "/").replaceAll("~0", "~");
      if (Array.isArray(target)) target = target[Number(key)];
      else if (isObject(target) && Object.hasOwn(target, key)) target = target[key];
      else target = undefined;
      if (target === undefined) throw new UnknownReference(`refers to ${shown(reference)}, which it does not hold`);
    }
    return target;
  }

  #names(): Map<string, Json> {
    if (this.#named !== null) return this.#named;
    const named = new Map<string, Json>();
    const pending: Json[] = [this.root];
    for (let index = 0; index < pending.length && index < mostNodes; index++) {
      const node = pending[index];
      if (isObject(node)) {
        for (const key of ["$anchor", "$dynamicAnchor", "$id", "id"]) {
          const name = node[key];
          if (typeof name === "string" && !named.has(name)) named.set(name.replace(/^#|#$/g, ""), node);
        }
      }
      if (typeof node === "object" && node !== null) {
        for (const inner of Object.values(node)) if (inner !== undefined) pending.push(inner);
      }
    }
    this.#named = named;
    return named;
  }
}

function decoded(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

function shown(reference: string): string {
  return reference.length > 80 ? `${reference.slice(0, 80)}…` : reference;
}
