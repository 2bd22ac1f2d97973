import type { AgentState } from "../../core/agent-state.ts";
import type { Handler } from "../../core/call.ts";
import type { JsonObject } from "../../core/json.ts";
import { chatModel, type Model } from "../../core/model.ts";
import { type Endpoint, endpoints, type Health, type Provider } from "../../core/provider.ts";
import type { Channel } from "./channel.ts";
import { ModelCards } from "./model-cards.ts";

/** One process of an agent: its channels lead to the same runtime. */
export interface Instance {
  readonly id: string;
  readonly agent: RemoteAgent;
  readonly channels: readonly Channel[];
  readonly capacity: number;
}

/** One agent by its name, with all its channels; stays when it is away. */
export class RemoteAgent implements Provider {
  readonly name: string;
  readonly kind = "agent";
  readonly speaks: ReadonlySet<Endpoint> = new Set(endpoints);
  readonly handle: Handler;
  calls = 0;
  failures = 0;
  bytesIn = 0;
  bytesOut = 0;
  /** When its last channel went, in milliseconds since 1970. */
  left: number | undefined;
  #channels: readonly Channel[] = [];
  #instances: readonly Instance[] | undefined;
  /** What it listed last: so that a model whose agent is away is not taken for one that does not exist. */
  #cards = new ModelCards([]);

  constructor(name: string, handle: Handler) {
    this.name = name;
    this.handle = handle;
  }

  get channels(): readonly Channel[] {
    return this.#channels;
  }

  /** By process; one channel alone is an instance, too. */
  get instances(): readonly Instance[] {
    this.#instances ??= toInstances(this, this.#channels);
    return this.#instances;
  }

  /** Whether a call can be sent to it now. */
  get open(): boolean {
    return this.#channels.some((channel) => channel.open);
  }

  /** Whether a call sent now would find a runtime that answers. */
  get ready(): boolean {
    return this.#channels.some((channel) => channel.ready && channel.open);
  }

  get inFlight(): number {
    return this.#channels.reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  /** Calls at a time that it answers well. */
  get capacity(): number {
    return this.instances.reduce((sum, { capacity }) => sum + capacity, 0);
  }

  add(channel: Channel): void {
    this.#channels = [...this.#channels, channel];
    this.#instances = undefined;
    this.left = undefined;
  }

  remove(channel: Channel): void {
    if (!this.#channels.includes(channel)) return;
    this.#channels = this.#channels.filter((other) => other !== channel);
    this.#instances = undefined;
    if (channel.models.list.length > 0) this.#cards = channel.models;
    if (this.#channels.length === 0) this.left = Date.now();
  }

  /** Whether its runtime lists the name, or did when it was last here. */
  lists(name: string): boolean {
    if (this.#channels.length === 0) return this.#cards.has(name);
    return this.#channels.some(({ models }) => models.has(name));
  }

  /** Cards of the models that it would answer for now, each id once. */
  cards(): JsonObject[] {
    const cards = new Map<string, JsonObject>();
    for (const channel of this.#channels) {
      if (!channel.ready || !channel.open) continue;
      for (const card of channel.models.list) if (!cards.has(card.id as string)) cards.set(card.id as string, card);
    }
    return [...cards.values()];
  }

  models(): Promise<Model[]> {
    const models = this.cards().map((card): Model => ({
      id: card.id as string,
      capabilities: chatModel,
      state: "available",
    }));
    return Promise.resolve(models);
  }

  health(): Promise<Health> {
    if (this.ready) return Promise.resolve({ ok: true });
    const detail = this.open ? "it is connected, but the runtime behind it does not answer" : "it is not connected";
    return Promise.resolve({ ok: false, detail });
  }

  close(): Promise<void> {
    for (const channel of this.#channels) channel.cut();
    return Promise.resolve();
  }

  state(): AgentState {
    const connections = this.#channels.map((channel) => channel.state());
    const roundTrips = connections.flatMap(({ roundTrip }) => roundTrip ?? []);
    const { name, ready, left = null, capacity, inFlight, calls, failures, bytesIn, bytesOut } = this;
    return {
      name,
      ready,
      since: connections.length === 0 ? null : Math.min(...connections.map(({ since }) => since)),
      left,
      capacity,
      inFlight,
      calls,
      failures,
      bytesIn,
      bytesOut,
      roundTrip: roundTrips.length === 0 ? null : Math.min(...roundTrips),
      models: this.cards().map(({ id }) => id as string),
      connections,
    };
  }
}

function toInstances(agent: RemoteAgent, channels: readonly Channel[]): Instance[] {
  const ids = [...new Set(channels.map(({ instance }) => instance))];
  return ids.map((id) => {
    const own = channels.filter(({ instance }) => instance === id);
    return { id, agent, channels: own, capacity: Math.max(...own.map(({ capacity }) => capacity)) };
  });
}
