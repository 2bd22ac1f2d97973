import { type AgentMessage, encodeMessage, type RelayMessage, relayMessages } from "../control.ts";
import { errorCodes } from "../http2/errors.ts";
import type { Http2Stream, StreamHandler, StreamReset } from "../http2/stream.ts";

export interface ControlEvents {
  message(message: RelayMessage): void;
  /** The relay has ended it, or said what makes no sense. */
  over(problem: string): void;
}

/** The agent's end of the control stream. */
export class ControlStream implements StreamHandler {
  readonly #stream: Http2Stream;
  readonly #events: ControlEvents;
  readonly #decoder = relayMessages();
  /** What is to be said when there is room again. */
  #held: AgentMessage[] = [];
  #full = false;
  #over = false;

  constructor(stream: Http2Stream, events: ControlEvents) {
    this.#stream = stream;
    this.#events = events;
    stream.respond({ ":status": "200", "content-type": "application/x-ndjson" }, false);
  }

  say(message: AgentMessage): void {
    if (this.#over) return;
    if (!this.#full) this.#full = !this.#stream.write(encodeMessage(message));
    else this.#hold(message);
  }

  /** Has no more to say; the relay's end of it may go on. */
  end(): void {
    this.#over = true;
    this.#stream.end();
  }

  reset(): void {
    this.#over = true;
    this.#stream.reset(errorCodes.noError);
  }

  onData(chunk: Buffer): void {
    let messages: RelayMessage[];
    try {
      messages = this.#decoder.push(chunk);
    } catch (error) {
      return this.#end((error as Error).message);
    }
    for (const message of messages) this.#events.message(message);
  }

  onEnd(): void {
    this.#end("the relay ended the control stream");
  }

  onReset(reason: StreamReset): void {
    this.#end(reason.message);
  }

  onDrain(): void {
    this.#full = false;
    const held = this.#held;
    this.#held = [];
    for (const message of held) this.say(message);
  }

  #end(problem: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#events.over(problem);
  }

  /** Of several loads that wait, one says all: a relay that does not read must not make them pile up. */
  #hold(message: AgentMessage): void {
    const last = this.#held.at(-1);
    if (message.type === "load" && last?.type === "load") this.#held[this.#held.length - 1] = { ...last, ...message };
    else this.#held.push(message);
  }
}
