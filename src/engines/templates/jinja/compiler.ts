import { charge, chargeJoin, TemplateError } from "./budget.ts";
import { type Compute, type Frame, type Names, compileExpression, lookUp } from "./compile-expression.ts";
import { Loop } from "./loop.ts";
import type { Body, Expression, MacroDefinition, Statement, Target } from "./syntax.ts";
import { type Arguments, Namespace, type Value, isTrue, toItems, toText, typeName } from "./values.ts";

/** Where text goes. */
export interface Output {
  text: string;
}

/** What ended a body: its end, `{% break %}` or `{% continue %}`. */
type Ending = "end" | "break" | "continue";

export type Run = (frame: Frame, output: Output) => Ending;

type Assign = (frame: Frame, value: Value) => void;

/** Names that a body binds itself, so that a macro or loop inside finds them wherever they are set. */
function boundNames(body: Body, names: string[] = []): string[] {
  for (const statement of body) {
    switch (statement.type) {
      case "set":
      case "set-block":
        addTargetNames(statement.target, names);
        break;
      case "macro":
        names.push(statement.name);
        break;
      case "if":
        for (const branch of statement.branches) boundNames(branch.body, names);
        boundNames(statement.otherwise, names);
        break;
      default:
    }
  }
  return names;
}

function addTargetNames(target: Target, names: string[]): void {
  if (target.type === "name") names.push(target.name);
  else if (target.type === "targets") for (const inner of target.targets) addTargetNames(inner, names);
}

/** A scope of names that knows its own, with slots in their order. */
export function openScope(parent: Names | null, own: readonly string[], body: Body): Names {
  const slots = new Map<string, number>();
  for (const name of [...own, ...boundNames(body)]) if (!slots.has(name)) slots.set(name, slots.size);
  return { parent, slots, blank: Array.from(slots, () => unset) };
}

/** What a slot holds while its name has no value: an outer one of that name holds. */
const unset = Symbol("unset");

export function openFrame(parent: Frame, names: Names): Frame {
  return { parent, variables: parent.variables, slots: names.blank.slice() };
}

export function compileBody(body: Body, names: Names): Run {
  const runs = body.map((statement) => compileStatement(statement, names));
  if (runs.length === 1 && runs[0] !== undefined) return runs[0];
  return (frame, output) => {
    for (const run of runs) {
      const ending = run(frame, output);
      if (ending !== "end") return ending;
    }
    return "end";
  };
}

function compileStatement(statement: Statement, names: Names): Run {
  switch (statement.type) {
    case "text":
      return write(() => statement.text);
    case "output":
      return write(compileExpression(statement.value, names));
    case "if":
      return compileIf(statement, names);
    case "for":
      return compileFor(statement, names);
    case "set":
      return does(assignTo(statement.target, names), compileExpression(statement.value, names));
    case "set-block":
      return does(assignTo(statement.target, names), compileCapture(statement, names));
    case "filter":
      return write(compileCapture(statement, names));
    case "with":
      return compileWith(statement, names);
    case "scope":
      return compileScope(statement.body, names);
    case "macro":
      return does(assignTo({ type: "name", name: statement.name }, names), compileMacro(statement, names));
    case "call":
      return compileCall(statement, names);
    case "break":
    case "continue":
      return () => statement.type;
  }
}

function write(compute: Compute): Run {
  return (frame, output) => {
    const text = toText(compute(frame));
    chargeJoin(output.text.length + text.length);
    output.text += text;
    return "end";
  };
}

function does(assign: Assign, compute: Compute): Run {
  return (frame) => {
    assign(frame, compute(frame));
    return "end";
  };
}

function compileIf(statement: Statement & { type: "if" }, names: Names): Run {
  const branches = statement.branches.map(({ condition, body }) => ({
    holds: compileExpression(condition, names),
    run: compileBody(body, names),
  }));
  const otherwise = compileBody(statement.otherwise, names);
  return (frame, output) => {
    for (const branch of branches) if (isTrue(branch.holds(frame))) return branch.run(frame, output);
    return otherwise(frame, output);
  };
}

function compileFor(statement: Statement & { type: "for" }, names: Names): Run {
  const own: string[] = ["loop"];
  addTargetNames(statement.target, own);
  const inner = openScope(names, own, statement.body);
  const assign = assignTo(statement.target, inner);
  const condition = statement.condition === null ? null : compileExpression(statement.condition, inner);
  const items = compileExpression(statement.items, names);
  const run = compileBody(statement.body, inner);
  const otherwise = compileScope(statement.otherwise, names);
  const cost = costOf(statement.tokens);
  const select = (frame: Frame, found: readonly Value[]): readonly Value[] => {
    if (condition === null) return found;
    return found.filter((item) => {
      charge(cost);
      const probe = openFrame(frame, inner);
      assign(probe, item);
      return isTrue(condition(probe));
    });
  };
  const iterate = (frame: Frame, output: Output, value: Value, depth: number): void => {
    const chosen = select(frame, toItems(value));
    if (chosen.length === 0) return void otherwise(frame, output);
    const again = (given: Arguments): Value => {
      const nested: Output = { text: "" };
      charge(10);
      iterate(frame, nested, given.positional[0], depth + 1);
      return nested.text;
    };
    const loop = new Loop(chosen, depth, statement.recursive ? again : null);
    for (; loop.index < chosen.length; loop.index += 1) {
      charge(cost);
      const turn = openFrame(frame, inner);
      turn.slots[0] = loop;
      assign(turn, chosen[loop.index]);
      if (run(turn, output) === "break") return;
    }
  };
  return (frame, output) => {
    iterate(frame, output, items(frame), 0);
    return "end";
  };
}

/** One run of so many tokens. */
function costOf(tokens: number): number {
  return 1 + tokens / 64;
}

/** The text of a block, through its filters. */
function compileCapture(statement: { readonly body: Body; readonly filter: Expression | null }, names: Names): Compute {
  const run = compileScope(statement.body, names);
  const captured: { text: string } = { text: "" };
  const filter = statement.filter === null ? null : compileExpression(statement.filter, names, () => captured.text);
  return (frame) => {
    const output: Output = { text: "" };
    run(frame, output);
    if (filter === null) return output.text;
    captured.text = output.text;
    return filter(frame);
  };
}

function compileWith(statement: Statement & { type: "with" }, names: Names): Run {
  const own: string[] = [];
  for (const [target] of statement.bindings) addTargetNames(target, own);
  const inner = openScope(names, own, statement.body);
  const bindings = statement.bindings.map(
    ([target, value]) => [assignTo(target, inner), compileExpression(value, names)] as const,
  );
  const run = compileBody(statement.body, inner);
  return (frame, output) => {
    const scope = openFrame(frame, inner);
    for (const [assign, compute] of bindings) assign(scope, compute(frame));
    return run(scope, output);
  };
}

function compileScope(body: Body, names: Names): Run {
  const inner = openScope(names, [], body);
  const run = compileBody(body, inner);
  return (frame, output) => run(openFrame(frame, inner), output);
}

/** Calls of macros inside macros; Python stops at about as many. */
const deepestCall = 200;
let callDepth = 0;

function compileMacro(statement: MacroDefinition, names: Names): Compute {
  const { name, parameters } = statement;
  const own = [...parameters.map((parameter) => parameter.name), "caller", "varargs", "kwargs"];
  const inner = openScope(names, own, statement.body);
  const places = own.map((parameter) => inner.slots.get(parameter) ?? 0);
  const fallbacks = parameters.map(({ fallback }) => (fallback === null ? null : compileExpression(fallback, inner)));
  const run = compileBody(statement.body, inner);
  const fill = (frame: Frame, { positional, named }: Arguments): void => {
    const rest = new Map<Value, Value>(named);
    const count = parameters.length;
    for (const [index, parameter] of parameters.entries()) {
      const given = index < positional.length ? positional[index] : named.get(parameter.name);
      rest.delete(parameter.name);
      frame.slots[places[index] ?? 0] = given === undefined ? fallbacks[index]?.(frame) : given;
    }
    frame.slots[places[count] ?? 0] = rest.get("caller");
    rest.delete("caller");
    frame.slots[places[count + 1] ?? 0] = positional.slice(count);
    frame.slots[places[count + 2] ?? 0] = rest;
  };
  const cost = 10 + costOf(statement.tokens);
  return (frame) => (given) => {
    charge(cost);
    if (callDepth >= deepestCall) throw new TemplateError(`the macro ${name} calls itself without end`);
    callDepth += 1;
    try {
      const scope = openFrame(frame, inner);
      fill(scope, given);
      const output: Output = { text: "" };
      run(scope, output);
      return output.text;
    } finally {
      callDepth -= 1;
    }
  };
}

/** `{% call %}`: the body becomes the macro's `caller`. */
function compileCall(statement: Statement & { type: "call" }, names: Names): Run {
  const { call } = statement;
  if (call.type !== "call") throw new TemplateError("call needs a call of a macro");
  const caller = compileMacro({ ...statement, name: "caller" }, names);
  let current: Value;
  const named = [...call.given.named, ["caller", { type: "name", name: "caller" }] as const];
  const inner = openScope(names, ["caller"], []);
  const compute = compileExpression({ ...call, given: { ...call.given, named } }, inner);
  return write((frame) => {
    current = caller(frame);
    const scope = openFrame(frame, inner);
    scope.slots[0] = current;
    return compute(scope);
  });
}

function assignTo(target: Target, names: Names): Assign {
  switch (target.type) {
    case "name": {
      const slot = names.slots.get(target.name) ?? 0;
      return (frame, value) => {
        frame.slots[slot] = value;
      };
    }
    case "namespace": {
      const find = lookUp(target.name, names);
      return (frame, value) => {
        const namespace = find(frame);
        if (!(namespace instanceof Namespace)) {
          throw new TemplateError(
            `${target.name} is ${typeName(namespace)}, not a namespace: nothing can be set in it`,
          );
        }
        namespace.entries.set(target.attribute, value);
      };
    }
    case "targets": {
      const assigns = target.targets.map((inner) => assignTo(inner, names));
      return (frame, value) => {
        const items = toItems(value);
        if (items.length !== assigns.length) {
          throw new TemplateError(`${items.length} values cannot be unpacked into ${assigns.length} names`);
        }
        for (const [index, assign] of assigns.entries()) assign(frame, items[index]);
      };
    }
  }
}
