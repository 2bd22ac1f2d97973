import type { ResponseState, ResponseWriter } from "./response.ts";

/** Numbers the events of a reply, and names each in a line of its own. */
export class EventWriter {
  readonly #response: ResponseWriter;
  #sequence = 0;
  #running: string | undefined;

  constructor(response: ResponseWriter) {
    this.#response = response;
  }

  /** One event; `members` is the JSON text of its own members. By hand, for this is done for every token. */
  write(type: string, members: string): string {
    return `event: ${type}\ndata: {"type":"${type}",${members},"sequence_number":${this.#sequence++}}\n\n`;
  }

  opening(): string {
    return this.write("response.created", this.#runningResponse()) + this.running();
  }

  /** A sign of life. Codex counts events, not bytes, so a comment is none; and the openai SDK fails on an event `ping`. */
  running(): string {
    return this.write("response.in_progress", this.#runningResponse());
  }

  closing(state: ResponseState): string {
    return this.write(`response.${state.status}`, `"response":${this.#response(state)}`);
  }

  #runningResponse(): string {
    this.#running ??= `"response":${this.#response({ status: "in_progress", output: [] })}`;
    return this.#running;
  }
}
