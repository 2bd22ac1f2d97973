import { startBudget, TemplateError } from "./budget.ts";
import { compileBody, openFrame, openScope, type Output } from "./compiler.ts";
import { parse } from "./parser.ts";
import type { Value } from "./values.ts";

/** Far beyond the longest chat template known (40 KB). */
const longestSource = 1 << 20;

/**
 * A Jinja template, compiled to closures. It means what Python's jinja2 makes of it as transformers sets it up (trimmed
 * blocks, no escaping, `tojson`, `raise_exception`, loop controls), reaches nothing but what it is given, and its work is bounded.
 */
export class Template {
  readonly #render: (variables: ReadonlyMap<string, Value>) => string;

  /** Throws `TemplateError`. */
  constructor(source: string) {
    if (source.length > longestSource)
      throw new TemplateError(`it has ${source.length} characters, more than ${longestSource}`);
    this.#render = guard(() => compile(source));
  }

  /** `units`: the budget of work, see `budget.ts`. Throws `TemplateError` for what the template raises, cannot compute, or takes too long for. */
  render(variables: ReadonlyMap<string, Value>, units?: number): string {
    startBudget(units);
    return guard(() => this.#render(variables));
  }
}

function compile(source: string): (variables: ReadonlyMap<string, Value>) => string {
  const body = parse(source);
  const names = openScope(null, [], body);
  const run = compileBody(body, names);
  return (variables) => {
    const output: Output = { text: "" };
    run(openFrame({ parent: null, variables, slots: [] }, names), output);
    return output.text;
  };
}

/** A stack or a text that the engine cannot hold is the template's failure too. */
function guard<Result>(work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof RangeError)
      throw new TemplateError("it is nested too deeply or makes too long a text", { cause: error });
    throw error;
  }
}
