/** A failure of a template: its syntax, what it was given, or what it raised itself. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/**
 * What one rendering may cost, in units: an iteration, a call, or sixteen characters made. The longest prompts of the
 * tests (100 messages, 10 tools) take 10,000; this many take about a second.
 */
const limit = 5_000_000;

/** Rendering is synchronous, so one counter serves the module; `startBudget` sets it back. */
let left = limit;

export function startBudget(): void {
  left = limit;
}

/** Counts work against the rendering's budget. Throws `TemplateError` when it is spent. */
export function charge(units: number): void {
  left -= units;
  if (!(left >= 0)) throw new TemplateError("it takes more work than a prompt can need");
}

/** Counts a text of so many characters that is about to be made. */
export function chargeText(length: number): void {
  charge(length / 16);
}
