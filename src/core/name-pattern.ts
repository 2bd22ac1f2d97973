/** Whether an id matches one of the patterns, in which `*` stands for any text. */
export function patternTest(patterns: readonly string[]): (id: string) => boolean {
  const expressions = patterns.map((pattern) => new RegExp(`^${pattern.split("*").map(escape).join(".*")}$`, "s"));
  return (id) => expressions.some((expression) => expression.test(id));
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}
