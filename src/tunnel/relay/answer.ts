import { isStream } from "../../core/bytes.ts";
import type { Headers, Reply } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import { AnswerStream, type ToldFailure } from "../../wire/answer-stream.ts";
import { ModelRenamer } from "../../wire/model-renamer.ts";
import { CarryFailure } from "../calls/carry.ts";
import type { Channel } from "./channel.ts";
import type { RemoteAgent } from "./remote-agent.ts";

/** Names the agent that has answered, whatever its runtime says under this name. */
const agentHeader = "x-lair-agent";

/** What a reply must be for its caller. */
export interface Answering {
  readonly agent: RemoteAgent;
  readonly channel: Channel;
  /** Name of the model there, and as the caller wrote it. */
  readonly model: string;
  readonly requested: string;
  /** Whole events that tell of a failure. */
  readonly errorEvents: (error: ApiError) => string;
}

/** The agent's reply as the caller gets it: with the agent's name, every model named as it was asked for, every byte counted. */
export function toAnswer(reply: Reply, answering: Answering): Reply {
  const { model, requested, agent, channel } = answering;
  const renamer = model === requested ? undefined : new ModelRenamer(model, requested);
  const { body } = reply;
  const headers: Headers = { ...reply.headers, [agentHeader]: agent.name };
  if (renamer !== undefined) delete headers["content-length"];
  if (isStream(body)) {
    const care = {
      renamer,
      onBytes: (count: number) => void (agent.bytesOut += count),
      onOver: () => channel.release(),
      toTold: (failure: Error) => told(failure, answering),
    };
    return { ...reply, headers, body: new AnswerStream(reply.headers, body, care) };
  }
  channel.release();
  if (body === null) return { ...reply, headers };
  agent.bytesOut += body.length;
  if (renamer === undefined) return { ...reply, headers };
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  return { ...reply, headers, body: Buffer.concat([renamer.push(bytes), renamer.end()]) };
}

/** The error of a call that its agent left in the middle. */
export function lost(agent: RemoteAgent, cause: Error): ApiError {
  return new ApiError(
    "agent_lost",
    `the agent '${agent.name}' was lost in the middle of the call (${cause.message}); ask again, for it may have been at work already`,
    { provider: agent.name, retryAfter: 1, cause },
  );
}

function told(failure: Error, { agent, errorEvents }: Answering): ToldFailure | undefined {
  if (!(failure instanceof CarryFailure)) return undefined;
  agent.failures++;
  const error = lost(agent, failure);
  return { error, events: errorEvents(error) };
}
