import { charge, TemplateError } from "./budget.ts";
import { formatTime } from "./format.ts";
import { type Arguments, Attributes, type Callable, Namespace, toInteger, toText, type Value } from "./values.ts";

/** As many as Python's sandbox lets a range have. */
const longestRange = 100_000;

/** What every template may call, without `strftime_now`, whose clock is the rendering's. */
export const globals = new Map<string, Callable>([
  ["range", range],
  ["dict", ({ positional, named }) => toDict(positional, named)],
  ["namespace", ({ positional, named }) => new Namespace(toDict(positional, named))],
  [
    "raise_exception",
    ({ positional: [message] }) => {
      throw new TemplateError(toText(message));
    },
  ],
  ["cycler", ({ positional }) => new Cycler(positional)],
  ["joiner", ({ positional: [separator = ", "] }) => joiner(separator)],
]);

/** `strftime_now(format)` at a moment, in local time. */
export function strftimeAt(now: Date): Callable {
  return ({ positional: [form] }) => formatTime(now, toText(form));
}

function range({ positional }: Arguments): Value {
  const bounds = positional.map((bound) => toInteger(bound, "a range's bound"));
  if (bounds.length === 0 || bounds.length > 3) throw new TemplateError("range takes one to three numbers");
  const [start, stop] = bounds.length === 1 ? [0, bounds[0] ?? 0] : [bounds[0] ?? 0, bounds[1] ?? 0];
  const step = bounds[2] ?? 1;
  if (step === 0) throw new TemplateError("a range's step cannot be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > longestRange) throw new TemplateError(`a range of ${length} numbers is too long`);
  charge(length);
  return Array.from({ length }, (_, index) => start + index * step);
}

function toDict(positional: readonly Value[], named: ReadonlyMap<string, Value>): Map<Value, Value> {
  const dict = new Map<Value, Value>();
  const [first] = positional;
  if (first instanceof Map) for (const [key, value] of first) dict.set(key, value);
  else if (Array.isArray(first)) for (const entry of first) if (Array.isArray(entry)) dict.set(entry[0], entry[1]);
  for (const [name, value] of named) dict.set(name, value);
  charge(dict.size);
  return dict;
}

class Cycler extends Attributes {
  readonly #items: readonly Value[];
  #at = 0;

  constructor(items: readonly Value[]) {
    super();
    this.#items = items;
  }

  override get(name: string): Value {
    if (name === "current") return this.#items[this.#at];
    if (name === "reset") return () => ((this.#at = 0), null);
    if (name !== "next") return undefined;
    return () => {
      const item = this.#items[this.#at];
      this.#at = (this.#at + 1) % Math.max(1, this.#items.length);
      return item;
    };
  }
}

/** Says nothing the first time, then its separator. */
function joiner(separator: Value): Callable {
  let used = false;
  return () => {
    const said = used ? separator : "";
    used = true;
    return said;
  };
}
