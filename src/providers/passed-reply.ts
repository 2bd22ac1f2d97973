import type { Reply, Target } from "../core/call.ts";
import { AnswerStream, type AnswerCare } from "../wire/answer-stream.ts";
import { ModelRenamer } from "../wire/model-renamer.ts";
import { replyHeaders } from "../wire/onward-headers.ts";
import { toToldFailure } from "./told.ts";
import type { UpstreamReply } from "./upstream.ts";

/** Replies of a known length up to this many bytes come whole or not at all: one that breaks off is an error then, with a status. */
export const mostWhole = 1024 * 1024;

/** A server's reply to a call of `path` as the caller gets it: its bytes as they are, but for the model's name. */
export async function passReply(
  reply: UpstreamReply,
  path: string,
  { model, requested }: Target,
  heartbeat?: AnswerCare["heartbeat"],
): Promise<Reply> {
  const { status } = reply;
  const headers = replyHeaders(reply.headers);
  const renamer = model === requested ? undefined : new ModelRenamer(model, requested);
  const length = Number(reply.headers["content-length"] ?? Number.NaN);
  if (status >= 400 || length <= mostWhole) {
    const body = await reply.bytes(mostWhole);
    return { status, headers, body: renamer === undefined ? body : Buffer.concat([renamer.push(body), renamer.end()]) };
  }
  // A name of another length makes another length of the whole, and so do heartbeats.
  if (renamer === undefined && heartbeat === undefined && length > mostWhole)
    headers["content-length"] = String(length);
  const care = { renamer, toTold: (failure: Error) => toToldFailure(failure, path), ...(heartbeat && { heartbeat }) };
  return { status, headers, body: new AnswerStream(headers, reply.body, care) };
}
