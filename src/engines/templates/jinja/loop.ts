import { TemplateError } from "./budget.ts";
import { type Arguments, Attributes, type Callable, type Value, isEqual } from "./values.ts";

/** The variable `loop` inside `{% for %}`. */
export class Loop extends Attributes {
  readonly #items: readonly Value[];
  readonly #depth: number;
  /** Runs the loop's body over other items; null unless the loop is recursive. */
  readonly again: Callable | null;
  index = 0;
  #last: readonly Value[] | undefined;

  constructor(items: readonly Value[], depth: number, again: Callable | null) {
    super();
    this.#items = items;
    this.#depth = depth;
    this.again = again;
  }

  override get(name: string): Value {
    const { length } = this.#items;
    switch (name) {
      case "index":
        return this.index + 1;
      case "index0":
        return this.index;
      case "revindex":
        return length - this.index;
      case "revindex0":
        return length - this.index - 1;
      case "first":
        return this.index === 0;
      case "last":
        return this.index === length - 1;
      case "length":
        return length;
      case "depth":
        return this.#depth + 1;
      case "depth0":
        return this.#depth;
      case "previtem":
        return this.index === 0 ? undefined : this.#items[this.index - 1];
      case "nextitem":
        return this.#items[this.index + 1];
      case "cycle":
        return (given) => this.#cycle(given);
      case "changed":
        return (given) => this.#changed(given);
    }
    return undefined;
  }

  #cycle({ positional }: Arguments): Value {
    if (positional.length === 0) throw new TemplateError("loop.cycle needs items");
    return positional[this.index % positional.length];
  }

  #changed({ positional }: Arguments): boolean {
    const last = this.#last;
    this.#last = positional;
    return last === undefined || !isEqual([...last], [...positional]);
  }
}
