/** A failure of a template: its syntax, what it was given, or what it raised itself. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/** The work that a rendering may do is done. */
export class BudgetError extends TemplateError {}

/**
 * What one rendering may cost where its caller does not say, in units: an iteration, a call, or sixteen characters
 * read. 100 messages and 10 tools cost most templates 10,000 (the dearest 44,000); this many take about half a second.
 */
const limit = 3_000_000;

/** Characters of the longest text that a template may make: more than any context holds. */
const longestText = 1 << 26;

/** Rendering is synchronous, so one counter serves the module; `startBudget` sets it back. */
let left = limit;

export function startBudget(units = limit): void {
  left = units;
}

/** Counts work against the rendering's budget. Throws `TemplateError` when it is spent. */
export function charge(units: number): void {
  left -= units;
  if (!(left >= 0)) throw new BudgetError("it takes more work than a prompt can need");
}

/** Counts a text of so many characters that is read, or made of others. */
export function chargeText(length: number): void {
  if (length > longestText) throw new BudgetError("it makes too long a text");
  charge(length / 16);
}

/** Counts a text that is put together from two: the engine copies neither. */
export function chargeJoin(length: number): void {
  if (length > longestText) throw new BudgetError("it makes too long a text");
  charge(1);
}
