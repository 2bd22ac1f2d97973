import { agentQuestion } from "../core/agent-state.ts";
import type { Call } from "../core/call.ts";
import type { Log } from "../core/log.ts";
import { logText } from "../core/log-text.ts";
import type { Outcome } from "../core/outcome.ts";

/**
 * One line for every exchange, when it is over; on the level `debug` where it is a program that asks whether all is well.
 * The query is left out, for people put keys there.
 */
export function accessLog(log: Log): (call: Call, outcome: Outcome) => void {
  const info: Log["info"] = (fields, message) => log.info(fields, message);
  const debug: Log["debug"] = (fields, message) => log.debug(fields, message);
  const warn: Log["warn"] = (fields, message) => log.warn(fields, message);
  return (call, outcome) => {
    const { status, end, firstByte, duration, bytes, problem } = outcome;
    // A failure after the head has no status to show it.
    const write = problem !== undefined ? warn : isRoutine(call, status) ? debug : info;
    write(
      {
        id: call.id,
        method: call.method,
        path: isPlain(call.path) ? call.path : logText(call.path),
        status,
        model: call.target?.requested,
        provider: call.target?.provider.name,
        // Nobody was asked for one.
        key: call.principal?.id === "" ? undefined : call.principal?.id,
        firstByte: Math.round(firstByte * 10) / 10,
        duration: Math.round(duration * 10) / 10,
        bytes,
        end,
        problem,
      },
      "request",
    );
  };
}

/** Too short for a key, and without the sign behind the word for one, as nearly all are. */
function isPlain(path: string): boolean {
  return path.length <= 40 && !path.includes("=") && !path.includes("%");
}

function isRoutine({ id, method, path }: Call, status: number): boolean {
  if (method !== "GET" || status !== 200) return false;
  return path === "/health" || path === "/ready" || (path === "/v1/models" && id === agentQuestion);
}
