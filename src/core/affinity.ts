import { hash } from "node:crypto";
import type { Headers } from "./call.ts";

/** Headers by which clients (opencode, Codex, Claude Code …) tell one conversation from another. */
const sessionHeaders = [
  "x-session-id",
  "x-session-affinity",
  "session_id",
  "session-id",
  "x-claude-code-session-id",
] as const;

/** The session that a request says it belongs to: who answered it before has the beginning of the prompt in its cache. */
export function sessionOf(headers: Headers): string | undefined {
  for (const name of sessionHeaders) {
    const value = headers[name];
    if (value !== undefined && value !== "") return value;
  }
  return undefined;
}

/** Weighted rendezvous hashing: of several names the one with the highest score; whoever comes or goes moves only the sessions that are or were its own. */
export function affinity(session: string, name: string, weight: number): number {
  const digest = hash("sha256", `${name}\0${session}`, "buffer");
  const uniform = (digest.readUInt32BE(0) + 1) / 4_294_967_297;
  return weight / -Math.log(uniform);
}
