import type { AgentSession } from "../../core/agent-session.ts";
import type { Log } from "../../core/log.ts";
import type { Directory } from "./directory.ts";
import { FarChannel } from "./hop.ts";
import { Neighbour, type NeighbourClient } from "./neighbour.ts";
import { OwnSessions } from "./own-sessions.ts";
import type { RemoteAgent } from "./remote-agent.ts";

/** How a relay shares its agents with others. */
export interface SharingSettings {
  readonly directory: Directory;
  /** Where this relay takes calls from the others, e.g. `http://10.0.0.11:8091`. */
  readonly url: string;
  /** What all of them know, and nobody else. */
  readonly secret: Buffer;
  /** Connections to another relay. */
  readonly connect: (url: string) => NeighbourClient;
}

export interface ElsewhereEvents {
  readonly onCome: (channel: FarChannel) => void;
  readonly onGo: (channel: FarChannel) => void;
  /** A relay with this agent can be reached again, or not any more. */
  readonly onTurn: (channel: FarChannel) => void;
}

/** The agents that are connected to other relays, as far as the directory tells. */
export class Elsewhere {
  readonly #settings: SharingSettings;
  readonly #log: Log;
  readonly #events: ElsewhereEvents;
  readonly #channels = new Map<string, FarChannel>();
  readonly #neighbours = new Map<string, Neighbour>();

  constructor(settings: SharingSettings, log: Log, events: ElsewhereEvents) {
    this.#settings = settings;
    this.#log = log;
    this.#events = events;
  }

  /** Begins to share: `relay` is this one's id, `agents` gives those that are here. */
  open(relay: string, agents: () => readonly RemoteAgent[]): void {
    const own = new OwnSessions(relay, this.#settings.url);
    this.#settings.directory.open(
      relay,
      () => own.list(agents()),
      () => this.#sync(),
    );
  }

  /** What is here has changed. */
  touch(): void {
    this.#settings.directory.touch();
  }

  async close(): Promise<void> {
    await this.#settings.directory.close();
    for (const channel of this.#channels.values()) channel.cut();
    for (const neighbour of this.#neighbours.values()) neighbour.close();
  }

  #sync(): void {
    const { sessions } = this.#settings.directory;
    for (const [id, channel] of this.#channels) if (!sessions.has(id)) this.#forget(id, channel);
    for (const session of sessions.values()) {
      const known = this.#channels.get(session.id);
      if (known === undefined) this.#add(session);
      else this.#renew(known, session);
    }
    const relays = new Set(Array.from(sessions.values(), ({ relay }) => relay));
    for (const [relay, neighbour] of this.#neighbours) {
      if (relays.has(relay)) continue;
      this.#neighbours.delete(relay);
      neighbour.retire();
    }
  }

  #add(session: AgentSession): void {
    const channel = new FarChannel(session, this.#neighbourOf(session), (astray) => this.#seek(astray));
    this.#channels.set(session.id, channel);
    this.#events.onCome(channel);
  }

  #renew(channel: FarChannel, session: AgentSession): void {
    const before = channel.open;
    channel.session = session;
    if (channel.open !== before) this.#events.onTurn(channel);
  }

  #forget(id: string, channel: FarChannel): void {
    this.#channels.delete(id);
    channel.cut();
    this.#events.onGo(channel);
  }

  #neighbourOf({ relay, url }: AgentSession): Neighbour {
    const known = this.#neighbours.get(relay);
    if (known !== undefined) return known;
    const { secret, connect } = this.#settings;
    const neighbour = new Neighbour({
      relay,
      url,
      secret,
      client: connect(url),
      log: this.#log,
      onTurn: (turned, gone) => this.#turn(turned, gone),
    });
    this.#neighbours.set(relay, neighbour);
    return neighbour;
  }

  #turn(neighbour: Neighbour, gone: boolean): void {
    const own = [...this.#channels.values()].filter((channel) => channel.neighbour === neighbour);
    for (const channel of own) this.#events.onTurn(channel);
    if (gone) this.#settings.directory.drop(own.map(({ session }) => session));
  }

  /** An agent is not where it was: finds out where it is. */
  async #seek(astray: AgentSession): Promise<void> {
    this.#settings.directory.drop([astray]);
    await this.#settings.directory.reread();
  }
}
