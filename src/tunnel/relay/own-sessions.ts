import { type AgentSession, sessionId } from "../../core/agent-session.ts";
import { AgentConnection } from "./connection.ts";
import type { ModelCards } from "./model-cards.ts";
import type { RemoteAgent } from "./remote-agent.ts";

/** What was told of a session last. */
interface Told {
  readonly epoch: number;
  readonly models: ModelCards;
  readonly ready: boolean;
  readonly capacity: number;
}

/** What this relay tells others of the agents that are connected here. */
export class OwnSessions {
  readonly #relay: string;
  readonly #url: string;
  #told: ReadonlyMap<string, Told> = new Map();
  #epoch = 0;

  /** `relay`: this one's id; `url`: where it takes calls from others. */
  constructor(relay: string, url: string) {
    this.#relay = relay;
    this.#url = url;
  }

  /** A session for each process that takes calls and has answered lately. */
  list(agents: readonly RemoteAgent[]): AgentSession[] {
    const told = new Map<string, Told>();
    const sessions = agents.flatMap(({ name, instances }) =>
      instances.flatMap(({ id: instance, channels }) => {
        const id = sessionId({ relay: this.#relay, agent: name, instance });
        const here = channels.filter((one) => one instanceof AgentConnection && one.open && one.alive);
        const best = (here.find(({ ready }) => ready) ?? here[0]) as AgentConnection | undefined;
        if (best === undefined) return [];
        const now = this.#tell(id, best);
        told.set(id, now);
        return [toSession({ id, relay: this.#relay, url: this.#url }, best, { told: now, channels: here })];
      }),
    );
    this.#told = told;
    return sessions;
  }

  #tell(id: string, { models, ready, capacity }: AgentConnection): Told {
    const told = this.#told.get(id);
    const same = told?.models === models && told.ready === ready && told.capacity === capacity;
    return same ? told : { epoch: ++this.#epoch, models, ready, capacity };
  }
}

function toSession(
  place: Pick<AgentSession, "id" | "relay" | "url">,
  { agent, instance, arrival, since }: AgentConnection,
  { told, channels }: { readonly told: Told; readonly channels: readonly { readonly inFlight: number }[] },
): AgentSession {
  return {
    ...place,
    epoch: told.epoch,
    agent,
    instance,
    keyId: arrival.identity.keyId ?? null,
    version: arrival.version,
    address: arrival.address,
    since,
    ready: told.ready,
    capacity: told.capacity,
    inFlight: channels.reduce((sum, { inFlight }) => sum + inFlight, 0),
    models: told.models.list,
  };
}
