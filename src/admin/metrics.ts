import type { Call, Handler } from "../core/call.ts";
import type { ErrorCode } from "../core/errors.ts";
import type { Outcome } from "../core/outcome.ts";
import { endpoints } from "../core/provider.ts";
import type { UsageRecord } from "../state/state.ts";
import { counter, encodeFamilies, expositionType, type Family, gauge, type Sample } from "./exposition.ts";

export interface MetricsSettings {
  readonly version: string;
  /** What other parts of the program know, asked at each reading. */
  readonly families: readonly (() => readonly Family[])[];
}

/** Paths that have a label of their own; whoever asks for others must not make up labels. */
const labelled: ReadonlySet<string> = new Set([...endpoints, "/v1/models", "/v1/messages", "/tunnel"]);

/** Models with labels of their own: the first that have answered. */
const mostModels = 100;

/** Upper bounds of the histogram, in seconds: from a cached prompt to a long one on a slow machine. */
const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300] as const;

type Labels = Readonly<Record<string, string>>;

/** What a server counts, in Prometheus' text format, whichever its role is. No label holds a caller. */
export class Metrics {
  readonly #settings: MetricsSettings;
  readonly #requests = new LabelledCounts();
  readonly #tokens = new LabelledCounts();
  readonly #spend = new LabelledCounts();
  readonly #refusals = new LabelledCounts();
  readonly #models = new Set<string>();
  /** Exchanges by the first bound that they keep; the last: by none. */
  readonly #firstBytes = bounds.map(() => 0).concat(0);
  #firstByteSum = 0;
  #bytes = 0;

  constructor(settings: MetricsSettings) {
    this.#settings = settings;
  }

  /** An exchange is over. */
  observe(call: Call, { status, end, firstByte, bytes }: Outcome): void {
    const path = labelled.has(call.path) ? call.path : "other";
    this.#requests.add(`${path} ${status} ${end}`, 1, () => ({ path, status: String(status), end }));
    this.#bytes += bytes;
    if (firstByte <= 0 || call.method !== "POST") return;
    const seconds = firstByte / 1000;
    const place = bounds.findIndex((bound) => seconds <= bound);
    const slot = place === -1 ? bounds.length : place;
    this.#firstBytes[slot] = (this.#firstBytes[slot] ?? 0) + 1;
    this.#firstByteSum += seconds;
  }

  /** What a call has used. */
  count({ model, promptTokens, cachedTokens, completionTokens, spend }: UsageRecord): void {
    if (promptTokens + completionTokens === 0) return;
    const name = this.#modelLabel(model);
    const add = (direction: string, tokens: number): void => {
      if (tokens > 0) this.#tokens.add(`${direction} ${name}`, tokens, () => ({ model: name, direction }));
    };
    add("prompt", promptTokens - cachedTokens);
    add("cached", cachedTokens);
    add("completion", completionTokens);
    if (spend > 0) this.#spend.add(name, spend / 1e6, () => ({ model: name }));
  }

  /** A call was refused before anybody was asked. */
  refused(code: ErrorCode): void {
    this.#refusals.add(code, 1, () => ({ code }));
  }

  /** `/metrics` */
  readonly handler: Handler = () => {
    const further = this.#settings.families.flatMap((families) => families());
    const body = encodeFamilies([...this.#ownFamilies(), ...further, ...processFamilies()]);
    return Promise.resolve({ status: 200, headers: { "content-type": expositionType }, body });
  };

  /** Callers choose the names: only models that have answered, and not too many of them, are told apart. */
  #modelLabel(model: string): string {
    if (this.#models.has(model)) return model;
    if (this.#models.size >= mostModels) return "other";
    this.#models.add(model);
    return model;
  }

  #ownFamilies(): Family[] {
    const { version } = this.#settings;
    const firstByte: Family = {
      name: "lair_first_byte_seconds",
      type: "histogram",
      help: "Time from a call to the head of its reply.",
      samples: this.#histogram(),
    };
    return [
      gauge("lair_build_info", "What runs here.", [{ labels: { version }, value: 1 }]),
      counter("lair_requests_total", "Exchanges that are over, by how they ended.", this.#requests.samples()),
      counter("lair_reply_bytes_total", "Bytes of replies' bodies sent to callers.", [{ value: this.#bytes }]),
      firstByte,
      ...withSamples(counter("lair_tokens_total", "Tokens, by model and direction.", this.#tokens.samples())),
      ...withSamples(counter("lair_spend_total", "Spend by model, in the prices' currency.", this.#spend.samples())),
      ...withSamples(
        counter("lair_refusals_total", "Calls refused before anybody was asked.", this.#refusals.samples()),
      ),
    ];
  }

  #histogram(): Sample[] {
    let count = 0;
    const buckets = this.#firstBytes.map((value, place): Sample => {
      count += value;
      const bound = bounds[place];
      return { suffix: "_bucket", labels: { le: bound === undefined ? "+Inf" : String(bound) }, value: count };
    });
    return [...buckets, { suffix: "_sum", value: this.#firstByteSum }, { suffix: "_count", value: count }];
  }
}

/** Sums by labels, which are made once. */
class LabelledCounts {
  readonly #counts = new Map<string, { readonly labels: Labels; value: number }>();

  add(key: string, value: number, labels: () => Labels): void {
    const known = this.#counts.get(key);
    if (known === undefined) this.#counts.set(key, { labels: labels(), value });
    else known.value += value;
  }

  samples(): Sample[] {
    return [...this.#counts.values()];
  }
}

/** Where nothing is counted, a family of that kind says nothing either. */
function withSamples(family: Family): Family[] {
  return family.samples.length === 0 ? [] : [family];
}

function processFamilies(): Family[] {
  const { user, system } = process.cpuUsage();
  return [
    counter("process_cpu_seconds_total", "Processor time of this process.", [{ value: (user + system) / 1e6 }]),
    gauge("process_resident_memory_bytes", "Memory of this process.", [{ value: process.memoryUsage.rss() }]),
    gauge("process_start_time_seconds", "When it was started, in seconds since 1970.", [
      { value: Math.round(Date.now() / 1000 - process.uptime()) },
    ]),
  ];
}
