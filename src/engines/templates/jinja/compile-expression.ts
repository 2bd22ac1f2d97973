import { charge, chargeJoin, TemplateError } from "./budget.ts";
import { filters } from "./filters.ts";
import { globals } from "./globals.ts";
import { Loop } from "./loop.ts";
import { attributeOf, itemOf, methodOf, sliceOf } from "./attributes.ts";
import { calculate, negate } from "./arithmetic.ts";
import type { CompareOperator, Expression, Given } from "./syntax.ts";
import { tests } from "./tests.ts";
import {
  type Arguments,
  compare,
  contains,
  isEqual,
  isTrue,
  noNames,
  toItems,
  toKey,
  toText,
  Tuple,
  typeName,
  type Value,
  WholeFloat,
} from "./values.ts";

/** The variables of one running scope. */
export interface Frame {
  readonly parent: Frame | null;
  /** What the template was given. */
  readonly variables: ReadonlyMap<string, Value>;
  readonly slots: (Value | symbol)[];
}

/** What is known of a scope before it runs: which of its slots holds which name. */
export interface Names {
  readonly parent: Names | null;
  readonly slots: ReadonlyMap<string, number>;
  /** The slots of a scope that has set none yet. */
  readonly blank: readonly symbol[];
}

export type Compute = (frame: Frame) => Value;

/** `block`: the text that a filter without an object stands behind. */
export function compileExpression(expression: Expression, names: Names, block?: () => Value): Compute {
  const compile = (inner: Expression): Compute => compileExpression(inner, names, block);
  switch (expression.type) {
    case "constant": {
      const { value } = expression;
      return () => value;
    }
    case "whole-float":
      return () => new WholeFloat(expression.value);
    case "name":
      return lookUp(expression.name, names);
    case "list":
    case "tuple":
    case "dict":
      return compileCollection(expression, compile);
    case "attribute": {
      const object = compile(expression.object);
      const { name } = expression;
      return (frame) => attributeOf(object(frame), name, () => describe(expression.object));
    }
    case "item": {
      const [object, key] = [compile(expression.object), compile(expression.key)];
      return (frame) => itemOf(object(frame), key(frame), () => describe(expression.object));
    }
    case "slice":
      return compileSlice(expression, compile);
    case "call":
      return compileCall(expression, compile);
    case "filter":
      return compileFilter(expression, compile, block);
    case "test":
      return compileTest(expression, compile);
    case "not":
    case "negative":
    case "positive":
    case "and":
    case "or":
    case "binary":
    case "concat":
      return compileOperation(expression, compile);
    case "compare":
      return compileCompare(expression, compile);
    case "if": {
      const [condition, value] = [compile(expression.condition), compile(expression.value)];
      const otherwise = expression.otherwise === null ? () => undefined : compile(expression.otherwise);
      return (frame) => (isTrue(condition(frame)) ? value(frame) : otherwise(frame));
    }
  }
}

type Compile = (expression: Expression) => Compute;

type Collection = Extract<Expression, { readonly type: "list" | "tuple" | "dict" }>;

function compileCollection(expression: Collection, compile: Compile): Compute {
  switch (expression.type) {
    case "list": {
      const items = expression.items.map(compile);
      return (frame) => (charge(items.length), items.map((item) => item(frame)));
    }
    case "tuple": {
      const items = expression.items.map(compile);
      return (frame) => (charge(items.length), Tuple.fromItems(items.map((item) => item(frame))));
    }
    case "dict": {
      const entries = expression.entries.map(([key, value]) => [compile(key), compile(value)] as const);
      return (frame) => (
        charge(entries.length),
        new Map(entries.map(([key, value]) => [toKey(key(frame)), value(frame)]))
      );
    }
  }
}

type Operation = Extract<
  Expression,
  { readonly type: "not" | "negative" | "positive" | "and" | "or" | "binary" | "concat" }
>;

function compileOperation(expression: Operation, compile: Compile): Compute {
  switch (expression.type) {
    case "not": {
      const operand = compile(expression.operand);
      return (frame) => !isTrue(operand(frame));
    }
    case "negative":
    case "positive": {
      const operand = compile(expression.operand);
      const sign = expression.type === "negative" ? -1 : 1;
      return (frame) => negate(operand(frame), sign);
    }
    case "and":
    case "or": {
      const [left, right] = [compile(expression.left), compile(expression.right)];
      const stops = expression.type === "or";
      return (frame) => {
        const value = left(frame);
        return isTrue(value) === stops ? value : right(frame);
      };
    }
    case "binary": {
      const [left, right] = [compile(expression.left), compile(expression.right)];
      const { operator } = expression;
      return (frame) => calculate(operator, left(frame), right(frame));
    }
    case "concat": {
      const parts = expression.parts.map(compile);
      return (frame) => {
        let text = "";
        for (const part of parts) text += toText(part(frame));
        chargeJoin(text.length);
        return text;
      };
    }
  }
}

/** A variable: of the nearest scope where it has a value, then what the template was given, then the globals. */
export function lookUp(name: string, names: Names): Compute {
  const places: { readonly hops: number; readonly slot: number }[] = [];
  let hops = 0;
  for (let scope: Names | null = names; scope !== null; scope = scope.parent, hops += 1) {
    const slot = scope.slots.get(name);
    if (slot !== undefined) places.push({ hops, slot });
  }
  const fallback = globals.get(name);
  const given = (frame: Frame): Value => (frame.variables.has(name) ? frame.variables.get(name) : fallback);
  if (places.length === 0) return given;
  return (frame) => {
    for (const place of places) {
      let scope: Frame = frame;
      for (let hop = place.hops; hop > 0 && scope.parent !== null; hop -= 1) scope = scope.parent;
      const value = scope.slots[place.slot];
      if (typeof value !== "symbol") return value;
    }
    return given(frame);
  };
}

function compileSlice(expression: Expression & { type: "slice" }, compile: Compile): Compute {
  const object = compile(expression.object);
  const [start, stop, step] = [expression.start, expression.stop, expression.step].map((bound) =>
    bound === null ? () => null : compile(bound),
  ) as [Compute, Compute, Compute];
  return (frame) => sliceOf(object(frame), [start(frame), stop(frame), step(frame)]);
}

function compileCall(expression: Expression & { type: "call" }, compile: Compile): Compute {
  const collect = compileArguments(expression.given, compile);
  const { callee } = expression;
  if (callee.type === "attribute") {
    const object = compile(callee.object);
    return (frame) => {
      const value = object(frame);
      const method = methodOf(value, callee.name);
      if (method !== undefined) return method(value, collect(frame));
      return call(
        attributeOf(value, callee.name, () => describe(callee.object)),
        collect(frame),
        callee,
      );
    };
  }
  const compute = compile(callee);
  return (frame) => call(compute(frame), collect(frame), callee);
}

function call(value: Value, given: Arguments, callee: Expression): Value {
  charge(1);
  if (typeof value === "function") return value(given);
  if (value instanceof Loop && value.again !== null) return value.again(given);
  throw new TemplateError(`${describe(callee)} is ${typeName(value)} and cannot be called`);
}

const none: Arguments = { positional: [], named: noNames };

function compileArguments(given: Given, compile: Compile): (frame: Frame) => Arguments {
  const positional = given.positional.map(compile);
  const named = given.named.map(([name, value]) => [name, compile(value)] as const);
  const spread = given.spread === null ? null : compile(given.spread);
  const spreadNamed = given.spreadNamed === null ? null : compile(given.spreadNamed);
  if (positional.length + named.length === 0 && spread === null && spreadNamed === null) return () => none;
  return (frame) => {
    const list = positional.map((value) => value(frame));
    if (spread !== null) for (const item of toItems(spread(frame))) list.push(item);
    if (named.length === 0 && spreadNamed === null) return { positional: list, named: noNames };
    const names = new Map(named.map(([name, value]) => [name, value(frame)]));
    const more = spreadNamed?.(frame);
    if (more instanceof Map) for (const [name, value] of more) names.set(toText(name), value);
    return { positional: list, named: names };
  };
}

function compileFilter(
  expression: Expression & { type: "filter" },
  compile: Compile,
  block: (() => Value) | undefined,
): Compute {
  const object = expression.object === null ? (block ?? (() => undefined)) : compile(expression.object);
  const collect = compileArguments(expression.given, compile);
  const filter = filters.get(expression.name);
  if (filter === undefined) throw new TemplateError(`there is no filter ${expression.name}`);
  return (frame) => {
    charge(1);
    return filter(object(frame), collect(frame));
  };
}

function compileTest(expression: Expression & { type: "test" }, compile: Compile): Compute {
  const object = compile(expression.object);
  const collect = compileArguments(expression.given, compile);
  const test = tests.get(expression.name);
  if (test === undefined) throw new TemplateError(`there is no test ${expression.name}`);
  return (frame) => test(object(frame), collect(frame).positional);
}

const comparisons: Readonly<Record<CompareOperator, (left: Value, right: Value) => boolean>> = {
  "==": isEqual,
  "!=": (left, right) => !isEqual(left, right),
  "<": (left, right) => compare(left, right) < 0,
  "<=": (left, right) => compare(left, right) <= 0,
  ">": (left, right) => compare(left, right) > 0,
  ">=": (left, right) => compare(left, right) >= 0,
  in: (left, right) => contains(right, left),
  "not in": (left, right) => !contains(right, left),
};

/** `a < b < c` compares both pairs. */
function compileCompare(expression: Expression & { type: "compare" }, compile: Compile): Compute {
  const first = compile(expression.first);
  const rest = expression.rest.map(({ operator, operand }) => ({
    holds: comparisons[operator],
    operand: compile(operand),
  }));
  return (frame) => {
    let left = first(frame);
    for (const { holds, operand } of rest) {
      const right = operand(frame);
      if (!holds(left, right)) return false;
      left = right;
    }
    return true;
  };
}

/** An expression as a message names it. */
function describe(expression: Expression): string {
  switch (expression.type) {
    case "name":
      return expression.name;
    case "attribute":
      return `${describe(expression.object)}.${expression.name}`;
    case "item":
      return `${describe(expression.object)}[…]`;
    default:
      return "a value";
  }
}
