import type { Call } from "../core/call.ts";
import type { ChatEvent, ChatRequest } from "../core/chat.ts";
import type { Log } from "../core/log.ts";
import { mendHistory } from "./history.ts";
import type { Source } from "./source.ts";
import { holdToolCalls, type WrongCall } from "./tool-calls-held.ts";

/**
 * The source with tool calling that holds: histories are mended before it is asked, and the calls in its answers are
 * checked, repaired, or asked for once more, unless they are sound already.
 */
export function withSoundTools(source: Source, log?: Log): Source {
  return {
    ...source,
    chat: (request, call, signal) => chat(source, { request: mendHistory(request), call, signal }, log),
    countTokens: (request, call) => source.countTokens(mendHistory(request), call),
  };
}

interface Asked {
  readonly request: ChatRequest;
  readonly call: Call;
  readonly signal: AbortSignal;
}

function chat(source: Source, { request, call, signal }: Asked, log: Log | undefined): AsyncIterable<ChatEvent> {
  const events = source.chat(request, call, signal);
  if (source.soundCalls === true) return events;
  return holdToolCalls(events, {
    request,
    again: (asked) => source.chat(asked, call, signal),
    onWrong: logWrong(log, { id: call.id, provider: source.name, model: request.model }),
  });
}

/** Says what became of a call that was wrong; never its arguments, which are the caller's. */
export function logWrong(log: Log | undefined, of: Readonly<Record<string, string>>): (wrong: WrongCall) => void {
  return ({ tool, problem, asked }) =>
    log?.warn(
      { ...of, tool, problem },
      asked ? "a tool call was wrong: the model was asked again" : "a tool call is wrong",
    );
}
