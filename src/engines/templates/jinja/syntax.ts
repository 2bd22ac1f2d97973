/** The syntax tree of a template. */
export type Expression =
  | { readonly type: "constant"; readonly value: null | boolean | number | string }
  | { readonly type: "whole-float"; readonly value: number }
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "list"; readonly items: readonly Expression[] }
  | { readonly type: "tuple"; readonly items: readonly Expression[] }
  | { readonly type: "dict"; readonly entries: readonly (readonly [Expression, Expression])[] }
  | { readonly type: "attribute"; readonly object: Expression; readonly name: string }
  | { readonly type: "item"; readonly object: Expression; readonly key: Expression }
  | {
      readonly type: "slice";
      readonly object: Expression;
      readonly start: Expression | null;
      readonly stop: Expression | null;
      readonly step: Expression | null;
    }
  | { readonly type: "call"; readonly callee: Expression; readonly given: Given }
  /** `object` is null in `{% filter %}` and `{% set %}…{% endset %}`, where the block's text takes its place. */
  | { readonly type: "filter"; readonly name: string; readonly object: Expression | null; readonly given: Given }
  | { readonly type: "test"; readonly name: string; readonly object: Expression; readonly given: Given }
  | { readonly type: "not"; readonly operand: Expression }
  | { readonly type: "negative"; readonly operand: Expression }
  | { readonly type: "positive"; readonly operand: Expression }
  | { readonly type: "and"; readonly left: Expression; readonly right: Expression }
  | { readonly type: "or"; readonly left: Expression; readonly right: Expression }
  | {
      readonly type: "binary";
      readonly operator: BinaryOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
  | { readonly type: "concat"; readonly parts: readonly Expression[] }
  | { readonly type: "compare"; readonly first: Expression; readonly rest: readonly Comparison[] }
  | {
      readonly type: "if";
      readonly condition: Expression;
      readonly value: Expression;
      readonly otherwise: Expression | null;
    };

export type BinaryOperator = "+" | "-" | "*" | "/" | "//" | "%" | "**";
export type CompareOperator = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in";

export interface Comparison {
  readonly operator: CompareOperator;
  readonly operand: Expression;
}

/** Arguments of a call as written; `spread` and `spreadNamed` are `*list` and `**dict`. */
export interface Given {
  readonly positional: readonly Expression[];
  readonly named: readonly (readonly [string, Expression])[];
  readonly spread: Expression | null;
  readonly spreadNamed: Expression | null;
}

/** What may be assigned to. */
export type Target =
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "namespace"; readonly name: string; readonly attribute: string }
  | { readonly type: "targets"; readonly targets: readonly Target[] };

export interface Parameter {
  readonly name: string;
  readonly fallback: Expression | null;
}

export interface MacroDefinition {
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly body: Body;
  /** How many it is written in: what one run of it may cost. */
  readonly tokens: number;
}

export type Statement =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "output"; readonly value: Expression }
  | {
      readonly type: "if";
      readonly branches: readonly { readonly condition: Expression; readonly body: Body }[];
      readonly otherwise: Body;
    }
  | {
      readonly type: "for";
      readonly target: Target;
      readonly items: Expression;
      readonly condition: Expression | null;
      readonly body: Body;
      readonly otherwise: Body;
      readonly recursive: boolean;
      readonly tokens: number;
    }
  | { readonly type: "set"; readonly target: Target; readonly value: Expression }
  | { readonly type: "set-block"; readonly target: Target; readonly filter: Expression | null; readonly body: Body }
  | { readonly type: "filter"; readonly filter: Expression; readonly body: Body }
  | { readonly type: "with"; readonly bindings: readonly (readonly [Target, Expression])[]; readonly body: Body }
  | { readonly type: "scope"; readonly body: Body }
  | ({ readonly type: "macro" } & MacroDefinition)
  | {
      readonly type: "call";
      readonly parameters: readonly Parameter[];
      readonly call: Expression;
      readonly body: Body;
      readonly tokens: number;
    }
  | { readonly type: "break" | "continue" };

export type Body = readonly Statement[];
