import type { AgentState } from "../core/agent-state.ts";
import { type Handler, jsonReply } from "../core/call.ts";
import type { Health } from "../core/provider.ts";

/** `/admin/agents`: every agent with its connections, as `AgentState` has them. */
export function agentList(agents: () => readonly AgentState[]): Handler {
  return () =>
    Promise.resolve({
      status: 200,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ agents: agents() }),
    });
}

/** The relay's `/ready`: 200 when an agent is connected whose runtime answers. */
export function relayReady(health: () => Promise<Health>): Handler {
  return async () => {
    const { ok, detail } = await health();
    return jsonReply(ok ? 200 : 503, { status: ok ? "ready" : (detail ?? "not ready") });
  };
}
