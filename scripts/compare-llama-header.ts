import { type Field, type Header, readSignature, type Signature } from "./llama-header.ts";

/** Our own declarations, as `src/engines/llama` has them. */
export interface OwnDeclarations {
  /** Name → prototype. */
  readonly prototypes: Readonly<Record<string, string>>;
  /** Struct → field → type, in order. */
  readonly structs: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly constants: Readonly<Record<string, number>>;
}

/** A declaration of ours that the header does not bear out; both as written. */
export interface Difference {
  readonly name: string;
  readonly ours: string;
  readonly theirs: string;
}

/** Everything in which our declarations and a header differ, on a 64-bit machine. */
export function compareHeader(own: OwnDeclarations, header: Header): Difference[] {
  return [...compareFunctions(own, header), ...compareStructs(own, header), ...compareConstants(own, header)];
}

function* compareFunctions(own: OwnDeclarations, header: Header): Generator<Difference> {
  for (const [name, prototype] of Object.entries(own.prototypes)) {
    const ours = readSignature(prototype);
    const theirs = header.functions.get(name);
    if (theirs === undefined) yield { name, ours: prototype, theirs: "not declared" };
    else if (!sameSignature(ours, theirs, header)) yield { name, ours: prototype, theirs: theirs.line };
  }
}

/** Names of parameters are compared too: two of one type that changed places would not show otherwise. */
function sameSignature(ours: Signature, theirs: Signature, header: Header): boolean {
  return (
    sameType(ours.result, theirs.result, header) &&
    ours.parameters.length === theirs.parameters.length &&
    ours.parameters.every((parameter, index) => sameField(parameter, theirs.parameters[index], header))
  );
}

function* compareStructs(own: OwnDeclarations, header: Header): Generator<Difference> {
  for (const [struct, layout] of Object.entries(own.structs)) {
    const theirs = header.structs.get(struct);
    if (theirs === undefined) {
      yield { name: struct, ours: `struct ${struct}`, theirs: "not declared" };
      continue;
    }
    const ours = Object.entries(layout).map(([name, type]) => ({ name, type }));
    const indices = Array.from({ length: Math.max(ours.length, theirs.length) }, (_, index) => index);
    // One field that was put in moves all that follow it.
    const first = indices.find((index) => {
      const field = ours[index];
      return field === undefined || !sameField(field, theirs[index], header);
    });
    if (first === undefined) continue;
    yield { name: `${struct}, field ${first + 1}`, ours: fieldText(ours[first]), theirs: fieldText(theirs[first]) };
  }
}

function* compareConstants(own: OwnDeclarations, header: Header): Generator<Difference> {
  for (const [name, value] of Object.entries(own.constants)) {
    const theirs = header.constants.get(name);
    if (theirs !== value) {
      yield { name, ours: `${name} = ${value}`, theirs: theirs === undefined ? "not declared" : `${name} = ${theirs}` };
    }
  }
}

function sameField(ours: Field, theirs: Field | undefined, header: Header): boolean {
  return theirs !== undefined && ours.name === theirs.name && sameType(ours.type, theirs.type, header);
}

function fieldText(field: Field | undefined): string {
  return field === undefined ? "no field" : `${field.type} ${field.name}`;
}

/**
 * A pointer of ours to nothing in particular (`void *`, bytes) stands for any pointer; text is text; a pointer to
 * numbers is one to numbers of that size.
 */
function sameType(ours: string, theirs: string, header: Header): boolean {
  const [one, other] = [resolve(ours, header), resolve(theirs, header)];
  if (one === "text" || other === "text")
    return one === other || (one === "void *" && other === "text" && ours !== "void *");
  if (one === "void *") return other.endsWith("*");
  return one === other;
}

const scalars: Readonly<Record<string, string>> = {
  int: "int32",
  int32_t: "int32",
  uint32_t: "uint32",
  size_t: "uint64",
  uint64_t: "uint64",
  int64_t: "int64",
  int8_t: "int8",
  float: "float",
  double: "double",
  bool: "bool",
  void: "void",
};

/** A type by what the machine sees: typedefs followed, enums as `int`, pointers without `const`. */
function resolve(type: string, header: Header): string {
  const array = /^(.*) \[(\w+)\]$/.exec(type);
  if (array !== null) {
    const length = Number(header.constants.get(array[2] ?? "") ?? array[2]);
    return `${resolve(array[1] ?? "", header)}[${length}]`;
  }
  if (/^const char \*$/.test(type)) return "text";
  const plain = type
    .replace(/\b(const|struct)\b/g, "")
    .replace(/\s+/g, " ")
    .trim();
  if (plain.endsWith("*")) {
    const target = plain.slice(0, -1).trim();
    const resolved = target.endsWith("*") ? "void" : resolve(target, header);
    return /^(u?int(32|64)|float)$/.test(resolved) ? `${resolved} *` : "void *";
  }
  if (plain.startsWith("enum ") || header.enums.has(plain)) return "int32";
  const scalar = scalars[plain];
  if (scalar !== undefined) return scalar;
  const alias = header.types.get(plain);
  return alias === undefined || alias.replace(/^struct /, "") === plain ? plain : resolve(alias, header);
}
