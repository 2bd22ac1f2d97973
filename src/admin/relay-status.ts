import type { AgentState } from "../core/agent-state.ts";
import { type Handler, jsonReply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
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

/** The relay's own answers by path, e.g. `/health`; every other call goes on. Throws `method_not_allowed`. */
export function ownRoutes(own: Readonly<Record<string, Handler>>, next: Handler): Handler {
  return (call) => {
    const handler = Object.hasOwn(own, call.path) ? own[call.path] : undefined;
    if (handler === undefined) return next(call);
    if (call.method === "GET" || call.method === "HEAD") return handler(call);
    throw new ApiError("method_not_allowed", `${call.path} takes GET, not ${call.method}`, {
      headers: { allow: "GET" },
    });
  };
}
