import { readExpression, readFilter, readTuple } from "./expressions.ts";
import { tokenize } from "./lexer.ts";
import type { Body, Expression, Parameter, Statement, Target } from "./syntax.ts";
import { TokenStream } from "./token-stream.ts";

/** The syntax tree of a template. Throws `TemplateError` with the line. */
export function parse(template: string): Body {
  const stream = new TokenStream(tokenize(template));
  const body = readBody(stream, []);
  if (!stream.is("end")) stream.fail(`unexpected ${stream.current.value}`);
  return body;
}

/** Statements up to a block whose name is among `ends`; that name is then the current token. */
function readBody(stream: TokenStream, ends: readonly string[]): Statement[] {
  return stream.nested(() => {
    const body: Statement[] = [];
    for (;;) {
      if (stream.is("text")) body.push({ type: "text", text: stream.next().value });
      else if (stream.skip("variable")) {
        body.push({ type: "output", value: readTuple(stream) });
        stream.expect("variable-end");
      } else if (stream.is("block")) {
        if (stream.is("name", undefined, 1)) {
          stream.next();
          if (ends.includes(stream.current.value)) return body;
          body.push(readStatement(stream));
        } else stream.fail("a block without a name");
      } else if (ends.length === 0) return body;
      else stream.fail(`${ends.join(" or ")} is missing`);
    }
  });
}

function readStatement(stream: TokenStream): Statement {
  const name = stream.next().value;
  const reader = readers.get(name);
  return reader === undefined ? stream.fail(`there is no statement ${name}`) : reader(stream);
}

const readers = new Map<string, (stream: TokenStream) => Statement>([
  ["if", readIf],
  ["for", readFor],
  ["set", readSet],
  ["macro", readMacro],
  ["call", readCall],
  ["filter", readFilterBlock],
  ["with", readWith],
  // transformers' mark around what the assistant said.
  ["generation", (stream) => readScope(stream, "endgeneration")],
  ["break", (stream) => readJump(stream, "break")],
  ["continue", (stream) => readJump(stream, "continue")],
]);

function readIf(stream: TokenStream): Statement {
  const branches: { condition: Expression; body: Body }[] = [];
  for (;;) {
    const condition = readTuple(stream, { conditional: false });
    stream.expect("block-end");
    branches.push({ condition, body: readBody(stream, ["elif", "else", "endif"]) });
    const { value } = stream.next();
    if (value === "elif") continue;
    if (value === "endif") return { type: "if", branches, otherwise: endBlock(stream, []) };
    stream.expect("block-end");
    return { type: "if", branches, otherwise: readBlockRest(stream, "endif") };
  }
}

function readFor(stream: TokenStream): Statement {
  const start = stream.position;
  const target = readTarget(stream);
  stream.expect("name", "in");
  const items = readTuple(stream, { conditional: false });
  const condition = stream.skip("name", "if") ? readExpression(stream) : null;
  const recursive = stream.skip("name", "recursive");
  stream.expect("block-end");
  const body = readBody(stream, ["endfor", "else"]);
  const ended = stream.next().value === "endfor";
  stream.expect("block-end");
  const otherwise = ended ? [] : readBlockRest(stream, "endfor");
  return { type: "for", target, items, condition, body, otherwise, recursive, tokens: stream.position - start };
}

function readSet(stream: TokenStream): Statement {
  const target = readTarget(stream);
  if (stream.skip("operator", "=")) {
    const value = readTuple(stream);
    stream.expect("block-end");
    return { type: "set", target, value };
  }
  const filter = readFilterChain(stream, null);
  stream.expect("block-end");
  return { type: "set-block", target, filter, body: readBlockRest(stream, "endset") };
}

function readMacro(stream: TokenStream): Statement {
  const start = stream.position;
  const name = stream.expect("name").value;
  const parameters = readParameters(stream);
  stream.expect("block-end");
  const body = readBlockRest(stream, "endmacro");
  return { type: "macro", name, parameters, body, tokens: stream.position - start };
}

function readCall(stream: TokenStream): Statement {
  const start = stream.position;
  const parameters = stream.is("operator", "(") ? readParameters(stream) : [];
  const call = readExpression(stream);
  if (call.type !== "call") stream.fail("call needs a call of a macro");
  stream.expect("block-end");
  const body = readBlockRest(stream, "endcall");
  return { type: "call", parameters, call, body, tokens: stream.position - start };
}

function readParameters(stream: TokenStream): Parameter[] {
  const parameters: Parameter[] = [];
  stream.expect("operator", "(");
  while (!stream.skip("operator", ")")) {
    if (parameters.length > 0) stream.expect("operator", ",");
    const name = stream.expect("name").value;
    parameters.push({ name, fallback: stream.skip("operator", "=") ? readExpression(stream) : null });
  }
  return parameters;
}

function readFilterBlock(stream: TokenStream): Statement {
  const filter = readFilterChain(stream, readFilter(stream, null));
  stream.expect("block-end");
  if (filter === null) stream.fail("filter needs a name");
  return { type: "filter", filter, body: readBlockRest(stream, "endfilter") };
}

function readFilterChain(stream: TokenStream, first: Expression | null): Expression | null {
  let filter = first;
  while (stream.skip("operator", "|")) filter = readFilter(stream, filter);
  return filter;
}

function readWith(stream: TokenStream): Statement {
  const bindings: [Target, Expression][] = [];
  while (!stream.skip("block-end")) {
    if (bindings.length > 0) stream.expect("operator", ",");
    const target = readTarget(stream);
    stream.expect("operator", "=");
    bindings.push([target, readExpression(stream)]);
  }
  return { type: "with", bindings, body: readBlockRest(stream, "endwith") };
}

function readScope(stream: TokenStream, end: string): Statement {
  stream.expect("block-end");
  return { type: "scope", body: readBlockRest(stream, end) };
}

function readJump(stream: TokenStream, type: "break" | "continue"): Statement {
  stream.expect("block-end");
  return { type };
}

/** The statements up to the one end of a block, and that end. */
function readBlockRest(stream: TokenStream, end: string): Body {
  const body = readBody(stream, [end]);
  stream.next();
  // `{% endmacro name %}` may say the name again.
  if (end === "endmacro") stream.skip("name");
  return endBlock(stream, body);
}

function endBlock(stream: TokenStream, body: Body): Body {
  stream.expect("block-end");
  return body;
}

function readTarget(stream: TokenStream): Target {
  const targets: Target[] = [];
  let several = false;
  while (targets.length === 0 || (stream.is("name") && !stream.is("name", "in")) || stream.is("operator", "(")) {
    targets.push(readOneTarget(stream));
    if (!stream.skip("operator", ",")) break;
    several = true;
  }
  const [first] = targets;
  return several || first === undefined ? { type: "targets", targets } : first;
}

function readOneTarget(stream: TokenStream): Target {
  if (stream.skip("operator", "(")) {
    const inner = stream.nested(() => readTarget(stream));
    stream.expect("operator", ")");
    return inner;
  }
  const name = stream.expect("name").value;
  if (!stream.skip("operator", ".")) return { type: "name", name };
  return { type: "namespace", name, attribute: stream.expect("name").value };
}
