import type { BinaryOperator, CompareOperator, Comparison, Expression, Given } from "./syntax.ts";
import type { TokenStream } from "./token-stream.ts";

const noArguments: Given = { positional: [], named: [], spread: null, spreadNamed: null };

/** An expression, or several with commas between them as a tuple. `isEnd` tells where a trailing comma may stop. */
export function readTuple(stream: TokenStream, options: { conditional?: boolean } = {}): Expression {
  const first = readExpression(stream, options.conditional);
  if (!stream.is("operator", ",")) return first;
  const items = [first];
  while (stream.skip("operator", ",")) {
    if (endsTuple(stream)) break;
    items.push(readExpression(stream, options.conditional));
  }
  return { type: "tuple", items };
}

function endsTuple(stream: TokenStream): boolean {
  return stream.is("variable-end") || stream.is("block-end") || stream.is("operator", ")");
}

/** One expression; without `conditional`, an `if` that follows belongs to somebody else. */
export function readExpression(stream: TokenStream, conditional = true): Expression {
  return stream.nested(() => (conditional ? readConditional(stream) : readOr(stream)));
}

function readConditional(stream: TokenStream): Expression {
  let value = readOr(stream);
  while (stream.skip("name", "if")) {
    const condition = readOr(stream);
    const otherwise = stream.skip("name", "else") ? stream.nested(() => readConditional(stream)) : null;
    value = { type: "if", condition, value, otherwise };
  }
  return value;
}

function readOr(stream: TokenStream): Expression {
  let left = readAnd(stream);
  while (stream.skip("name", "or")) left = { type: "or", left, right: readAnd(stream) };
  return left;
}

function readAnd(stream: TokenStream): Expression {
  let left = readNot(stream);
  while (stream.skip("name", "and")) left = { type: "and", left, right: readNot(stream) };
  return left;
}

function readNot(stream: TokenStream): Expression {
  if (stream.skip("name", "not")) return { type: "not", operand: stream.nested(() => readNot(stream)) };
  return readComparison(stream);
}

const comparisons: readonly string[] = ["==", "!=", "<", "<=", ">", ">="];

function readComparison(stream: TokenStream): Expression {
  const first = readSum(stream);
  const rest: Comparison[] = [];
  for (;;) {
    let operator: CompareOperator;
    if (stream.is("operator") && comparisons.includes(stream.current.value)) {
      operator = stream.next().value as CompareOperator;
    } else if (stream.skip("name", "in")) {
      operator = "in";
    } else if (stream.is("name", "not") && stream.is("name", "in", 1)) {
      stream.next();
      stream.next();
      operator = "not in";
    } else {
      return rest.length === 0 ? first : { type: "compare", first, rest };
    }
    rest.push({ operator, operand: readSum(stream) });
  }
}

function readSum(stream: TokenStream): Expression {
  return readBinary(stream, ["+", "-"], readConcat);
}

function readConcat(stream: TokenStream): Expression {
  const first = readProduct(stream);
  if (!stream.is("operator", "~")) return first;
  const parts = [first];
  while (stream.skip("operator", "~")) parts.push(readProduct(stream));
  return { type: "concat", parts };
}

function readProduct(stream: TokenStream): Expression {
  return readBinary(stream, ["*", "/", "//", "%"], readPower);
}

function readPower(stream: TokenStream): Expression {
  return readBinary(stream, ["**"], readUnary);
}

function readBinary(
  stream: TokenStream,
  operators: readonly string[],
  readOperand: (stream: TokenStream) => Expression,
): Expression {
  let left = readOperand(stream);
  while (stream.is("operator") && operators.includes(stream.current.value)) {
    const operator = stream.next().value as BinaryOperator;
    left = { type: "binary", operator, left, right: readOperand(stream) };
  }
  return left;
}

function readUnary(stream: TokenStream): Expression {
  return readFilters(stream, readSigned(stream));
}

/** A sign binds tighter than a filter: `-1|abs` is `(-1)|abs`. */
function readSigned(stream: TokenStream): Expression {
  return stream.nested(() => {
    if (stream.skip("operator", "-")) return { type: "negative", operand: readSigned(stream) };
    if (stream.skip("operator", "+")) return { type: "positive", operand: readSigned(stream) };
    return readPostfix(stream, readPrimary(stream));
  });
}

const constants = new Map<string, boolean | null>([
  ["true", true],
  ["True", true],
  ["false", false],
  ["False", false],
  ["none", null],
  ["None", null],
]);

function readPrimary(stream: TokenStream): Expression {
  const token = stream.next();
  switch (token.type) {
    case "name": {
      const value = constants.get(token.value);
      return value === undefined ? { type: "name", name: token.value } : { type: "constant", value };
    }
    case "string": {
      let value = token.value;
      while (stream.is("string")) value += stream.next().value;
      return { type: "constant", value };
    }
    case "number":
      return { type: "constant", value: Number(token.value.replaceAll("_", "")) };
    case "float": {
      const value = Number(token.value.replaceAll("_", ""));
      return Number.isInteger(value) ? { type: "whole-float", value } : { type: "constant", value };
    }
    case "operator":
      if (token.value === "(") return readParentheses(stream);
      if (token.value === "[") return { type: "list", items: readItems(stream, "]") };
      if (token.value === "{") return readDict(stream);
      break;
    default:
  }
  return stream.fail(`an expression cannot begin with ${token.value === "" ? token.type : token.value}`);
}

function readParentheses(stream: TokenStream): Expression {
  if (stream.skip("operator", ")")) return { type: "tuple", items: [] };
  const inner = readTuple(stream);
  stream.expect("operator", ")");
  return inner;
}

function readItems(stream: TokenStream, close: string): Expression[] {
  const items: Expression[] = [];
  while (!stream.skip("operator", close)) {
    if (items.length > 0) stream.expect("operator", ",");
    if (stream.skip("operator", close)) break;
    items.push(readExpression(stream));
  }
  return items;
}

function readDict(stream: TokenStream): Expression {
  const entries: [Expression, Expression][] = [];
  while (!stream.skip("operator", "}")) {
    if (entries.length > 0) stream.expect("operator", ",");
    if (stream.skip("operator", "}")) break;
    const key = readExpression(stream);
    stream.expect("operator", ":");
    entries.push([key, readExpression(stream)]);
  }
  return { type: "dict", entries };
}

/** Attributes, items and calls behind a value. */
function readPostfix(stream: TokenStream, value: Expression): Expression {
  let object = value;
  for (;;) {
    if (stream.skip("operator", ".")) object = readAttribute(stream, object);
    else if (stream.skip("operator", "[")) object = readSubscript(stream, object);
    else if (stream.is("operator", "(")) object = { type: "call", callee: object, given: readArguments(stream) };
    else return object;
  }
}

function readAttribute(stream: TokenStream, object: Expression): Expression {
  if (stream.is("number")) {
    const key: Expression = { type: "constant", value: Number(stream.next().value) };
    return { type: "item", object, key };
  }
  return { type: "attribute", object, name: stream.expect("name").value };
}

function readSubscript(stream: TokenStream, object: Expression): Expression {
  const start = readBound(stream);
  if (start !== null && stream.skip("operator", "]")) return { type: "item", object, key: start };
  if (start !== null && stream.is("operator", ",")) {
    stream.next();
    return { type: "item", object, key: { type: "tuple", items: [start, ...readItems(stream, "]")] } };
  }
  stream.expect("operator", ":");
  const stop = readBound(stream);
  const step = stream.skip("operator", ":") ? readBound(stream) : null;
  stream.expect("operator", "]");
  return { type: "slice", object, start, stop, step };
}

function readBound(stream: TokenStream): Expression | null {
  return stream.is("operator", ":") || stream.is("operator", "]") ? null : readExpression(stream);
}

/** Arguments with their parentheses. */
function readArguments(stream: TokenStream): Given {
  stream.expect("operator", "(");
  const positional: Expression[] = [];
  const named: [string, Expression][] = [];
  let spread: Expression | null = null;
  let spreadNamed: Expression | null = null;
  for (let first = true; !stream.skip("operator", ")"); first = false) {
    if (!first) stream.expect("operator", ",");
    if (stream.skip("operator", ")")) break;
    if (stream.skip("operator", "**")) spreadNamed = readExpression(stream);
    else if (stream.skip("operator", "*")) spread = readExpression(stream);
    else if (stream.is("name") && stream.is("operator", "=", 1)) {
      const { value } = stream.next();
      stream.next();
      named.push([value, readExpression(stream)]);
    } else if (named.length > 0) stream.fail("a positional argument follows a named one");
    else positional.push(readExpression(stream));
  }
  return { positional, named, spread, spreadNamed };
}

/** Filters, tests and calls behind a whole value. */
function readFilters(stream: TokenStream, value: Expression): Expression {
  let object = value;
  for (;;) {
    if (stream.skip("operator", "|")) object = readFilter(stream, object);
    else if (stream.skip("name", "is")) object = readTest(stream, object);
    else if (stream.is("operator", "(")) object = { type: "call", callee: object, given: readArguments(stream) };
    else return object;
  }
}

/** A filter's name and arguments, the bar already read. */
export function readFilter(stream: TokenStream, object: Expression | null): Expression {
  const name = readDottedName(stream);
  const given = stream.is("operator", "(") ? readArguments(stream) : noArguments;
  return { type: "filter", name, object, given };
}

function readTest(stream: TokenStream, object: Expression): Expression {
  const negated = stream.skip("name", "not");
  const name = readDottedName(stream);
  let given = noArguments;
  if (stream.is("operator", "(")) given = readArguments(stream);
  else if (beginsArgument(stream)) {
    given = { ...noArguments, positional: [stream.nested(() => readPostfix(stream, readPrimary(stream)))] };
  }
  const test: Expression = { type: "test", name, object, given };
  return negated ? { type: "not", operand: test } : test;
}

function readDottedName(stream: TokenStream): string {
  let { value } = stream.expect("name");
  while (stream.skip("operator", ".")) value += `.${stream.expect("name").value}`;
  return value;
}

function beginsArgument(stream: TokenStream): boolean {
  const { type, value } = stream.current;
  if (type === "name") return !["else", "or", "and", "is", "if", "not", "in"].includes(value);
  return (
    type === "string" ||
    type === "number" ||
    type === "float" ||
    (type === "operator" && (value === "[" || value === "{"))
  );
}
