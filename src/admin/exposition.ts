/** One family of values of the same kind, in Prometheus' words. */
export interface Family {
  /** Lower-case words joined by `_`, the unit last. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly samples: readonly Sample[];
}

export interface Sample {
  /** What follows the family's name, e.g. `_bucket`. */
  readonly suffix?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The content type of Prometheus' text format. */
export const expositionType = "text/plain; version=0.0.4; charset=utf-8";

/** Families as text (https://prometheus.io/docs/instrumenting/exposition_formats/). */
export function encodeFamilies(families: readonly Family[]): string {
  return families.map(encodeFamily).join("");
}

/** A value that only grows, while the process runs. */
export function counter(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, type: "counter", help, samples };
}

/** A value that goes up and down. */
export function gauge(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, type: "gauge", help, samples };
}

function encodeFamily({ name, type, help, samples }: Family): string {
  const lines = samples.map(
    ({ suffix = "", labels = {}, value }) => `${name}${suffix}${encodeLabels(labels)} ${value}\n`,
  );
  return `# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function encodeLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escape(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escape(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
