import type { AgentState } from "../core/agent-state.ts";
import { type Call, type Handler, jsonReply } from "../core/call.ts";
import type { Health } from "../core/provider.ts";

/** How an exchange ended, as the server tells it. */
interface Outcome {
  readonly status: number;
  readonly end: string;
  readonly firstByte: number;
  readonly bytes: number;
}

/** The relay's counters in Prometheus' text format. `observe` is told of every exchange when it is over. */
export class RelayMetrics {
  readonly #agents: () => readonly AgentState[];

  constructor(agents: () => readonly AgentState[], version: string) {
    this.#agents = agents;
    void version;
  }

  observe(call: Call, outcome: Outcome): void {
    void call;
    void outcome;
    void this.#agents;
  }

  /** `/metrics` */
  readonly handler: Handler = () => Promise.resolve({ status: 200, headers: {}, body: "" });
}

/** `/admin/agents`: every agent with its connections. */
export function agentList(agents: () => readonly AgentState[]): Handler {
  return () => Promise.resolve(jsonReply(200, { agents: JSON.parse(JSON.stringify(agents())) }));
}

/** The relay's `/ready`: 200 when an agent is connected whose runtime answers. */
export function relayReady(health: () => Promise<Health>): Handler {
  return async () => {
    const { ok, detail } = await health();
    return jsonReply(ok ? 200 : 503, {
      status: ok ? "ready" : "not ready",
      ...(detail === undefined ? {} : { detail }),
    });
  };
}

/** The relay's own answers by path, e.g. `/health`; every other call goes on. */
export function ownRoutes(own: Readonly<Record<string, Handler>>, next: Handler): Handler {
  void own;
  return next;
}
