import type { Handler } from "../core/call.ts";
import type { UpstreamState } from "../core/upstream-state.ts";

/** `/admin/upstreams`: every upstream, as `UpstreamState` has it. */
export function upstreamList(upstreams: () => readonly UpstreamState[]): Handler {
  return () =>
    Promise.resolve({
      status: 200,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ upstreams: upstreams() }),
    });
}
