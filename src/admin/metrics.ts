import type { AgentState } from "../core/agent-state.ts";
import type { Call, Handler } from "../core/call.ts";
import type { Outcome } from "../core/outcome.ts";
import { endpoints } from "../core/provider.ts";
import { encodeFamilies, expositionType, type Family, type Sample } from "./exposition.ts";

/** Paths that have a label of their own; whoever asks for others must not make up labels. */
const labelled: ReadonlySet<string> = new Set([...endpoints, "/v1/models", "/v1/messages", "/tunnel"]);

/** Upper bounds of the histogram, in seconds: from a cached prompt to a long one on a slow machine. */
const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300] as const;

/** What the relay counts, in Prometheus' text format. `observe` is told of every exchange when it is over. */
export class RelayMetrics {
  readonly #agents: () => readonly AgentState[];
  readonly #version: string;
  readonly #requests = new Map<string, { readonly labels: Readonly<Record<string, string>>; value: number }>();
  /** Exchanges by the first bound that they keep; the last: by none. */
  readonly #firstBytes = bounds.map(() => 0).concat(0);
  #firstByteSum = 0;
  #bytes = 0;

  constructor(agents: () => readonly AgentState[], version: string) {
    this.#agents = agents;
    this.#version = version;
  }

  observe(call: Call, { status, end, firstByte, bytes }: Outcome): void {
    const labels = { path: labelled.has(call.path) ? call.path : "other", status: String(status), end };
    const key = `${labels.path} ${labels.status} ${end}`;
    const known = this.#requests.get(key);
    if (known === undefined) this.#requests.set(key, { labels, value: 1 });
    else known.value++;
    this.#bytes += bytes;
    if (firstByte <= 0 || call.method !== "POST") return;
    const seconds = firstByte / 1000;
    const place = bounds.findIndex((bound) => seconds <= bound);
    const slot = place === -1 ? bounds.length : place;
    this.#firstBytes[slot] = (this.#firstBytes[slot] ?? 0) + 1;
    this.#firstByteSum += seconds;
  }

  /** `/metrics` */
  readonly handler: Handler = () => {
    const body = encodeFamilies([...this.#ownFamilies(), ...agentFamilies(this.#agents()), ...processFamilies()]);
    return Promise.resolve({ status: 200, headers: { "content-type": expositionType }, body });
  };

  #ownFamilies(): Family[] {
    return [
      gauge("lair_build_info", "What runs here.", [{ labels: { version: this.#version }, value: 1 }]),
      counter("lair_requests_total", "Exchanges that are over, by how they ended.", [...this.#requests.values()]),
      counter("lair_reply_bytes_total", "Bytes of replies' bodies sent to callers.", [{ value: this.#bytes }]),
      {
        name: "lair_first_byte_seconds",
        type: "histogram",
        help: "Time from a call to the head of its reply.",
        samples: this.#histogram(),
      },
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

function agentFamilies(agents: readonly AgentState[]): Family[] {
  const each = (value: (agent: AgentState) => number): Sample[] =>
    agents.map((agent) => ({ labels: { agent: agent.name }, value: value(agent) }));
  const roundTrips = agents.flatMap(({ name, roundTrip }): Sample[] =>
    roundTrip === null ? [] : [{ labels: { agent: name }, value: roundTrip / 1000 }],
  );
  return [
    gauge(
      "lair_agent_ready",
      "1 while the agent is connected and its runtime answers.",
      each(({ ready }) => Number(ready)),
    ),
    gauge(
      "lair_agent_connections",
      "Tunnel connections.",
      each(({ connections }) => connections.length),
    ),
    gauge(
      "lair_agent_capacity",
      "Calls at a time that it answers well, by its own word.",
      each(({ capacity }) => capacity),
    ),
    gauge(
      "lair_agent_models",
      "Models that it lists.",
      each(({ models }) => models.length),
    ),
    gauge(
      "lair_agent_in_flight",
      "Calls under way.",
      each(({ inFlight }) => inFlight),
    ),
    gauge("lair_agent_round_trip_seconds", "Round trip of the last ping.", roundTrips),
    counter(
      "lair_agent_calls_total",
      "Calls sent to it.",
      each(({ calls }) => calls),
    ),
    counter(
      "lair_agent_failures_total",
      "Calls that it lost or refused.",
      each(({ failures }) => failures),
    ),
    counter(
      "lair_agent_sent_bytes_total",
      "Bytes of bodies sent to it.",
      each(({ bytesIn }) => bytesIn),
    ),
    counter(
      "lair_agent_received_bytes_total",
      "Bytes of bodies that it sent.",
      each(({ bytesOut }) => bytesOut),
    ),
  ];
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

function counter(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, type: "counter", help, samples };
}

function gauge(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, type: "gauge", help, samples };
}
