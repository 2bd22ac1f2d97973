import type { ByteSink, ByteStream } from "../core/bytes.ts";
import { ApiError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { encodeBrokenStream } from "../dialects/error-events.ts";
import { encodeEvent } from "./event-blocks.ts";

/** Bytes that all buffers of a process may hold together. */
export interface Budget {
  left: number;
}

/** Bytes of events that one buffer holds: as much as can be kept. */
const mostBuffered = 8 * 1024 * 1024;

/** The events of a response that is being made, for readers who come and go. */
export class EventBuffer {
  readonly #budget: Budget;
  readonly #events: Buffer[] = [];
  readonly #readers = new Set<EventReader>();
  /** The number of the first event that is still there. */
  #first = 0;
  #bytes = 0;
  #over = false;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** The next event; it gets its number. The oldest are given up where there is no room. */
  push(event: JsonObject): void {
    const bytes = encodeEvent({ ...event, sequence_number: this.#first + this.#events.length });
    this.#events.push(bytes);
    this.#hold(bytes.length);
    while (this.#events.length > 1 && (this.#bytes > mostBuffered || this.#budget.left < 0)) {
      this.#hold(-(this.#events.shift() as Buffer).length);
      this.#first++;
    }
    for (const reader of this.#readers) reader.look();
  }

  /** A sign of life for those who have read all there is. */
  comment(text: string): void {
    for (const reader of this.#readers) reader.say(text);
  }

  /** No further events come, and the buffer holds no room any more once they are read. */
  end(): void {
    this.#over = true;
    this.#budget.left += this.#bytes;
    this.#bytes = 0;
    for (const reader of this.#readers) reader.look();
  }

  /** All events; undefined when some were given up. */
  text(): string | undefined {
    return this.#first > 0 ? undefined : Buffer.concat(this.#events).toString();
  }

  /** The events behind the one of that number, those to come too. Throws `invalid_value` when they are not there any more. */
  read(after = -1): ByteStream {
    if (after + 1 < this.#first) throw givenUp(after);
    const reader: EventReader = new EventReader(after + 1, {
      at: (sequence) => this.#events[sequence - this.#first],
      isLost: (sequence) => sequence < this.#first,
      isOver: () => this.#over,
      left: () => this.#readers.delete(reader),
    });
    this.#readers.add(reader);
    return reader;
  }

  #hold(bytes: number): void {
    this.#bytes += bytes;
    this.#budget.left -= bytes;
  }
}

function givenUp(after: number): ApiError {
  return new ApiError(
    "invalid_value",
    `starting_after is ${after}, and events behind it were given up: there were too many; fetch the response without stream`,
    { param: "starting_after" },
  );
}

/** What a reader sees of its buffer. */
interface Source {
  at(sequence: number): Buffer | undefined;
  isLost(sequence: number): boolean;
  isOver(): boolean;
  left(): void;
}

class EventReader implements ByteStream {
  #next: number;
  readonly #source: Source;
  #sink: ByteSink | undefined;
  #blocked = false;

  constructor(next: number, source: Source) {
    this.#next = next;
    this.#source = source;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    // The head goes out with the first byte.
    if (this.#source.at(this.#next) === undefined) this.say(": waiting\n\n");
    this.look();
  }

  resume(): void {
    this.#blocked = false;
    this.look();
  }

  cancel(): void {
    this.#sink = undefined;
    this.#source.left();
  }

  say(text: string): void {
    if (this.#sink !== undefined && !this.#blocked) this.#blocked = !this.#sink.write(text);
  }

  /** Reads on as far as there is something, and room for it. */
  look(): void {
    while (this.#sink !== undefined && !this.#blocked) {
      if (this.#source.isLost(this.#next)) return this.#leave(givenUp(this.#next - 1));
      const event = this.#source.at(this.#next);
      if (event === undefined) return this.#source.isOver() ? this.#leave() : undefined;
      this.#next++;
      this.#blocked = !this.#sink.write(event);
    }
  }

  #leave(problem?: ApiError): void {
    const sink = this.#sink;
    this.cancel();
    if (problem !== undefined) sink?.write(encodeBrokenStream("/v1/responses", problem));
    sink?.end(problem);
  }
}
